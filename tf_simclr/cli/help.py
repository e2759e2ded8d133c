"""Formats --help and docs/settings.md: every setting and its rules, from tf_simclr/config.

`python -m tf_simclr.cli.help > docs/settings.md` rewrites that page.
"""

import argparse
import re
import shlex
import shutil
import textwrap
from collections.abc import Sequence

from tf_simclr.cli import gin_files
from tf_simclr.cli.summary import PROGRAM
from tf_simclr.config import SECTIONS, Setting, rules_of, settings
from tf_simclr.config.setting import settings_of

WRITE_SETTINGS_PAGE = "python -m tf_simclr.cli.help > docs/settings.md"
EXAMPLES = """\
{program} --mode=train_then_eval
{program} --gin_file=gin/cifar10_resnet18.gin --model_dir=/tmp/simclr
{program} --gin_file=gin/cifar10_linear_eval.gin --mode=train_then_eval \\
    --checkpoint=/tmp/simclr --model_dir=/tmp/simclr_ft"""
_SUMMARY = (
    "SimCLR: pretrain an image encoder without labels, fine-tune it and evaluate it. Without "
    "flags, a small demonstration runs."
)
_PRECEDENCE = (
    "A switch is written --name or --noname; --name= unsets an optional setting. --gin_file "
    "overrides the defaults, --gin_bindings override --gin_file, and flags override both. Without "
    "--gin_file, a --model_dir that contains a run starts from the settings of that run "
    "(config.json)."
)


def add_settings(parser: argparse.ArgumentParser, names: Sequence[str], *, default: str) -> None:
    """Adds flags of run.py to the parser of a tool. Their values are texts, None if not given.

    As in run.py, a switch is written --name, --noname or --name=False.

    Args:
      parser: the parser.
      names: names of settings.
      default: what applies if a flag is not given; {} stands for the setting's own default.
    """
    for name in names:
        spec = settings()[name]
        text = f"{spec.help} (default: {default.format(spec.default)})"
        text = text.replace("%", "%%")
        if bool in spec.types:
            parser.add_argument(
                f"--{name}", nargs="?", const="True", metavar=type_name(spec), help=text
            )
            parser.add_argument(
                f"--no{name}",
                dest=name,
                action="store_const",
                const="False",
                help=argparse.SUPPRESS,
            )
        else:
            parser.add_argument(f"--{name}", metavar=type_name(spec), help=text)


def with_values(argv: Sequence[str]) -> list[str]:
    """Writes a switch --name as --name=True, because argparse would take the next word for it."""
    switches = {f"--{name}" for name, spec in settings().items() if bool in spec.types}
    return [f"{word}=True" if word in switches else word for word in argv]


def type_name(spec: Setting) -> str:
    """Returns the text after the equals sign in --help: FLOAT, train|eval, True|False."""
    if spec.choices and not _has_many_choices(spec):
        return "|".join(map(str, spec.choices))
    return "True|False" if bool in spec.types else spec.types[0].__name__.upper()


def _default(spec: Setting) -> str:
    if spec.default is None:
        return "unset"
    return f"{spec.default:g}" if isinstance(spec.default, float) else str(spec.default)


def _has_many_choices(spec: Setting) -> bool:
    """Returns whether the choices do not fit into the line of the flag."""
    return len("|".join(map(str, spec.choices))) > 60


def _sentences(spec: Setting) -> str:
    """Returns the help text of a setting and its rules."""
    return " ".join([spec.help, *(rule.sentence() for rule in rules_of(spec.name))])


def _choices(spec: Setting) -> str:
    """Returns the sentence that lists choices that do not fit into the line of the flag."""
    return f" One of {', '.join(map(str, spec.choices))}." if _has_many_choices(spec) else ""


def format_help(width: int | None = None, *, program: Sequence[str] = PROGRAM) -> str:
    """Formats the text of --help: every flag under its section.

    Args:
      width: line width in columns; None for the width of the terminal.
      program: the words that start the program (`summary.program_words`).
    """
    columns = width or min(shutil.get_terminal_size().columns, 100)

    def paragraph(text: str, indent: int = 0) -> str:
        margin = " " * indent
        return textwrap.fill(
            text,
            columns,
            initial_indent=margin,
            subsequent_indent=margin,
            break_on_hyphens=False,
        )

    command = shlex.join(program)
    lines = [
        f"Usage: {command} [--name=value ...]",
        f"       {command} show | runs | presets | --version",
        "",
        paragraph(_SUMMARY),
        "",
        "Examples:",
        textwrap.indent(EXAMPLES.format(program=command), "  "),
        "",
        paragraph(_PRECEDENCE),
    ]
    for section in SECTIONS:
        lines += ["", paragraph(f"{section.__name__}: {section.__doc__}")]
        for spec in settings_of(section).values():
            lines += [
                f"  --{spec.name}={type_name(spec)} (default {_default(spec)})",
                paragraph(_sentences(spec) + _choices(spec), 6),
            ]
    lines += ["", "Gin: files of settings."]
    for name, text in gin_files.FLAGS.items():
        lines += [f"  --{name}=STR", paragraph(text, 6)]
    lines += [
        f"  --{gin_files.ALLOW_IMPORTS}=True|False (default False)",
        paragraph(gin_files.ALLOW_IMPORTS_HELP, 6),
    ]
    lines += ["", "Presets:"]
    for name, title in gin_files.preset_titles().items():
        lines += [f"  gin/{name}.gin", paragraph(title, 6)]
    return "\n".join(lines)


def settings_page() -> str:
    """Returns the text of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Each setting is a command-line flag (`--temperature=0.5`), a parameter in gin files",
        "(`Loss.temperature = 0.5`) and an argument of `Config().replace(temperature=0.5)`.",
        "",
        f"This page is generated: `{WRITE_SETTINGS_PAGE}`.",
    ]
    for section in SECTIONS:
        lines += ["", f"## {section.__name__}", "", (section.__doc__ or "").strip(), ""]
        lines += ["| setting | values | default | what it does |", "|---|---|---|---|"]
        for spec in settings_of(section).values():
            cells = [spec.name, _values(spec), _default(spec), _sentences(spec)]
            lines.append(f"| {' | '.join(map(_escape, cells))} |")
    return "\n".join(lines) + "\n"


def _values(spec: Setting) -> str:
    """Returns a table cell: the choices of a setting, or its type and its range."""
    if spec.choices:
        return ", ".join(map(str, spec.choices))
    type_text = " or ".join(t.__name__ for t in spec.types)
    if not spec.constraint:
        return type_text
    constraint, _, _reason = spec.constraint.text.partition(" (")
    return f"{type_text}, {constraint}"


def _escape(cell: str) -> str:
    """Escapes characters that Markdown would interpret in a table."""
    return re.sub(r"([|*\\<])", r"\\\1", cell)


if __name__ == "__main__":
    print(settings_page(), end="")
