"""The form of a rule that involves several settings."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

from tf_simclr.config.config import Config
from tf_simclr.config.sections import settings


class Rule(NamedTuple):
    """A requirement on one setting that depends on other settings.

    {name} in a text is replaced by the value of that setting in an error message, and by the name
    of the setting in the documentation.

    Attributes:
      statement: "SETTING must be REQUIREMENT with OTHER SETTINGS".
      is_broken: returns whether the settings, as attributes of one object, break the rule.
      way_out: what the user can do.
      context: replaces OTHER SETTINGS in the error message, to show their values. If it is empty,
        the message uses the statement.
    """

    statement: str
    is_broken: Callable[[SimpleNamespace], bool]
    way_out: str
    context: str = ""

    @property
    def setting(self) -> str:
        """Returns the name of the setting to which the rule applies."""
        return self.statement.split()[0]

    def sentence(self) -> str:
        """Returns the rule for the documentation of its setting: "Must be ..."."""
        names = {name: name for name in settings()}
        text = self.statement.removeprefix(self.setting).strip().format_map(names)
        return f"{text[0].upper()}{text[1:]}."

    def message(self, config: Config) -> str:
        """Returns the error message for a Config that breaks the rule."""
        values = config.to_dict()
        requirement, _, others = self.statement.partition(" with ")
        text = f"{requirement} with {self.context or others}".format_map(values)
        return f"{text}, got {values[self.setting]!r}: {self.way_out}"
