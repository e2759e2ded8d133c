"""Defines a setting: a typed field with a default, allowed values and a help text."""

import dataclasses
import math
import operator
import os
import re
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from tf_simclr import paths


class Constraint(NamedTuple):
    """A condition on the value of one setting.

    Attributes:
      text: completes the sentence "must be ...".
      holds: returns a truthy value if the setting's value is valid.
    """

    text: str
    holds: Callable[[Any], object]


def at_least(low: float) -> Constraint:
    """Returns the constraint `low <= value`."""
    return Constraint(f"at least {low}", lambda value: value >= low)


def between(low: float, high: float) -> Constraint:
    """Returns the constraint `low <= value <= high`."""
    return Constraint(f"between {low} and {high}", lambda value: low <= value <= high)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


POSITIVE = Constraint("greater than 0", lambda value: value > 0)
SHARE = Constraint("greater than 0 and at most 1", lambda value: 0 < value <= 1)
FRACTION = Constraint("at least 0 and less than 1", lambda value: 0 <= value < 1)
OPEN_FRACTION = Constraint("greater than 0 and less than 1", lambda value: 0 < value < 1)
NOT_EMPTY = Constraint("not empty", lambda value: value != "")
REGEX = Constraint("a valid regular expression", _compiles)
GRPC = Constraint("grpc://HOST:PORT", lambda value: re.fullmatch(r"grpc://[^/:]+:\d+", value))
FILE_NAME = Constraint(
    "up to 100 letters, digits, '.', '_' or '-'",
    lambda value: re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value),
)
NO_PATTERN = Constraint(
    f"a path in UTF-8 without {' '.join(paths.PATTERN)} (TensorFlow treats these as glob patterns "
    "and would not find its files again: rename the directory, or make a link to it)",
    lambda value: paths.is_utf8(value) and not paths.is_pattern(value),
)
STEPS = Constraint(
    "two steps FIRST,LAST with FIRST < LAST, such as 10,20",
    lambda value: re.fullmatch(r"\d+,\d+", value) and operator.lt(*map(int, value.split(","))),
)
IMAGE_RANGE = Constraint(
    "two values LOW,HIGH with 0 <= LOW < HIGH <= 65535, such as 0,4095",
    lambda value: re.fullmatch(r"[0-9]{1,5},[0-9]{1,5}", value)
    and operator.lt(*map(int, value.split(",")))
    and int(value.split(",")[1]) <= 65535,
)
TABLE = Constraint(
    "a file that ends in .csv, .parquet or .npy",
    lambda value: value.endswith((".csv", ".parquet", ".npy")),
)
DIRECTORY = Constraint(
    "an existing directory, or a URL such as gs://bucket/folder",
    lambda value: "://" in value or os.path.isdir(value),
)


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple = (),
    constraint: Constraint | None = None,
    saved: bool = True,
    is_path: bool = False,
) -> Any:
    """Makes the dataclass field of a setting.

    Args:
      default: default value.
      help: help text, in full sentences.
      choices: all allowed values; () allows any.
      constraint: condition that a value must satisfy.
      saved: whether a run saves the value in its model_dir.
      is_path: whether the value is a path, in which a leading ~ stands for a home directory.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "constraint": constraint,
        "saved": saved,
        "is_path": is_path,
    }
    return dataclasses.field(default=default, metadata=metadata)


_TYPE_NAMES = {bool: "True or False", int: "an int", float: "a float", str: "a string"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Describes one field of one section; see `setting` for the attributes."""

    section: str
    name: str
    types: tuple[type, ...]
    optional: bool
    default: Any
    help: str
    choices: tuple
    constraint: Constraint | None
    saved: bool
    is_path: bool

    def normalize(self, value: Any) -> Any:
        """Converts a value to the form in a Config: int to float, ~ to the home directory."""
        # The official flag is written width_multiplier=2.
        if self.types == (float,) and type(value) is int:
            return float(value)
        if self.is_path and type(value) is str:
            return paths.expand_home(value)
        return value

    def type_complaint(self, value: Any) -> str | None:
        """Returns what is wrong with a value's type ("must be an int, got 1.5"), or None."""
        # isinstance would accept True as an int.
        if type(value) in self.types or (value is None and self.optional):
            return None
        if type(value) is int and self.types == (float,):
            return None
        expected = " or ".join(_TYPE_NAMES[t] for t in self.types)
        return f"must be {expected}{' or None' if self.optional else ''}, got {value!r}"

    def complaint(self, value: Any) -> str | None:
        """Returns what is wrong with a value ("must be at least 1, got 0"), or None."""
        wrong = self.type_complaint(value)
        if wrong or value is None:
            return wrong
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(map(str, self.choices))}, got {value!r}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"must be a finite number, got {value}"
        if self.is_path and paths.lacks_home(value):
            return (
                f"must begin with a home directory that is known, got {value!r}: write the path "
                "without ~, or as ./~ if the name itself begins with ~"
            )
        if self.constraint and not self.constraint.holds(value):
            return f"must be {self.constraint.text}, got {value!r}"
        return None


@dataclasses.dataclass(frozen=True)
class Section:
    """Base class of the sections: dataclasses whose fields are settings."""

    def __post_init__(self) -> None:
        for name, spec in settings_of(type(self)).items():
            object.__setattr__(self, name, spec.normalize(getattr(self, name)))


def settings_of(section: type[Section]) -> dict[str, Setting]:
    """Returns the settings of one section by name, in the order of its fields."""
    settings = {}
    for field in dataclasses.fields(section):
        types = typing.get_args(field.type) or (field.type,)
        settings[field.name] = Setting(
            section=section.__name__,
            name=field.name,
            default=field.default,
            types=tuple(t for t in types if t is not type(None)),
            optional=type(None) in types,
            **field.metadata,
        )
    return settings
