"""Reads and writes about.json: what a user of a checkpoint must know and cannot see in its weights.

The file is in the directory of a run's checkpoints, and in the assets of its SavedModels.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_simclr import files
from tf_simclr.config import Config, settings
from tf_simclr.data.augment import views
from tf_simclr.data.sources import image_range
from tf_simclr.data.sources.image_range import LARGEST, ImageRange
from tf_simclr.errors import ConfigError, one_line

ABOUT = "about.json"
# Settings of the network that the shapes of its weights do not show.
HIDDEN_SETTINGS = ("ft_proj_selector", "max_pool_padding", "input_normalization")
MAX_BYTES = 2**24  # twenty thousand long class names take less than one MiB


@dataclasses.dataclass(frozen=True)
class About:
    """The content of about.json. Fields that the file lacks are None.

    Attributes:
      image_size: side of the images that the model was trained with, in pixels.
      class_names: names of the supervised head's classes, in the order of its logits.
      image_range: values of 16-bit images that evaluation maps to black and white.
      network: settings of the model that the shapes of its weights do not show, {name: value}.
      source: what the weights were converted from; None if a run has trained them.
    """

    image_size: int | None = None
    class_names: tuple[str, ...] | None = None
    image_range: ImageRange | None = None
    network: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: str | None = None

    def replace(self, **values: Any) -> "About":
        """Returns a copy with other values."""
        return dataclasses.replace(self, **values)


def content(
    config: Config, class_names: Sequence[str] | None, *, source: str | None = None
) -> dict[str, Any]:
    """Returns the content of about.json for the model of a run.

    Args:
      config: the settings of the run.
      class_names: names of the supervised head's classes, in the order of its logits; None if they
        are unknown.
      source: what the weights were converted from; None if a run has trained them.
    """
    data = config.data
    return {
        "image_size": data.image_size,
        "class_names": list(class_names) if class_names else None,
        "preparation": views.evaluation_preparation(
            data.image_size, image_range.parse(data.image_range)
        ),
        "network": dataclasses.asdict(config.model),
        "source": source,
    }


def write_about(directory: str, content: dict[str, Any]) -> None:
    """Writes about.json.

    Args:
      directory: directory of the checkpoints.
      content: see `content`.
    """
    files.write_text(os.path.join(directory, ABOUT), json.dumps(content, indent=2) + "\n")


def read_about(directory: str) -> About:
    """Reads about.json. The file is untrusted. Unknown keys are ignored.

    Args:
      directory: a model_dir, its folder `best`, or the assets of a SavedModel.

    Returns:
      An empty About if there is no file.

    Raises:
      ConfigError: the file cannot be read, or a value in it has the wrong type.
    """
    path = os.path.join(directory, ABOUT)
    if not tf.io.gfile.exists(path):
        return About()
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        return parse(content)
    except (OSError, tf.errors.OpError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path!r} cannot be used ({one_line(error)}): restore it; if you delete it, the class "
            "names and settings such as input_normalization are lost"
        ) from error


def parse(text: str | bytes) -> About:
    """Parses the content of about.json. It is untrusted.

    Raises:
      ValueError or RecursionError: it is not JSON, or a value has the wrong type.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    image_size, names = content.get("image_size"), content.get("class_names")
    # bool is a subclass of int.
    if image_size is not None and (type(image_size) is not int or image_size < 1):
        raise ValueError("image_size must be a positive integer")
    if names is not None:
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise ValueError("class_names must be a list of strings")
        if len(set(names)) < len(names):
            raise ValueError("class_names must differ from each other")
    source = content.get("source")
    if source is not None and not isinstance(source, str):
        raise ValueError("source must be a string")
    return About(
        image_size,
        tuple(names) if names else None,
        _parse_image_range(content.get("preparation")),
        parse_network(content.get("network")),
        source,
    )


def parse_network(network: Any, *, where: str = "network") -> dict[str, Any]:
    """Returns the settings that no shape shows. Older files lack them.

    Args:
      network: {setting: value}, untrusted.
      where: what holds the settings, for messages.

    Raises:
      ValueError: a value is not one that the setting can have.
    """
    if network is None:
        return {}
    if not isinstance(network, dict):
        raise ValueError(f"{where} must be a JSON object")
    values = {name: network[name] for name in HIDDEN_SETTINGS if name in network}
    for name, value in values.items():
        if wrong := settings()[name].complaint(value):
            raise ValueError(f"{where}: {name} {wrong}")
    return values


def _parse_image_range(preparation: Any) -> ImageRange | None:
    """Returns the image_range of the preparation, which older files lack.

    Raises:
      ValueError: a value has the wrong type.
    """
    if preparation is None:
        return None
    if not isinstance(preparation, dict):
        raise ValueError("preparation must be a JSON object")
    values = preparation.get("image_range")
    if values is None:
        return None
    is_pair = isinstance(values, list) and [type(value) for value in values] == [int, int]
    if not is_pair or not 0 <= values[0] < values[1] <= LARGEST:
        raise ValueError(f"image_range must be two integers, 0 <= black < white <= {LARGEST}")
    return ImageRange(*values)
