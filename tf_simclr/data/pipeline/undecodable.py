"""Finds examples that cannot be decoded, and replaces them by stand-ins.

Only decoding errors are handled here. An error in reading (a missing file, a corrupt TFRecord, the
network) or in augmenting still stops the run.

A dataset can ignore errors. In a whole pipeline, that would also hide reading errors, and each
dropped example would shift the rest. So examples are mapped in small groups, each in its own
dataset inside the map. This is the only way to catch an error in a tf.data graph. If a group fails,
its examples are tried one by one. On clean data this costs no more than mapping examples one by
one.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_simclr.data.errors import require
from tf_simclr.data.sources.protocol import Source


def map_with_stand_ins(
    views: Callable,
    source: Source,
    index: tf.Tensor,
    seeds: Sequence[tf.Tensor],
    example: dict[str, tf.Tensor],
    *,
    spec: tf.TensorSpec,
    name: str,
    strict: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Makes views of a group of examples, and replaces examples that cannot be decoded.

    The stand-in is the next example of the group that can be decoded. Its views are drawn from the
    seeds of the example that it replaces. An image may then appear twice in a batch with different
    views: a false negative.

    Args:
      views: (one row of each of the seeds, bytes of an image ()) -> a list of its views.
      source: decodes the images.
      index: int64 (n,), positions in the stream.
      seeds: tensors (n, ...), for `views`.
      example: image, string (n,); label, int64 (n,); and with strict also id, string (n,).
      spec: shape and dtype of an image's views; the first dimension counts the views.
      name: name of the stream, for messages.
      strict: raise an error instead of using stand-ins.

    Returns:
      Views (n, *spec.shape), labels (n,), and float32 (n,): 1 if the example is a stand-in, else 0.

    Raises:
      UndecodableError: through `errors.in_one_line`: strict is set and an example cannot be
        decoded, or none of the n examples can be decoded.
    """
    encoded, label = example["image"], example["label"]

    def views_of(encoded: tf.Tensor, *seeds: tf.Tensor) -> tf.Tensor:
        return _map(lambda encoded, *seeds: views(*seeds, encoded), (encoded, *seeds), spec)

    all_views, succeeded = _attempt(views_of, (encoded, *seeds), spec)

    def replace_undecodable() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        is_decodable = _decodable(source, encoded)
        if strict:
            is_decodable = _require_all(is_decodable, name, example["id"])
        chosen = _stand_ins(is_decodable, index, name)
        views_with_stand_ins = views_of(tf.gather(encoded, chosen), *seeds)
        return (
            views_with_stand_ins,
            tf.gather(label, chosen),
            1.0 - tf.cast(is_decodable, tf.float32),
        )

    return tf.cond(
        succeeded, lambda: (all_views, label, tf.zeros_like(label, tf.float32)), replace_undecodable
    )


