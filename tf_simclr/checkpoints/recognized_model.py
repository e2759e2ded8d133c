"""Builds the model that a file of weights belongs to."""

from collections.abc import Collection
from typing import Any, NamedTuple

from tf_simclr.checkpoints import about_file, recognition, weights, weights_file
from tf_simclr.checkpoints.about_file import About
from tf_simclr.checkpoints.formats.stored import Stored
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError
from tf_simclr.models.from_config import make_model
from tf_simclr.models.simclr import SimCLR


class RecognizedModel(NamedTuple):
    """A model with the weights of a file.

    Attributes:
      model: the model, with every variable from the file.
      config: the settings, with those of the recognized network.
      stored: the weights.
      about: the content of about.json beside the file; class_names is None if their number is not
        that of the supervised head's classes.
    """

    model: SimCLR
    config: Config
    stored: Stored
    about: About

    def describe(self) -> str:
        """Returns a line that says what the file is, and which network its weights belong to."""
        return recognition.describe(self.stored, self.config)


def build(
    stored: Stored, path: str, config: Config, *, fixed: Collection[str] = ()
) -> RecognizedModel:
    """Builds the model as it is in the file, in float32, unlike the start of a run.

    Args:
      stored: the weights (`weights_file.open_weights`).
      path: the path that the user gave.
      config: checked settings, with a seed. Those that do not fit the weights change
        (`recognition.fit`), and those of images that about.json beside the file has.
      fixed: names of the settings that must keep their values.

    Raises:
      ConfigError: a fixed setting contradicts the weights, or the file lacks a variable.
    """
    mode = config.runtime.mode
    about = about_file.read_about(weights_file.about_directory(weights_file.find(path)))
    config = config.replace(mode="predict", precision="float32", **_of_images(about, fixed))
    config = recognition.fit(config, stored, path=path, fixed=fixed)
    return restored(stored, path, config, about)._replace(config=config.replace(mode=mode))


def restored(stored: Stored, path: str, config: Config, about: About) -> RecognizedModel:
    """Makes a model and sets every variable of it.

    Args:
      stored: the weights.
      path: the path that the user gave.
      config: the settings, which fit the weights (`recognition.fit`).
      about: the content of about.json beside the file.

    Raises:
      ConfigError: the file lacks a variable, or has other variables than the model.
    """
    model = make_model(config, stored.num_classes)
    report = weights.restore(model, stored, path)
    if report.missing:
        raise ConfigError(f"checkpoint {path!r} lacks {report.missing[0]}: give another")
    if about.class_names and len(about.class_names) != stored.num_classes:
        about = about.replace(class_names=None)
    return RecognizedModel(model, config, stored, about)


def _of_images(about: About, fixed: Collection[str]) -> dict[str, Any]:
    """Returns the settings of images that about.json has, except those that are fixed."""
    image_range = about.image_range
    values = {
        "image_size": about.image_size,
        "image_range": f"{image_range.low},{image_range.high}" if image_range else None,
    }
    return {name: value for name, value in values.items() if value and name not in fixed}
