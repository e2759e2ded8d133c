"""Command line and gin files -> one Config.

Precedence: field default < --gin_file (of several, the later) < --gin_bindings < a flag given on
the command line. Where --gin_file is not given, the base is what the run in model_dir has saved
(config.json, or config.gin of an earlier version); else, for modes that only look at --checkpoint,
what is saved beside that; else, if only Runtime flags are given, gin/demo.gin.

Each call of `parse` fills flags of its own, and leaves gin as empty as gin can be, so that nothing
outlasts it. absl's flags (--verbosity and the like) go to absl's global FLAGS, for app.run.
"""

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import sys
import textwrap

from absl import flags

from tf_simclr import config as config_lib
from tf_simclr import paths
from tf_simclr.cli import gin_files
from tf_simclr.config import Config, Setting, saved_settings, settings
from tf_simclr.errors import ConfigError, did_you_mean, one_line

PRESETS = gin_files.PRESETS
DEMO = PRESETS / "demo.gin"

_GIN_FLAGS = {
    "gin_file": "File of settings: a path or the name of a preset (below). Repeatable; the later "
    "wins. A file called config.gin or config.json is taken for what a run has saved, "
    "and read as plain values. Other gin files may use includes and macros.",
    "gin_bindings": "One setting, as a gin file has it: --gin_bindings='Loss.temperature = 0.5'. "
    "Repeatable; the later wins.",
}
_ALLOW_GIN_IMPORTS = "allow_gin_imports"
_ALLOW_GIN_IMPORTS_HELP = (
    "Let --gin_file and --gin_bindings import Python modules and refer to what these register "
    "(@name), which runs code. What a run has saved never may."
)
# Modes that only look at a checkpoint. They may start from what its run has saved, but not from
# these: they tell where that run itself began, and where its data lay.
_OF_ITS_TRAINING = {
    "probe": ("checkpoint", "from_scratch", "label_fraction"),
    "predict": ("checkpoint", "from_scratch", "data_dir", "dataset", "unlabelled"),
}
_HELP_FLAGS = ("--help", "-help", "-h", "-?", "--helpfull", "--helpshort")
IN_A_CHECKOUT = "python run.py"
_EXAMPLES = """\
{program} --mode=train_then_eval
{program} --gin_file=gin/cifar10_resnet18.gin --model_dir=/tmp/simclr
{program} --gin_file=gin/cifar10_linear_eval.gin --mode=train_then_eval \\
    --checkpoint=/tmp/simclr --model_dir=/tmp/simclr_ft"""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """What a command line amounts to.

    Attributes:
        config: The settings, checked.
        is_demo: Whether gin/demo.gin was chosen because nothing else was asked for.
        base_files: Paths of the gin files it starts from, in order.
        explicit: Names of the settings given as flags.
    """

    config: Config
    is_demo: bool
    base_files: tuple[str, ...]
    explicit: frozenset[str]


# --- Flags.


