"""Errors of data that are raised in graphs, turned into one line with the way out."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

# They enclose the text of an error raised in a graph, to find it in the message of TensorFlow.
_BEGIN, _END = "UNDECODABLE ", " UNDECODABLE"


class UndecodableError(Exception):
    """An example cannot be decoded, or a file not read. One line with the way out."""


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turns errors that `require` and `marked` have written into UndecodableError."""
    try:
        yield
    except tf.errors.OpError as error:
        match = re.search(f"{_BEGIN}(.*?){_END}", str(error), re.DOTALL)
        if not match:
            raise
        raise UndecodableError(match[1]) from error


def marked(text: str) -> str:
    """Marks the text of a Python error, for `in_one_line` to find in the message of TensorFlow."""
    return f"{_BEGIN}{text}{_END}"


def require(condition: tf.Tensor, text: tuple, value: tf.Tensor) -> tf.Tensor:
    """Returns `value`, after raising an error of the given text if the condition is False.

    Args:
      condition: bool ().
      text: strings and tensors () that are joined to the message.
      value: a tensor.
    """
    parts = [
        part if not tf.is_tensor(part) or part.dtype == tf.string else tf.strings.as_string(part)
        for part in (_BEGIN, *text, _END)
    ]
    with tf.control_dependencies([tf.debugging.Assert(condition, [tf.strings.join(parts)])]):
        return tf.identity(value)
