"""The teacher of a distillation: a SavedModel with a supervised head, frozen."""

import os
import re

import tensorflow as tf

from tf_simclr.checkpoints.formats import saved_model
from tf_simclr.errors import ConfigError, one_line

LOGITS = "logits_sup"


def find(path: str) -> str:
    """Directory of the SavedModel that a path names: itself, or the newest of a model_dir.

    Raises:
      ConfigError: there is none.
    """
    if saved_model.is_saved_model(path):
        return path
    exported = os.path.join(path, "saved_model")
    if tf.io.gfile.isdir(exported):
        numbers = [name.rstrip("/") for name in tf.io.gfile.listdir(exported)]
        steps = [int(name) for name in numbers if re.fullmatch(r"\d+", name)]
        if steps:
            return os.path.join(exported, str(max(steps)))
    raise ConfigError(
        f"teacher {path!r} is neither a SavedModel nor a model_dir that has one: give "
        "model_dir/saved_model/STEP of a fine-tuned run"
    )


class Teacher:
    """Logits of a loaded SavedModel.

    Attributes:
      num_classes: of its supervised head.
    """

    def __init__(self, path: str, *, image_size: int):
        """Loads it; within a strategy's scope its variables are those of all replicas.

        Args:
          path: for `find`. Any SavedModel that is called as those of `saved_model.export` and of
            the official code, f(images, trainable=False), and returns logits_sup among its outputs.
          image_size: side of the images that it will be given, in pixels.

        Raises:
          ConfigError: it cannot be loaded, or has no supervised head.
        """
        found = find(path)
        try:
            self._model = saved_model.load(found, flag="teacher")
            images = tf.TensorSpec((None, image_size, image_size, 3), tf.float32)
            outputs = tf.function(self._call).get_concrete_function(images).structured_outputs
        except (TypeError, tf.errors.OpError) as error:  # it wants other arguments
            raise ConfigError(
                f"teacher {path!r} cannot be used ({one_line(error)}): give a SavedModel that "
                "run.py has exported"
            ) from error
        if not isinstance(outputs, dict) or LOGITS not in outputs:
            raise ConfigError(
                f"teacher {path!r} has no supervised head (no output {LOGITS}): fine-tune it first "
                "with --train_mode=finetune"
            )
        self.num_classes = outputs[LOGITS].shape[-1]

    def _call(self, images):
        return self._model(images, trainable=False)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Logits (n, num_classes) of images (n, h, w, 3) in inference mode."""
        return self._call(images)[LOGITS]
