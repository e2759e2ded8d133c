"""Turns data errors that are raised in graphs into one line with the way out."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

# These mark the text of an error raised in a graph, to find it in TensorFlow's message.
_BEGIN, _END = "UNDECODABLE ", " UNDECODABLE"


class UndecodableError(Exception):
    """Says in one line that an example or a file cannot be read, and the way out."""


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turns errors whose text `require` or `marked` has marked into UndecodableError."""
    try:
        yield
    except tf.errors.OpError as error:
        match = re.search(f"{_BEGIN}(.*?){_END}", str(error), re.DOTALL)
        if not match:
            raise
        raise UndecodableError(match[1]) from error


def marked(text: str) -> str:
    """Marks the text of a Python error, so `in_one_line` finds it in TensorFlow's message."""
    return f"{_BEGIN}{text}{_END}"


def require(condition: tf.Tensor, text: tuple, value: tf.Tensor) -> tf.Tensor:
    """Returns `value`; raises an error with the given text at run time if a condition is False.

    Args:
      condition: bool ().
      text: strings and scalar tensors that are joined to form the message.
      value: the tensor to return.
    """
    parts = [
        part if not tf.is_tensor(part) or part.dtype == tf.string else tf.strings.as_string(part)
        for part in (_BEGIN, *text, _END)
    ]
    with tf.control_dependencies([tf.debugging.Assert(condition, [tf.strings.join(parts)])]):
        return tf.identity(value)
