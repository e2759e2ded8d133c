"""Every setting of a run, once: its name, default, allowed values and help, and what fits what."""

from tf_simclr.config.config import (
    SECTIONS,
    Config,
    Model,
    Setting,
    check,
    check_data_dir,
    settings,
)

__all__ = ["SECTIONS", "Config", "Model", "Setting", "check", "check_data_dir", "settings"]
