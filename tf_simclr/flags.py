"""Command line and gin files -> one Config.

Precedence: field default < --gin_file (of several, the later) < --gin_bindings < a flag given on
the command line. Where --gin_file is not given, the base is model_dir/config.gin if there is one
(a run restarts from its own settings); else, for modes that only look at --checkpoint, the
config.gin beside that; else, if only Runtime flags are given, gin/demo.gin.

Each call of `parse` fills flags of its own, and leaves gin as empty as gin can be, so that nothing
outlasts it. absl's flags (--verbosity and the like) go to absl's global FLAGS, for app.run.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path

import gin
from absl import flags

from tf_simclr import config as config_lib
from tf_simclr.config import Config, ConfigError, Setting, did_you_mean, one_line, settings

ROOT = Path(__file__).resolve().parent.parent
PRESETS = ROOT / "gin"
DEMO = PRESETS / "demo.gin"

_GIN_FLAGS = {
    "gin_file": "File of settings: a path or the name of a preset (below). Repeatable; the later "
                "wins.",
    "gin_bindings": "One setting, as a gin file has it: --gin_bindings='Loss.temperature = 0.5'. "
                    "Repeatable; the later wins.",
}
# Modes that only look at a checkpoint. Their settings may come from its run's config.gin, but not
# these: they tell where that run itself began, and where its data lay.
_OF_ITS_TRAINING = {
    "probe": ("checkpoint", "from_scratch", "label_fraction"),
    "predict": ("checkpoint", "from_scratch", "data_dir", "dataset", "unlabelled"),
}
_HELP_FLAGS = ("--help", "-help", "-h", "-?", "--helpfull", "--helpshort")
_EXAMPLES = """\
python run.py --mode=train_then_eval
python run.py --gin_file=gin/cifar10_resnet18.gin --model_dir=/tmp/simclr
python run.py --gin_file=gin/cifar10_linear_eval.gin --mode=train_then_eval \\
    --checkpoint=/tmp/simclr --model_dir=/tmp/simclr_ft"""

# Presets include one another as gin/NAME.gin, which must work from any current directory.
gin.add_config_file_search_path(str(ROOT))
for _section in config_lib.SECTIONS:
    gin.external_configurable(_section, name=_section.__name__, module="tf_simclr")


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


# --- Remote files. TensorFlow reads gs://; it is imported only where a URL is named.

def _is_url(path: str) -> bool:
    return re.match(r"\w+://", path) is not None


def _open_url(path: str):
    import tensorflow as tf
    return tf.io.gfile.GFile(path)


def _is_file(path: str) -> bool:
    if not _is_url(path):
        return os.path.isfile(path)
    import tensorflow as tf
    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise ConfigError(f"cannot look up {path}: {one_line(error)}") from None


gin.config.register_file_reader(_open_url, lambda path: _is_url(path) and _is_file(path))


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
        return text  # A string, or what its complaint then names.


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines a flag for every setting, --gin_file and --gin_bindings."""
    for name, spec in settings().items():
        flags.DEFINE_flag(
            flags.Flag(_SettingParser(spec), flags.ArgumentSerializer(), name, spec.default,
                       spec.help, boolean=bool in spec.types),
            flag_values=flag_values, module_name=__name__)
    for name, text in _GIN_FLAGS.items():
        flags.DEFINE_multi_string(name, [], text, flag_values=flag_values)


def parse(argv: list[str]) -> Parsed:
    """Resolves a command line; argv[0], the program's name, is skipped.

    Raises:
        ConfigError: in one line, what is wrong and the way out.
        SystemExit: with status 0, after --help is printed.
    """
    if any(argument in _HELP_FLAGS for argument in argv[1:]):
        print(format_help())
        raise SystemExit(0)
    given = _parse_flags(argv)
    explicit = {name: given[name].value for name in settings() if given[name].present}
    base_files, is_demo = _base_files(given, explicit)
    config = Config().replace(**_read_gin(base_files, given.gin_bindings))
    for name in _OF_ITS_TRAINING.get(given["mode"].value, ()):
        if not any(re.match(rf"\s*\w+\.{name}\s*=", text) for text in given.gin_bindings):
            config = config.replace(**{name: settings()[name].default})
    config = config.replace(**explicit)
    config_lib.check(config)
    return Parsed(config, is_demo, tuple(base_files), frozenset(explicit))


