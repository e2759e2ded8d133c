"""Opens files that a runtime runs as they are: ONNX and TFLite. They are untrusted."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.about_file import About
from tf_simclr.checkpoints.formats.runtimes import inference, sessions
from tf_simclr.checkpoints.formats.runtimes.sessions import Unusable
from tf_simclr.errors import ConfigError, one_line

MAX_IMAGE_SIZE = 4096
TRIED_IMAGE_SIZE = 64  # of a model for images of any size, if no metadata tells its size


@dataclasses.dataclass(frozen=True)
class Runner:
    """A model that a runtime runs on the host.

    Attributes:
      endpoints: function from images, float32 (n, s, s, 3) in [0, 1], to
        {endpoint: float32 (n, width)}.
      widths: {endpoint: width}.
      image_size: side s of the images, in pixels; None if the model takes images of any size and
        has no metadata.
      about: class names and the range of 16-bit images, from the metadata.
    """

    endpoints: Callable[[np.ndarray], dict[str, np.ndarray]]
    widths: Mapping[str, int]
    image_size: int | None
    about: About


def read(path: str) -> bytes:
    """Reads a file of at most 2 GiB.

    Raises:
      Unusable: the file is larger.
      OSError: the file cannot be read.
    """
    if not os.path.isfile(path):  # a pipe may have no end
        raise Unusable("it is not a file")
    if os.path.getsize(path) > inference.MAX_BYTES:
        raise Unusable(f"it has more than {inference.MAX_BYTES} bytes")
    with open(path, "rb") as file:
        return file.read(inference.MAX_BYTES)


def open_content(kind: str, content: bytes, about: About, *, directory: str) -> Runner:
    """Opens a model after it has run in a process of its own (`sessions.try_out`).

    Args:
      kind: a key of `sessions.SESSIONS`.
      content: the bytes of the model.
      about: the metadata in the model. If it is empty, about.json in the directory is read.
      directory: directory of the file.

    Raises:
      ConfigError: the runtime is missing, or about.json cannot be used.
      Unusable: the model cannot be used.
      Exception: the runtime cannot load it.
    """
    if about == About():
        about = about_file.read_about(directory)
    if (about.image_size or 0) > MAX_IMAGE_SIZE:
        raise Unusable(f"its metadata says that images have {about.image_size} pixels on a side")
    widths = sessions.try_out(kind, content, about.image_size or TRIED_IMAGE_SIZE)
    session = sessions.SESSIONS[kind](content)
    names = about.class_names
    if names is not None and len(names) != widths.get("logits_sup"):
        about = dataclasses.replace(about, class_names=None)
    return Runner(session.run, widths, session.side or about.image_size, about)


@contextlib.contextmanager
def errors_in_one_line(path: str, name: str) -> Iterator[None]:
    """Turns an error of a runtime into one line.

    Args:
      path: path of the file.
      name: what the file should be: "an ONNX model".

    Raises:
      ConfigError: always if there is an error.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # the runtimes raise exceptions of many types
        raise ConfigError(
            f"checkpoint {path!r} cannot be used as {name} ({one_line(error)}): give another"
        ) from error
