"""Reads the values of settings from gin files.

Gin can import modules and call functions that they register. Here a gin file may only contain
settings: includes and macros work, and anything that could run code is rejected unless
--allow_gin_imports is given. The saved settings of a run are not read by gin (saved_settings.py).
"""

import contextlib
import importlib.resources
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin

from tf_simclr import files, paths
from tf_simclr.config import SECTIONS, saved_settings, settings
from tf_simclr.errors import ConfigError, did_you_mean, one_line

# Help texts of the flags that take gin; each can be given several times.
FLAGS = {
    "gin_file": "File of settings: a path, or the name of a preset (below). Repeatable; later "
    "files override earlier ones. A file named config.gin or config.json is read as the saved "
    "settings of a run: plain values only. Other gin files may use includes and macros.",
    "gin_bindings": "One setting, as a line of a gin file: "
    "--gin_bindings='Loss.temperature = 0.5'. Repeatable; later ones override earlier ones.",
}
ALLOW_IMPORTS = "allow_gin_imports"
ALLOW_IMPORTS_HELP = (
    "Allow --gin_file and --gin_bindings to import Python modules and to use functions that they "
    "register (@name), which runs code. The saved settings of a run are never allowed to."
)
_SECTION_NAMES = tuple(section.__name__ for section in SECTIONS)
_NEEDS_PERMISSION = (
    "{} can run code, and gin files may only contain settings; if you trust the file, give "
    "--allow_gin_imports."
)


def _presets_folder() -> Path:
    """Finds the presets: inside an installed package, or in gin/ beside it in a checkout."""
    package = importlib.resources.files("tf_simclr")
    installed = Path(str(package / "presets"))
    return installed if installed.is_dir() else Path(str(package)).parent / "gin"


PRESETS = _presets_folder()


def _preset(name: str) -> Path:
    """Returns the path of the preset gin/NAME.gin, NAME.gin or NAME; it may not exist."""
    name = name.replace("\\", "/").removeprefix("gin/")
    return PRESETS / (name if name.endswith(".gin") else f"{name}.gin")


# Presets include one another as gin/NAME.gin, which must work from any current directory. gin tries
# its readers in turn, and a file of that name in the current directory comes first.
gin.config.register_file_reader(
    lambda name: open(_preset(name), encoding="utf-8"),
    lambda name: name.startswith("gin/") and _preset(name).is_file(),
)
gin.config.register_file_reader(
    files.open_url, lambda path: files.is_url(path) and files.is_file(path)
)
# include '~/NAME.gin'
gin.config.register_file_reader(
    lambda path: open(paths.expand_home(path), encoding="utf-8"),
    lambda path: path.startswith("~") and files.is_file(paths.expand_home(path)),
)
for _section in SECTIONS:
    gin.external_configurable(_section, name=_section.__name__, module="tf_simclr")


def find_gin_file(name: str) -> str:
    """Finds a gin file by its path or by a preset's name; the path takes precedence.

    Raises:
      ConfigError: there is no such file and no such preset.
    """
    name = paths.expand_home(name)
    for path in (name, str(_preset(name))):
        if files.is_file(path):
            # Messages and Parsed.base_files show which file it was.
            return path if files.is_url(path) else os.path.abspath(path)
    presets = ", ".join(f"gin/{preset}.gin" for preset in preset_titles())
    raise ConfigError(f"gin_file {name!r} does not exist; the presets are {presets}")


def preset_titles() -> dict[str, str]:
    """Returns {name without gin/ and .gin: title} of every preset."""
    titles = {}
    for path in sorted(PRESETS.glob("*.gin")):
        with open(path, encoding="utf-8") as file:
            titles[path.stem] = file.readline().lstrip("# ").strip()
    return titles


