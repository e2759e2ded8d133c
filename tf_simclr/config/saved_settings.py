"""Writes and reads the settings that a run saves in its model_dir.

config.json is the authoritative file. config.gin has the same settings in a more readable form;
earlier versions wrote only config.gin. People share these files, so neither is ever executed:
config.gin is read as plain assignments, `Section.name = LITERAL`, and not by gin, which can import
modules.
"""

import ast
import json
import math
import os
import warnings
from typing import Any

from tf_simclr import files
from tf_simclr.config import SECTIONS, Config, settings
from tf_simclr.errors import ConfigError, did_you_mean, one_line

JSON, GIN = "config.json", "config.gin"
FORMAT, VERSION = "tf_simclr settings", 1
_FIELDS = ("format", "version", "settings")
_SECTION_NAMES = tuple(section.__name__ for section in SECTIONS)


# --- Writing.


def saved_values(config: Config) -> dict[str, Any]:
    """Returns {name: value} of the settings that a run saves."""
    return {name: value for _, name, value in config.items() if settings()[name].saved}


def to_json(config: Config) -> str:
    """Returns the text of config.json, without settings of a single start, such as mode."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in saved_values(config).items():
        sections.setdefault(settings()[name].section, {})[name] = value
    content = {"format": FORMAT, "version": VERSION, "settings": sections}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def to_gin(config: Config) -> str:
    """Returns the text of config.gin, with the same settings as `to_json`."""
    lines = [
        "# The settings of this run. A start with its --model_dir reads them from config.json.",
    ]
    previous_section = None
    for name, value in saved_values(config).items():
        section = settings()[name].section
        if section != previous_section:
            lines += ["", f"# {section}"]
            previous_section = section
        lines.append(f"{section}.{name} = {value!r}")
    return "\n".join(lines) + "\n"


# --- Finding the files.


def is_saved_settings(path: str) -> bool:
    """Returns whether a file has the name of a run's saved settings."""
    return os.path.basename(path) in (JSON, GIN)


def find(folder: str) -> str | None:
    """Returns the path of config.json in a model_dir, otherwise of config.gin, otherwise None."""
    for name in (JSON, GIN):
        path = os.path.join(folder, name)
        if files.is_file(path):
            return path
    return None


def find_beside(checkpoint: str) -> str | None:
    """Returns the path of the saved settings of a checkpoint's run, or None.

    Args:
      checkpoint: a model_dir, a checkpoint prefix in it, or model_dir/saved_model/STEP.
    """
    folder = checkpoint.rstrip("/")
    for _ in range(3):
        path = find(folder)
        if path and not _is_of_another_program(path):
            return path
        folder = os.path.dirname(folder)
    return None


def _is_of_another_program(path: str) -> bool:
    """Returns whether a file is a config.json as other libraries write beside their weights."""
    if not path.endswith(JSON):
        return False
    try:
        return "format" not in files.read_json_object(path)
    except ConfigError:
        return False  # a damaged file may be ours


# --- Reading.


def read(path: str) -> dict[str, Any]:
    """Reads {name: value} from a config.json or a config.gin.

    Raises:
      ConfigError: the file was not written by a run, has a later version, or has a setting that is
        unknown, that a run does not save, or whose type is wrong. The message names the file and,
        for config.gin, the line.
    """
    text = files.read_text(path)
    return _from_json(text, path) if path.endswith(".json") else _from_gin(text, path)


def read_of_run(folder: str) -> dict[str, Any]:
    """Reads the settings {name: value} of the run in a model_dir; {} if there is no run.

    Raises:
      ConfigError: see `read`.
    """
    path = find(folder)
    return read(path) if path else {}


def _from_json(text: str, path: str) -> dict[str, Any]:
    content = files.parse_json_object(text, path)
    if content.get("format") != FORMAT:
        raise ConfigError(
            f"{path} does not contain the settings of a run (format {FORMAT!r}): restore it or "
            "remove it"
        )
    version = content.get("version")
    if type(version) is int and version > VERSION:
        raise ConfigError(
            f"{path} was written by a newer tf_simclr (version {version} of the file, this one "
            f"reads {VERSION}): update tf_simclr"
        )
    if type(version) is not int or version != VERSION:
        raise ConfigError(f"{path}: version must be {VERSION}, got {_short(version)}")
    if unknown := set(content) - set(_FIELDS):
        raise ConfigError(f"{path}: unknown field {_short(min(unknown))}")
    sections = content.get("settings")
    if not isinstance(sections, dict):
        raise ConfigError(f"{path}: settings must be an object, got {_short(sections)}")
    values: dict[str, Any] = {}
    for section, entries in sections.items():
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {_short(section)} must be an object, got {_short(entries)}")
        for name, value in entries.items():
            _check(section, name, value, path)
            values[name] = value
    return values


def _from_gin(text: str, path: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes in strings
            statements = ast.parse(text).body
    except SyntaxError as error:
        raise ConfigError(_not_plain(f"{path} line {error.lineno}", error.text)) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {one_line(error)}") from None
    lines = text.splitlines()
    values = {}
    for statement in statements:
        where, line = f"{path} line {statement.lineno}", lines[statement.lineno - 1]
        match statement:
            case ast.Assign(
                targets=[ast.Attribute(value=ast.Name(id=section), attr=name)], value=literal
            ):
                pass
            case _:
                raise ConfigError(_not_plain(where, line))
        try:
            value = ast.literal_eval(literal)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ConfigError(_not_plain(where, line)) from None
        _check(section, name, value, where)
        values[name] = value
    return values


def _not_plain(where: str, line: str | None) -> str:
    return (
        f"{where}: a run's saved settings may only have lines such as Loss.temperature = 0.5, got "
        f"{_short((line or '').strip())}; put any other gin into a file with another name, and "
        "give that as --gin_file"
    )


def _check(section: str, name: str, value: Any, where: str) -> None:
    """Raises ConfigError if no run saves such a section, setting or type of value."""
    if section not in _SECTION_NAMES:
        near = did_you_mean(section[:100], _SECTION_NAMES)
        raise ConfigError(f"{where}: unknown section {_short(section)}{near}")
    spec = settings().get(name)
    if spec is None:
        near = did_you_mean(name[:100], settings())
        raise ConfigError(
            f"{where}: unknown setting {section}.{one_line(name)}{near} (if another version of "
            "tf_simclr wrote it, remove it from the file)"
        )
    if spec.section != section:
        raise ConfigError(f"{where}: {name} belongs to {spec.section}, not to {section}")
    if not spec.saved:
        raise ConfigError(
            f"{where}: {name} is for a single start, and is not a saved setting; remove it, and "
            f"give --{name}"
        )
    wrong = spec.type_complaint(value)
    if not wrong and isinstance(value, float) and not math.isfinite(value):
        wrong = f"must be a finite number, got {value}"
    if wrong:
        raise ConfigError(f"{where}: {section}.{name} {one_line(wrong)}")


def _short(value: object) -> str:
    return one_line(repr(value))