def with_stand_ins(
    images: tf.Tensor, label: tf.Tensor, is_decodable: tf.Tensor, index: tf.Tensor, *, name: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Replaces images that `map_decodable` could not decode by other images of the group.

    Args:
      images: (n, h, w, c), decoded.
      label: int64 (n,).
      is_decodable: bool (n,), False for an image that could not be decoded.
      index: int64 (n,), positions in the stream.
      name: name of the stream, for messages.

    Returns:
      Images, labels and float32 (n,): 1 if the example is a stand-in, else 0.

    Raises:
      UndecodableError: through `errors.in_one_line`, if no image can be decoded.
    """

    def replace_undecodable() -> tuple[tf.Tensor, tf.Tensor]:
        chosen = _stand_ins(is_decodable, index, name)
        return tf.gather(images, chosen), tf.gather(label, chosen)

    images, label = tf.cond(
        tf.reduce_all(is_decodable), lambda: (images, label), replace_undecodable
    )
    return images, label, 1.0 - tf.cast(is_decodable, tf.float32)


def map_decodable(
    view: Callable,
    source: Source,
    example: dict[str, tf.Tensor],
    *,
    spec: tf.TensorSpec,
    name: str,
    strict: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes views of a group of examples, and returns which of them could be decoded.

    Args:
      view: bytes of an image () -> a tensor of the given spec.
      source: decodes the images.
      example: image, string (n,), and with strict also id, string (n,).
      spec: shape and dtype of the result of `view`.
      name: name of the stream, for messages.
      strict: raise an error for an example that cannot be decoded.

    Returns:
      Views (n, *spec.shape), and which can be decoded, bool (n,). The other views are blank.

    Raises:
      UndecodableError: through `errors.in_one_line`, if strict is set and an example cannot be
        decoded.
    """
    encoded = example["image"]
    one_view = tf.TensorSpec((1, *spec.shape), spec.dtype)

    def map_one(function: Callable, *rows: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(_map(lambda *row: [function(*row)], rows, one_view), 1)

    views, succeeded = _attempt(lambda encoded: map_one(view, encoded), (encoded,), spec)

    def with_blanks() -> tuple[tf.Tensor, tf.Tensor]:
        is_decodable = _decodable(source, encoded)
        if strict:
            is_decodable = _require_all(is_decodable, name, example["id"])

        def view_or_blank(encoded: tf.Tensor, is_decodable: tf.Tensor) -> tf.Tensor:
            return tf.cond(
                is_decodable, lambda: view(encoded), lambda: tf.zeros(spec.shape, spec.dtype)
            )

        return map_one(view_or_blank, encoded, is_decodable), is_decodable

    return tf.cond(succeeded, lambda: (views, tf.ones_like(encoded, tf.bool)), with_blanks)


def _stand_ins(is_decodable: tf.Tensor, index: tf.Tensor, name: str) -> tf.Tensor:
    """Chooses an example for each of n: itself, or the next that can be decoded."""
    count = tf.size(index, tf.int64)
    none_is_decodable = (
        name,
        ": ",
        count,
        " examples in a row cannot be decoded, from position ",
        index[0],
        " on, too many to replace",
    )
    is_decodable = require(tf.reduce_any(is_decodable), none_is_decodable, is_decodable)
    decodable_positions = tf.where(is_decodable)[:, 0]
    next_decodable = tf.searchsorted(decodable_positions, tf.range(count), out_type=tf.int64)
    return tf.gather(decodable_positions, next_decodable % tf.size(decodable_positions, tf.int64))


def _map(function: Callable, rows: Sequence[tf.Tensor], spec: tf.TensorSpec) -> tf.Tensor:
    """Applies a function to each row; its results, lists of tensors, become (n, *spec.shape)."""
    n, parts = tf.shape(rows[0])[0], spec.shape[0]
    array = tf.TensorArray(spec.dtype, n * parts, element_shape=spec.shape[1:])

    def step(i: tf.Tensor, array: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        for k, part in enumerate(function(*(tf.gather(row, i) for row in rows))):
            array = array.write(parts * i + k, part)
        return i + 1, array

    # One image at a time: groups already run in parallel, and few large images fit in memory.
    _, array = tf.while_loop(lambda i, _: i < n, step, (0, array), parallel_iterations=1)
    return tf.reshape(array.stack(), (-1, *spec.shape))


def _attempt(
    function: Callable, arguments: tuple[tf.Tensor, ...], spec: tf.TensorSpec
) -> tuple[tf.Tensor, tf.Tensor]:
    """Calls a function that may fail.

    Returns:
      Its result (n, *spec.shape) and True; an empty tensor (0, *spec.shape) and False if it fails.
    """
    dataset = tf.data.Dataset.from_tensors(arguments).map(_plain(function)).ignore_errors()
    nothing = tf.data.Dataset.from_tensors(tf.zeros((0, *spec.shape), spec.dtype))
    options = tf.data.Options()
    # It has one element and is recreated for each group, so optimizing it gains nothing.
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    result = dataset.concatenate(nothing).take(1).with_options(options).get_single_element()
    return result, tf.shape(result)[0] > 0


def _decodable(source: Source, encoded: tf.Tensor) -> tf.Tensor:
    """Returns which of the images, string (n,), can be decoded: bool (n,)."""

    def position_if_decoded(position: tf.Tensor, encoded: tf.Tensor) -> tuple:
        # Returning a pixel keeps the decoding from being optimized away. Returning the image's size
        # would not, if all images of a data set have the same size.
        return position, tf.reshape(source.decode(encoded), [-1])[:1]

    dataset = tf.data.Dataset.from_tensor_slices(encoded).enumerate()
    dataset = dataset.map(_plain(position_if_decoded)).ignore_errors()
    positions = tf.range(tf.size(encoded), dtype=tf.int64)
    return dataset.reduce(
        tf.zeros_like(encoded, tf.bool), lambda is_decodable, x: is_decodable | (positions == x[0])
    )


def _require_all(is_decodable: tf.Tensor, name: str, ids: tf.Tensor) -> tf.Tensor:
    """Returns `is_decodable`; raises an error that names the first undecodable example."""
    text = (
        name,
        ": example ",
        ids[tf.argmin(tf.cast(is_decodable, tf.int32))],
        " cannot be decoded; repair or remove it, or skip such examples with --strict_data=False",
    )
    return require(tf.reduce_all(is_decodable), text, is_decodable)


def _plain(function: Callable) -> Callable:
    return tf.autograph.experimental.do_not_convert(function)
