"""Parses the command line and gin files into one Config.

Precedence, highest first: flags, --gin_bindings, --gin_file (later files override earlier ones),
defaults.

Without --gin_file, the settings start from the saved settings of the run in model_dir: config.json,
or config.gin of an earlier version. If there is no such run, modes that only read --checkpoint
start from the settings saved beside that checkpoint. If only Runtime flags are given, the settings
start from gin/demo.gin.

`parse` leaves no state behind: each call creates new flags and clears gin. absl's own flags
(--verbosity and so on) go to absl's global FLAGS, for app.run.
"""

import contextlib
import dataclasses
import os
import re
import sys
from typing import Any

from absl import flags

from tf_simclr.cli import gin_files, help, summary
from tf_simclr.config import Config, Setting, check, saved_settings, settings
from tf_simclr.errors import ConfigError, did_you_mean, one_line

PRESETS = gin_files.PRESETS
DEMO = PRESETS / "demo.gin"
# Modes that only read a checkpoint may start from the settings of its run. They ignore these
# settings, which describe how that run started and where its data was.
_NOT_INHERITED = {
    "probe": ("checkpoint", "from_scratch", "label_fraction"),
    "predict": ("checkpoint", "from_scratch", "data_dir", "dataset", "unlabelled"),
}
_HELP_FLAGS = ("--help", "-help", "-h", "-?", "--helpfull", "--helpshort")


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Holds the result of parsing a command line.

    Attributes:
      config: checked settings.
      is_demo: whether gin/demo.gin was chosen because the command line has only Runtime flags.
      base_files: paths of the files that the settings start from, in order.
      explicit: names of the settings given as flags.
    """

    config: Config
    is_demo: bool
    base_files: tuple[str, ...]
    explicit: frozenset[str]


class _SettingParser(flags.ArgumentParser):
    """Converts the text of one flag to a value, and checks it."""

    def __init__(self, spec: Setting):
        self.spec = spec
        self.syntactic_help = ""

    def flag_type(self) -> str:
        return help.type_name(self.spec)

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):  # absl also parses the defaults
            return argument
        value = self.spec.normalize(self._convert(argument))
        wrong = self.spec.complaint(value)
        if wrong:
            raise ConfigError(f"{self.spec.name} {wrong}")
        return value

    def _convert(self, text: str) -> Any:
        """Returns a value of the setting's type, or the text itself."""
        if self.spec.optional and text in ("", "None"):
            return None
        by_type = {bool: flags.BooleanParser, int: flags.IntegerParser, float: flags.FloatParser}
        for kind in self.spec.types:
            if kind in by_type:
                with contextlib.suppress(ValueError, TypeError):
                    return by_type[kind]().parse(text)
        return text


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines a flag for each setting, and the flags for gin."""
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
    for name, text in gin_files.FLAGS.items():
        flags.DEFINE_multi_string(name, [], text, flag_values=flag_values)
    flags.DEFINE_bool(
        gin_files.ALLOW_IMPORTS, False, gin_files.ALLOW_IMPORTS_HELP, flag_values=flag_values
    )


def parse(argv: list[str]) -> Parsed:
    """Parses a command line.

    Args:
      argv: the program's name and its arguments, as in sys.argv.

    Raises:
      ConfigError: the command line is wrong. The message is one line, with a way out.
      SystemExit: with status 0, after printing --help.
    """
    if any(argument in _HELP_FLAGS for argument in argv[1:]):
        print(help.format_help(program=summary.program_words(argv[0], sys.executable)))
        raise SystemExit(0)
    flag_values = _parse_flags(argv)
    explicit = {name: flag_values[name].value for name in settings() if flag_values[name].present}
    bindings = flag_values.gin_bindings
    base_files, is_demo = _base_files(explicit, flag_values.gin_file, bindings)
    values = gin_files.read_gin(
        base_files, bindings, allow_imports=flag_values[gin_files.ALLOW_IMPORTS].value
    )
    config = Config().replace(**values)
    for name in _NOT_INHERITED.get(flag_values["mode"].value, ()):
        if not _is_bound(name, bindings):
            config = config.replace(**{name: settings()[name].default})
    config = config.replace(**explicit)
    if "dataset" not in explicit and not _is_bound("dataset", bindings):
        _check_saved_dataset(config, base_files)
    check(config)
    return Parsed(config, is_demo, tuple(base_files), frozenset(explicit))


def _is_bound(name: str, bindings: list[str]) -> bool:
    """Returns whether --gin_bindings set a setting."""
    return any(re.match(rf"\s*\w+\.{name}\s*=", text) for text in bindings)


def _check_saved_dataset(config: Config, base_files: list[str]) -> None:
    """Raises ConfigError if saved settings name a data set whose code would be downloaded."""
    is_saved = any(map(saved_settings.is_saved_settings, base_files))
    if is_saved and re.match(r"[\w-]+:(?![\d*])", config.data.dataset):
        raise ConfigError(
            f"dataset {config.data.dataset!r} is downloaded together with code that it runs, and "
            f"only {' and '.join(base_files)} names it: if you trust it, give it as --dataset"
        )


def parse_or_exit(argv: list[str]) -> Parsed:
    """Parses a command line for app.run(main, flags_parser=parse_or_exit).

    Raises:
      SystemExit: with status 2, after printing what is wrong.
    """
    try:
        parsed = parse(argv)
    except ConfigError as error:
        print(
            f"{os.path.basename(argv[0])}: {error}\nSee --help for all settings.", file=sys.stderr
        )
        if any("multi_worker" in argument for argument in argv):
            print(
                "This worker has not joined the cluster. If other workers were started with "
                "different settings, they are waiting for it: stop them.",
                file=sys.stderr,
            )
        raise SystemExit(2) from None
    for path in parsed.base_files:
        print(f"Settings start from {path}", file=sys.stderr)
    config = parsed.config
    is_saved = any(map(saved_settings.is_saved_settings, parsed.base_files))
    trains = config.runtime.mode in ("train", "train_then_eval")
    if is_saved and trains and config.distill.teacher and "teacher" not in parsed.explicit:
        print(
            f"They name the teacher {config.distill.teacher!r}, a SavedModel, whose graph can "
            "read and write files. Continue only if you trust it.",
            file=sys.stderr,
        )
    return parsed


def _parse_flags(argv: list[str]) -> flags.FlagValues:
    """Returns the flags of a command line, each converted and checked."""
    flag_values = flags.FlagValues()
    # Without this, the first stray argument would hide the flags after it.
    flag_values.set_gnu_getopt(True)
    define_flags(flag_values)
    try:
        unparsed = flags.FLAGS(flag_values(argv, known_only=True), known_only=True)[1:]
    except (flags.Error, ValueError) as error:
        # absl wraps the error of a parser in a longer message.
        if isinstance(error.__context__, ConfigError):
            raise error.__context__ from None
        raise ConfigError(one_line(error)) from None
    for argument in unparsed:
        name = argument.lstrip("-").split("=")[0]
        if not argument.startswith("-") or not name:
            raise ConfigError(
                f"unexpected argument {argument!r}; settings are written --name=value"
            )
        near = did_you_mean(name, flag_values, "--") or "; --help lists them all"
        raise ConfigError(f"unknown flag --{name}{near}")
    return flag_values


def _base_files(
    explicit: dict[str, Any], gin_file_names: list[str], bindings: list[str]
) -> tuple[list[str], bool]:
    """Returns the files that the settings start from, and whether they are the demo."""
    if gin_file_names:
        return [gin_files.find_gin_file(name) for name in gin_file_names], False
    saved = None
    if explicit.get("model_dir"):
        saved = saved_settings.find(explicit["model_dir"])
    if not saved and explicit.get("mode") in _NOT_INHERITED and explicit.get("checkpoint"):
        saved = saved_settings.find_beside(explicit["checkpoint"])
    if saved:
        return [saved], False
    if bindings or any(settings()[name].section != "Runtime" for name in explicit):
        return [], False
    return [str(DEMO)], True
