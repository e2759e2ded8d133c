"""The teacher of a distillation: a SavedModel with a supervised head. Its weights are frozen.

The student learns from the teacher's logits (SimCLRv2, arXiv:2006.10029, section 2).
"""

import os
from typing import Any

import tensorflow as tf

from tf_simclr.checkpoints.formats.tensorflow import saved_model
from tf_simclr.errors import ConfigError, one_line

LOGITS = "logits_sup"  # the endpoint


def find(path: str) -> str:
    """Finds the SavedModel for a path: the path itself, or the newest SavedModel of a model_dir.

    Returns:
      The directory of the SavedModel.

    Raises:
      ConfigError: there is none.
    """
    if saved_model.is_saved_model(path):
        return path
    exports = os.path.join(path, "saved_model")
    if tf.io.gfile.isdir(exports) and (steps := saved_model.steps_in(exports)):
        return os.path.join(exports, str(steps[-1]))
    raise ConfigError(
        f"teacher {path!r} is neither a SavedModel nor a model_dir that has one: give "
        "model_dir/saved_model/STEP of a fine-tuned run"
    )


class Teacher:
    """Computes the logits of a loaded SavedModel.

    Attributes:
      num_classes: number of classes of its supervised head.
    """

    num_classes: int

    def __init__(self, path: str, *, image_size: int):
        """Loads the SavedModel. Under a strategy's scope, each replica gets its variables.

        Args:
          path: a SavedModel or a model_dir (`find`). The SavedModel must accept
            f(images, trainable=False), as ours and the official ones do, and its outputs must
            include logits_sup.
          image_size: side of the images that the teacher will see, in pixels.

        Raises:
          ConfigError: the SavedModel cannot be loaded or has no supervised head.
        """
        directory = find(path)
        try:
            self._model = saved_model.load(directory, flag="teacher")
            images = tf.TensorSpec((None, image_size, image_size, 3), tf.float32)
            outputs = tf.function(self._call).get_concrete_function(images).structured_outputs
        except (TypeError, tf.errors.OpError) as error:  # TypeError: it takes other arguments
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

    def _call(self, images: tf.Tensor) -> Any:
        return self._model(images, trainable=False)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Computes logits (n, num_classes) of images (n, h, w, 3) in inference mode."""
        return self._call(images)[LOGITS]