def parse_or_exit(argv: list[str]) -> Parsed:
    """`parse` for app.run(main, flags_parser=parse_or_exit): a ConfigError exits with status 2."""
    try:
        parsed = parse(argv)
    except ConfigError as error:
        print(f"{os.path.basename(argv[0])}: {error}\nSee --help for all settings.",
              file=sys.stderr)
        raise SystemExit(2) from None
    for path in parsed.base_files:
        print(f"Settings start from {path}", file=sys.stderr)
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
            raise ConfigError(f"unexpected argument {argument!r}; settings are written "
                              "--name=value")
        near = did_you_mean(name, ours, "--") or "; --help lists them all"
        raise ConfigError(f"unknown flag --{name}{near}")
    return ours


def _base_files(given: flags.FlagValues, explicit: dict) -> tuple[list[str], bool]:
    """(files to start from, whether that is the demo)."""
    if given.gin_file:
        return [_find_gin_file(name) for name in given.gin_file], False
    model_dir = explicit.get("model_dir")
    if model_dir:
        saved = os.path.join(model_dir, "config.gin")
        if _is_file(saved):
            return [saved], False
    if given["mode"].value in _OF_ITS_TRAINING and explicit.get("checkpoint"):
        folder = explicit["checkpoint"].rstrip("/")
        for _ in range(3):  # a model_dir; a prefix in it; model_dir/saved_model/STEP
            saved = os.path.join(folder, "config.gin")
            if _is_file(saved):
                return [saved], False
            folder = os.path.dirname(folder)
    asked = given.gin_bindings or any(settings()[n].section != "Runtime" for n in explicit)
    return ([], False) if asked else ([str(DEMO)], True)


# --- Gin.

def _find_gin_file(name: str) -> str:
    """The path of a gin file given as a path or by a preset's name."""
    for path in (name, ROOT / name, PRESETS / name, PRESETS / f"{name}.gin"):
        if _is_file(str(path)):
            # Absolute, so that messages and Parsed.base_files say which file it was.
            return str(path) if _is_url(str(path)) else os.path.abspath(path)
    presets = ", ".join(f"gin/{path.name}" for path in sorted(PRESETS.glob("*.gin")))
    raise ConfigError(f"gin_file {name!r} does not exist; the presets are {presets}")


def _read_gin(files: list[str], bindings: list[str]) -> dict:
    """Values by flat name, from gin files and then bindings."""
    gin.clear_config()
    try:
        for path in files:
            gin.parse_config_file(path)
        gin.parse_config(bindings)
        gin.finalize()
        _check_gin_leftovers()
        values = {}
        for section in config_lib.SECTIONS:
            for name, value in gin.get_bindings(f"tf_simclr.{section.__name__}").items():
                wrong = settings()[name].type_complaint(value)
                if wrong:
                    raise ConfigError(f"{section.__name__}.{name} {wrong}")
                values[name] = value
        return values
    except ConfigError:
        raise
    except Exception as error:  # Gin files can import modules: anything may come out of them.
        raise ConfigError(_explain_gin_error(error)) from None
    finally:
        gin.clear_config()


def _check_gin_leftovers() -> None:
    """Refuses what gin accepts and nobody would read: a bare setting, a scoped section."""
    text = gin.config_str()
    for name, spec in settings().items():
        # `temperature = 0.5` defines a macro, which is right only where `%temperature` uses it.
        if re.search(rf"^{name} =", text, re.MULTILINE) and f"%{name}" not in text:
            raise ConfigError(f"gin setting {name} lacks its section; write {spec.section}.{name}")
    sections = "|".join(section.__name__ for section in config_lib.SECTIONS)
    scoped = re.search(rf"^\S+/(?:{sections})\.\w+", text, re.MULTILINE)
    if scoped:
        raise ConfigError(f"gin setting {scoped.group()} has a scope, and settings have none; "
                          f"write {scoped.group().rsplit('/', 1)[1]}")


