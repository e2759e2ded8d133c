"""Errors of data that are raised in graphs, and their way out: one line that says all there is."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

# Around the text of an error raised in a graph, to find it again in what TensorFlow makes of it.
_BEGIN, _END = "UNDECODABLE ", " UNDECODABLE"


class UndecodableError(Exception):
    """Examples that cannot be decoded, where they must be. One line with the way out."""


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turns what `require` raises in graphs into UndecodableError."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(f"{_BEGIN}(.*?){_END}", str(error), re.DOTALL)
        if not found:
            raise
        raise UndecodableError(found[1]) from error


def marked(text: str) -> str:
    """A text that `in_one_line` finds again in what TensorFlow makes of a Python error."""
    return f"{_BEGIN}{text}{_END}"


def require(condition: tf.Tensor, text: tuple, value: tf.Tensor) -> tf.Tensor:
    """value, an error of the given text if the condition is False."""
    parts = [
        part if not tf.is_tensor(part) or part.dtype == tf.string else tf.strings.as_string(part)
        for part in (_BEGIN, *text, _END)
    ]
    with tf.control_dependencies([tf.debugging.Assert(condition, [tf.strings.join(parts)])]):
        return tf.identity(value)
