"""Gin files -> values of our settings.

Gin can import modules and call what they register. A gin file is a file of settings here: includes
and macros work, and what could run code is refused unless it is asked for (--allow_gin_imports).
What a run has saved itself is not read by gin at all (saved_settings.py).
"""

import contextlib
import importlib.resources
import os
import re
from pathlib import Path

import gin

from tf_simclr import files, paths
from tf_simclr.config import SECTIONS, saved_settings, settings
from tf_simclr.errors import ConfigError, did_you_mean, one_line

_NEEDS_PERMISSION = (
    "{} can run code, and gin files only give settings; if you trust the file, give "
    "--allow_gin_imports."
)


def _presets_folder() -> Path:
    """Finds the presets: within an installed package, and in gin/ beside it in a checkout."""
    package = importlib.resources.files("tf_simclr")
    installed = Path(str(package / "presets"))
    return installed if installed.is_dir() else Path(str(package)).parent / "gin"


PRESETS = _presets_folder()


def _preset(name: str) -> Path:
    """Returns where the preset gin/NAME.gin, NAME.gin or NAME lies; it may not exist."""
    name = name.replace("\\", "/").removeprefix("gin/")
    return PRESETS / (name if name.endswith(".gin") else f"{name}.gin")


# Presets include one another as gin/NAME.gin, which must work from any current directory. gin asks
# its readers in turn, so a file of that name in the current directory comes first.
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
    """Finds a gin file by its path or by a preset's name; an existing path wins over a preset.

    Raises:
      ConfigError: there is neither.
    """
    name = paths.expand_home(name)
    for path in (name, str(_preset(name))):
        if files.is_file(path):
            # Absolute, so that messages and Parsed.base_files say which file it was.
            return path if files.is_url(path) else os.path.abspath(path)
    presets = ", ".join(f"gin/{preset}.gin" for preset in preset_titles())
    raise ConfigError(f"gin_file {name!r} does not exist; the presets are {presets}")


def preset_titles() -> dict[str, str]:
    """Returns {name of a preset, without gin/ and .gin: the first line of its head}."""
    titles = {}
    for path in sorted(PRESETS.glob("*.gin")):
        with open(path, encoding="utf-8") as file:
            titles[path.stem] = file.readline().lstrip("# ").strip()
    return titles


def read_gin(paths: list[str], bindings: list[str], *, allow_imports: bool) -> dict:
    """Reads values by flat name, from files and then bindings.

    Files that have the name of a run's own settings are read as data (saved_settings.py).

    Args:
      allow_imports: whether gin may import modules and use their configurables, which runs code.

    Raises:
      ConfigError: one line that says where and what.
    """
    parser = contextlib.nullcontext() if allow_imports else _settings_only()
    gin.clear_config()
    try:
        with parser:
            for path in paths:
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
    except Exception as error:  # Gin files can import modules: anything may come out of them.
        raise ConfigError(_explain_gin_error(error)) from None
    finally:
        gin.clear_config()


def _values() -> dict:
    """{name: value} of our settings, as gin has them now."""
    values = {}
    for section in SECTIONS:
        for name, value in gin.get_bindings(f"tf_simclr.{section.__name__}").items():
            wrong = settings()[name].type_complaint(value)
            if wrong:
                raise ConfigError(f"{section.__name__}.{name} {wrong}")
            values[name] = value
    return values


class _SettingsOnlyParser(gin.config_parser.ConfigParser):
    """gin's parser, which refuses whatever could run code before gin acts on it."""

    def parse_statement(self):
        statement = super().parse_statement()
        if isinstance(statement, gin.config_parser.ImportStatement):
            raise SyntaxError(_NEEDS_PERMISSION.format("import"), statement.location)
        is_macro = isinstance(statement, gin.config_parser.BindingStatement) and (
            not statement.arg_name
        )
        if hasattr(statement, "selector") and not is_macro:
            names = [section.__name__ for section in SECTIONS]
            if statement.selector.removeprefix("tf_simclr.") not in names:
                raise SyntaxError(_unknown_section(statement.selector), statement.location)
        return statement

    def _maybe_parse_configurable_reference(self):
        if self.current_token.string == "@":
            self._raise_syntax_error(_NEEDS_PERMISSION.format("a reference (@...)"))
        return super()._maybe_parse_configurable_reference()


@contextlib.contextmanager
def _settings_only():
    """Has gin parse with _SettingsOnlyParser, included files too."""
    before = gin.config_parser.ConfigParser
    gin.config_parser.ConfigParser = _SettingsOnlyParser
    try:
        yield
    finally:
        gin.config_parser.ConfigParser = before


def _check_gin_leftovers() -> None:
    """Refuses what gin accepts and nobody would read: a bare setting, a scoped section."""
    text = gin.config_str()
    for name, spec in settings().items():
        # `temperature = 0.5` defines a macro, which is right only where `%temperature` uses it.
        if re.search(rf"^{name} =", text, re.MULTILINE) and f"%{name}" not in text:
            raise ConfigError(f"gin setting {name} lacks its section; write {spec.section}.{name}")
    sections = "|".join(section.__name__ for section in SECTIONS)
    scoped = re.search(rf"^\S+/(?:{sections})\.\w+", text, re.MULTILINE)
    if scoped:
        raise ConfigError(
            f"gin setting {scoped.group()} has a scope, and settings have none; "
            f"write {scoped.group().rsplit('/', 1)[1]}"
        )


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
        return f"{where}: {_unknown_section(section[1])}"
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


def _unknown_section(name: str) -> str:
    names = [section.__name__ for section in SECTIONS]
    near = did_you_mean(name, names) or f"; the sections are {', '.join(names)}"
    return f"unknown section {name}{near}"