def read_gin(gin_paths: list[str], bindings: list[str], *, allow_imports: bool) -> dict[str, Any]:
    """Reads {name: value} from files and then from bindings. Later values override earlier ones.

    Files with the name of a run's saved settings are read as data (saved_settings.py).

    Args:
      gin_paths: paths or URLs of the files.
      bindings: lines such as 'Loss.temperature = 0.5'.
      allow_imports: whether gin may import modules and use their configurables, which runs code.

    Raises:
      ConfigError: a file or binding is wrong. The message is one line and says where.
    """
    parser = contextlib.nullcontext() if allow_imports else _settings_only()
    gin.clear_config()
    try:
        with parser:
            for path in gin_paths:
                if saved_settings.is_saved_settings(path):
                    for name, value in saved_settings.read(path).items():
                        gin.bind_parameter(f"tf_simclr.{settings()[name].section}.{name}", value)
                else:
                    gin.parse_config_file(path)
            gin.parse_config(bindings)
        gin.finalize()
        _check_gin_leftovers()
        return _values()
    except ConfigError:
        raise
    except Exception as error:  # modules that gin imports can raise any exception
        raise ConfigError(_explain_gin_error(error)) from None
    finally:
        gin.clear_config()


def _values() -> dict[str, Any]:
    """Returns {name: value} of the settings that gin currently holds."""
    values = {}
    for section in _SECTION_NAMES:
        for name, value in gin.get_bindings(f"tf_simclr.{section}").items():
            wrong = settings()[name].type_complaint(value)
            if wrong:
                raise ConfigError(f"{section}.{name} {wrong}")
            values[name] = value
    return values


class _SettingsOnlyParser(gin.config_parser.ConfigParser):
    """Parses like gin, but rejects any statement that could run code, before gin acts on it."""

    def parse_statement(self) -> Any:
        statement = super().parse_statement()
        if isinstance(statement, gin.config_parser.ImportStatement):
            raise SyntaxError(_NEEDS_PERMISSION.format("import"), statement.location)
        is_macro = isinstance(statement, gin.config_parser.BindingStatement) and (
            not statement.arg_name
        )
        if hasattr(statement, "selector") and not is_macro:
            if statement.selector.removeprefix("tf_simclr.") not in _SECTION_NAMES:
                raise SyntaxError(_unknown_section(statement.selector), statement.location)
        return statement

    def _maybe_parse_configurable_reference(self) -> Any:
        if self.current_token.string == "@":
            self._raise_syntax_error(_NEEDS_PERMISSION.format("a reference (@...)"))
        return super()._maybe_parse_configurable_reference()


@contextlib.contextmanager
def _settings_only() -> Iterator[None]:
    """Makes gin parse with _SettingsOnlyParser, including included files."""
    gin_parser = gin.config_parser.ConfigParser
    gin.config_parser.ConfigParser = _SettingsOnlyParser
    try:
        yield
    finally:
        gin.config_parser.ConfigParser = gin_parser


def _check_gin_leftovers() -> None:
    """Rejects lines that gin accepts but nothing would read: a bare setting, a scoped section."""
    text = gin.config_str()
    for name, spec in settings().items():
        # `temperature = 0.5` defines a macro, which is useless unless `%temperature` refers to it.
        if re.search(rf"^{name} =", text, re.MULTILINE) and f"%{name}" not in text:
            raise ConfigError(f"gin setting {name} lacks its section; write {spec.section}.{name}")
    scoped = re.search(rf"^\S+/(?:{'|'.join(_SECTION_NAMES)})\.\w+", text, re.MULTILINE)
    if scoped:
        raise ConfigError(
            f"gin setting {scoped.group()} has a scope, which settings cannot have; "
            f"write {scoped.group().rsplit('/', 1)[1]}"
        )


def _explain_gin_error(error: Exception) -> str:
    """Returns gin's error in one line: where, what, and the nearest valid name."""
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
        return f"{where}: {_unknown_section(section[1])}"
    parameter = re.search(r"Configurable '(.*?)' doesn't have a parameter named '(.*?)'", message)
    if parameter:
        section_name, name = parameter[1].split(".")[-1], parameter[2]
        if name in settings():
            return f"{where}: {name} belongs to {settings()[name].section}, not to {section_name}"
        names = [n for n, s in settings().items() if s.section == section_name]
        near = did_you_mean(name, names) or did_you_mean(name, settings())
        if not near:
            near = f"; {section_name} has {', '.join(names)}"
        return f"{where}: unknown setting {section_name}.{name}{near}"
    return f"{where}: {one_line(message)}"


def _unknown_section(name: str) -> str:
    near = did_you_mean(name, _SECTION_NAMES)
    near = near or f"; the sections are {', '.join(_SECTION_NAMES)}"
    return f"unknown section {name}{near}"