def _explain_gin_error(error: Exception) -> str:
    """Gin's error in one line: where, what, and what may have been meant."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename} line {error.lineno}" if error.filename else "gin_bindings"
        line = (error.text or "").strip()
        return f"{where}: {one_line(error.msg)}" + (f" In: {line}" if line else "")
    message, *locations = str(error).split("\n  In ")
    where = "gin_bindings" if "\n  In bindings string" in str(error) else "gin"
    file_line = re.search(r'file "(.*)", line (\d+)', locations[0]) if locations else None
    if file_line:
        where = f"{file_line[1]} line {file_line[2]}"

    section = re.search(r"No configurable matching '(.*?)'", message)
    if section:
        names = [s.__name__ for s in config_lib.SECTIONS]
        near = did_you_mean(section[1], names) or f"; the sections are {', '.join(names)}"
        return f"{where}: unknown section {section[1]}{near}"
    parameter = re.search(r"Configurable '(.*?)' doesn't have a parameter named '(.*?)'", message)
    if parameter:
        section_name, name = parameter[1].split(".")[-1], parameter[2]
        if name in settings():
            return f"{where}: {name} belongs to {settings()[name].section}, not to {section_name}"
        own = [n for n, s in settings().items() if s.section == section_name]
        near = did_you_mean(name, own) or did_you_mean(name, settings())
        if not near:
            near = f"; {section_name} has {', '.join(own)}"
        return f"{where}: unknown setting {section_name}.{name}{near}"
    return f"{where}: {one_line(message)}"


def to_gin(config: Config) -> str:
    """The text of a config.gin that `parse` reads back to the same values.

    Settings that say where and what to do now (saved=False) are left out.
    """
    lines = ["# The settings of this run. A start with its --model_dir begins from this file."]
    section_before = None
    for section, name, value in config.items():
        if settings()[name].saved:
            if section != section_before:
                lines += ["", f"# {section}"]
                section_before = section
            lines.append(f"{section}.{name} = {value!r}")
    return "\n".join(lines) + "\n"


# --- Help.

def type_name(spec: Setting) -> str:
    """'float', 'train|eval', 'True|False': what --help shows after the equals sign."""
    if spec.choices:
        return "|".join(map(str, spec.choices))
    return "True|False" if bool in spec.types else spec.types[0].__name__.upper()


def preset_title(path: Path) -> str:
    """The first line of a preset's head."""
    with open(path, encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


def format_help(width: int | None = None) -> str:
    """The text of --help: every flag under its section, wrapped to `width` columns."""
    width = width or min(shutil.get_terminal_size().columns, 100)

    def paragraph(text: str, indent: int) -> str:
        return textwrap.fill(text, width, initial_indent=" " * indent,
                             subsequent_indent=" " * indent, break_on_hyphens=False)

    out = ["Usage: python run.py [--name=value ...]", "",
           paragraph("SimCLR: pretrain an image encoder without labels, fine-tune and evaluate it. "
                     "Without flags, a small demonstration runs.", 0), "",
           "Examples:", textwrap.indent(_EXAMPLES, "  "), "",
           paragraph("A switch is --name or --noname; --name= unsets an optional setting. The "
                     "settings start from their defaults, over which go --gin_file, then "
                     "--gin_bindings, then flags. Without --gin_file, a --model_dir that holds a "
                     "config.gin starts from it.", 0)]
    for section in config_lib.SECTIONS:
        out += ["", paragraph(f"{section.__name__}: {section.__doc__}", 0)]
        for field in dataclasses.fields(section):
            spec = settings()[field.name]
            default = "unset" if spec.default is None else (
                f"{spec.default:g}" if isinstance(spec.default, float) else spec.default)
            out += [f"  --{spec.name}={type_name(spec)} (default {default})",
                    paragraph(spec.help, 6)]
    out += ["", "Gin: files of settings."]
    for name, text in _GIN_FLAGS.items():
        out += [f"  --{name}=STR", paragraph(text, 6)]
    out += ["", "Presets:"]
    for path in sorted(PRESETS.glob("*.gin")):
        out += [f"  gin/{path.name}", paragraph(preset_title(path), 6)]
    return "\n".join(out)
