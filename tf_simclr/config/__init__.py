"""The settings of a run: names, types, defaults, allowed values, help texts, and their rules."""

from tf_simclr.config.config import Config
from tf_simclr.config.rules import RULES, Rule, check, check_data_dir, rules_of
from tf_simclr.config.sections import SECTIONS, Model, settings
from tf_simclr.config.setting import Setting

__all__ = [
    "RULES",
    "SECTIONS",
    "Config",
    "Model",
    "Rule",
    "Setting",
    "check",
    "check_data_dir",
    "rules_of",
    "settings",
]