class _SettingParser(flags.ArgumentParser):
    """Reads one setting from a string, and checks it."""

    def __init__(self, spec: Setting):
        self.spec = spec
        self.syntactic_help = ""

    def flag_type(self) -> str:
        return type_name(self.spec)

    def parse(self, argument):
        if not isinstance(argument, str):  # absl parses defaults too.
            return argument
        value = self._convert(argument)
        wrong = self.spec.complaint(value)
        if wrong:
            raise ConfigError(f"{self.spec.name} {wrong}")
        return value

    def _convert(self, text: str):
        spec = self.spec
        if spec.optional and text in ("", "None"):
            return None
        by_type = {bool: flags.BooleanParser, int: flags.IntegerParser, float: flags.FloatParser}
        for kind in spec.types:
            if kind in by_type:
                with contextlib.suppress(ValueError, TypeError):
                    return by_type[kind]().parse(text)
        # A string, or what its complaint then names.
        return paths.expand_home(text) if spec.is_path else text


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines a flag for every setting, and those of gin."""
    for name, spec in settings().items():
        flags.DEFINE_flag(
            flags.Flag(
                _SettingParser(spec),
                flags.ArgumentSerializer(),
                name,
                spec.default,
                spec.help,
                boolean=bool in spec.types,
            ),
            flag_values=flag_values,
            module_name=__name__,
        )
    for name, text in _GIN_FLAGS.items():
        flags.DEFINE_multi_string(name, [], text, flag_values=flag_values)
    flags.DEFINE_bool(_ALLOW_GIN_IMPORTS, False, _ALLOW_GIN_IMPORTS_HELP, flag_values=flag_values)


def parse(argv: list[str]) -> Parsed:
    """Resolves a command line; argv[0], the program's name, is skipped.

    Raises:
        ConfigError: in one line, what is wrong and the way out.
        SystemExit: with status 0, after --help is printed.
    """
    if any(argument in _HELP_FLAGS for argument in argv[1:]):
        print(format_help(program=program_name(argv[0])))
        raise SystemExit(0)
    given = _parse_flags(argv)
    explicit = {name: given[name].value for name in settings() if given[name].present}
    base_files, is_demo = _base_files(given, explicit)
    values = gin_files.read_gin(
        base_files, given.gin_bindings, allow_imports=given[_ALLOW_GIN_IMPORTS].value
    )
    config = Config().replace(**values)
    for name in _OF_ITS_TRAINING.get(given["mode"].value, ()):
        if not _is_bound(name, given):
            config = config.replace(**{name: settings()[name].default})
    config = config.replace(**explicit)
    _check_saved_dataset(config, base_files, given)
    config_lib.check(config)
    return Parsed(config, is_demo, tuple(base_files), frozenset(explicit))


def _is_bound(name: str, given: flags.FlagValues) -> bool:
    """Returns whether --gin_bindings give a setting."""
    return any(re.match(rf"\s*\w+\.{name}\s*=", text) for text in given.gin_bindings)


def _check_saved_dataset(config: Config, base_files: list[str], given: flags.FlagValues):
    """Refuses a data set of code from elsewhere that only the settings of a run name."""
    named = given["dataset"].present or _is_bound("dataset", given)
    saved = any(map(saved_settings.is_saved_settings, base_files))
    if saved and not named and re.match(r"[\w-]+:(?![\d*])", config.data.dataset):
        raise ConfigError(
            f"dataset {config.data.dataset!r} is fetched with its code, and is named by "
            f"{' and '.join(base_files)}: if you trust it, give it as --dataset"
        )


def parse_or_exit(argv: list[str]) -> Parsed:
    """`parse` for app.run(main, flags_parser=parse_or_exit): a ConfigError exits with status 2."""
    try:
        parsed = parse(argv)
    except ConfigError as error:
        print(
            f"{os.path.basename(argv[0])}: {error}\nSee --help for all settings.", file=sys.stderr
        )
        if any("multi_worker" in argument for argument in argv):
            print(
                "This worker has not joined the cluster. If others were started with other "
                "settings, they wait for it: stop them.",
                file=sys.stderr,
            )
        raise SystemExit(2) from None
    for path in parsed.base_files:
        print(f"Settings start from {path}", file=sys.stderr)
    config = parsed.config
    saved = any(map(saved_settings.is_saved_settings, parsed.base_files))
    trains = config.runtime.mode in ("train", "train_then_eval")
    if saved and trains and config.distill.teacher and "teacher" not in parsed.explicit:
        print(
            f"They name the teacher {config.distill.teacher!r}, a SavedModel, whose graph can "
            "read and write files. Go on only if you trust it.",
            file=sys.stderr,
        )
    return parsed


def _parse_flags(argv: list[str]) -> flags.FlagValues:
    ours = flags.FlagValues()
    ours.set_gnu_getopt(True)  # Else the first stray argument hides the flags after it.
    define_flags(ours)
    try:
        rest = flags.FLAGS(ours(argv, known_only=True), known_only=True)[1:]
    except (flags.Error, ValueError) as error:
        # absl wraps what a parser raises in longer words.
        if isinstance(error.__context__, ConfigError):
            raise error.__context__ from None
        raise ConfigError(one_line(error)) from None
    for argument in rest:
        name = argument.lstrip("-").split("=")[0]
        if not argument.startswith("-") or not name:
            raise ConfigError(
                f"unexpected argument {argument!r}; settings are written --name=value"
            )
        near = did_you_mean(name, ours, "--") or "; --help lists them all"
        raise ConfigError(f"unknown flag --{name}{near}")
    return ours


def _base_files(given: flags.FlagValues, explicit: dict) -> tuple[list[str], bool]:
    """(files to start from, whether that is the demo)."""
    if given.gin_file:
        return [gin_files.find_gin_file(name) for name in given.gin_file], False
    saved = None
    if explicit.get("model_dir"):
        saved = saved_settings.find(explicit["model_dir"])
    if not saved and given["mode"].value in _OF_ITS_TRAINING and explicit.get("checkpoint"):
        saved = saved_settings.find_beside(explicit["checkpoint"])
    if saved:
        return [saved], False
    asked = given.gin_bindings or any(settings()[n].section != "Runtime" for n in explicit)
    return ([], False) if asked else ([str(DEMO)], True)


to_gin = saved_settings.to_gin


# --- Help.


def type_name(spec: Setting) -> str:
    """'float', 'train|eval', 'True|False': what --help shows after the equals sign."""
    if spec.choices:
        return "|".join(map(str, spec.choices))
    return "True|False" if bool in spec.types else spec.types[0].__name__.upper()


def program_name(argv0: str) -> str:
    """Returns how the user called this program: "python run.py", "tf-simclr"."""
    if argv0.endswith(".py"):
        return f"python {shlex.quote(argv0)}"
    return os.path.basename(argv0).removesuffix(".exe")


def format_help(width: int | None = None, *, program: str = IN_A_CHECKOUT) -> str:
    """Formats the text of --help: every flag under its section.

    Args:
        width: of a line, in columns; None takes that of the terminal.
        program: how the user calls it.
    """
    width = width or min(shutil.get_terminal_size().columns, 100)

    def paragraph(text: str, indent: int) -> str:
        return textwrap.fill(
            text,
            width,
            initial_indent=" " * indent,
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )

    out = [
        f"Usage: {program} [--name=value ...]",
        f"       {program} presets | --version",
        "",
        paragraph(
            "SimCLR: pretrain an image encoder without labels, fine-tune and evaluate it. "
            "Without flags, a small demonstration runs.",
            0,
        ),
        "",
        "Examples:",
        textwrap.indent(_EXAMPLES.format(program=program), "  "),
        "",
        paragraph(
            "A switch is --name or --noname; --name= unsets an optional setting. The "
            "settings start from their defaults, over which go --gin_file, then "
            "--gin_bindings, then flags. Without --gin_file, a --model_dir with a run in "
            "it starts from what that run has saved (config.json).",
            0,
        ),
    ]
    for section in config_lib.SECTIONS:
        out += ["", paragraph(f"{section.__name__}: {section.__doc__}", 0)]
        for field in dataclasses.fields(section):
            spec = settings()[field.name]
            default = (
                "unset"
                if spec.default is None
                else (f"{spec.default:g}" if isinstance(spec.default, float) else spec.default)
            )
            out += [
                f"  --{spec.name}={type_name(spec)} (default {default})",
                paragraph(spec.help, 6),
            ]
    out += ["", "Gin: files of settings."]
    for name, text in _GIN_FLAGS.items():
        out += [f"  --{name}=STR", paragraph(text, 6)]
    out += [
        f"  --{_ALLOW_GIN_IMPORTS}=True|False (default False)",
        paragraph(_ALLOW_GIN_IMPORTS_HELP, 6),
    ]
    out += ["", "Presets:"]
    for name, title in gin_files.preset_titles().items():
        out += [f"  gin/{name}.gin", paragraph(title, 6)]
    return "\n".join(out)
