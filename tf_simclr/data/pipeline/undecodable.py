"""Examples that cannot be decoded: how they are found, and what stands in for them.

Only errors of decoding are dealt with here. Whatever fails in reading (a missing file, a corrupt
TFRecord, the network) or in augmenting still stops the run.

A dataset can be told to ignore errors, but of a whole pipeline that would hide errors of reading,
and a gap would shift all that follows. So examples are mapped in small groups, each in a dataset of
its own inside the map: the one place where a graph can try something and go on if it fails. Where a
group fails, its examples are tried one by one. On clean data this costs no more than mapping
examples one by one.
"""

import math
import os
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_simclr.data.errors import require
from tf_simclr.data.sources.tfds_source import Source

_SMALLEST_GROUP, _LARGEST_GROUP = 32, 256
_GROUP_BYTES, _BATCH_BYTES = 20_000_000, 80_000_000


def examples_in_group(shape: tuple[int, ...], dtype: tf.DType, batch_size: int = 0) -> int:
    """How many examples to map at a time: 32 to 256, of views of 20 MB together where possible.

    A group takes some milliseconds whatever is in it, and each core has one or two in memory. A
    power of two, which divides most batches; or a whole batch if its views take at most 80 MB, so
    that nothing need be copied to put it together.

    Args:
      shape: of an example's views.
      dtype: of a view.
      batch_size: examples of a batch, if the groups become batches.
    """
    size = math.prod(shape) * dtype.size
    if _SMALLEST_GROUP <= batch_size <= min(_LARGEST_GROUP, _BATCH_BYTES // size):
        return batch_size
    fitting = max(1, _GROUP_BYTES // size)
    return max(_SMALLEST_GROUP, min(_LARGEST_GROUP, 2 ** int(math.log2(fitting))))


def group_size(step_size: int, batch_size: int, wanted: int) -> int:
    """How many examples to map at a time: a divisor of the batch, where possible at least `wanted`.

    Never more than a step, so that what stands in for an example depends on its step alone.

    Args:
      step_size: examples of one step in this input pipeline, a multiple of batch_size.
      batch_size: examples of one batch.
      wanted: as examples_in_group has it.
    """
    whole = batch_size if batch_size >= _SMALLEST_GROUP else step_size
    return next((n for n in range(wanted, whole) if whole % n == 0), whole)


def map_with_stand_ins(
    views: Callable,
    source: Source,
    index: tf.Tensor,
    seeds: Sequence[tf.Tensor],
    example: dict[str, tf.Tensor],
    *,
    shape: tuple[int, ...],
    dtype: tf.DType = tf.float32,
    name: str,
    strict: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Views of a group of examples; for each that cannot be decoded, views of another.

    The next of the group that can be decoded stands in for it, with the views that are drawn from
    its own seeds. So an image may come twice in a batch, as other views of it: a false negative,
    but no two equal rows.

    Args:
      views: (a row of each of the seeds, bytes of an image ()) -> a list of its views.
      source: decodes the images.
      index: int64 (n,), positions in the stream.
      seeds: tensors (n, ...), for `views`.
      example: image, string (n,); label, int64 (n,); and with strict also id, string (n,).
      shape: of an image's views, (number of views, ...).
      dtype: of a view.
      name: of the stream, for messages.
      strict: raise an error in place of using stand-ins.

    Returns:
      Views (n, *shape), labels (n,), and float32 (n,): 1 where another example stands in.

    Raises:
      UndecodableError: as errors.in_one_line has it, if strict and one example or if not strict
        and all n examples cannot be decoded.
    """
    spec = tf.TensorSpec(shape, dtype)
    encoded, label = example["image"], example["label"]

    def views_of(encoded, *seeds):
        return _map(lambda encoded, *seeds: views(*seeds, encoded), (encoded, *seeds), spec)

    views_of_group, succeeded = _attempt(views_of, (encoded, *seeds), spec)

    def replaced():
        good = _decodable(source, encoded)
        if strict:
            good = _require_all(good, name, example["id"])
        chosen = _stand_ins(good, index, name)
        views_of_group = views_of(tf.gather(encoded, chosen), *seeds)
        return views_of_group, tf.gather(label, chosen), 1.0 - tf.cast(good, tf.float32)

    return tf.cond(
        succeeded, lambda: (views_of_group, label, tf.zeros_like(label, tf.float32)), replaced
    )


def with_stand_ins(
    images: tf.Tensor, label: tf.Tensor, good: tf.Tensor, index: tf.Tensor, *, name: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As map_with_stand_ins, of images (n, h, w, c) that `map_decodable` has decoded before."""

    def replaced():
        chosen = _stand_ins(good, index, name)
        return tf.gather(images, chosen), tf.gather(label, chosen)

    images, label = tf.cond(tf.reduce_all(good), lambda: (images, label), replaced)
    return images, label, 1.0 - tf.cast(good, tf.float32)


def _stand_ins(good: tf.Tensor, index: tf.Tensor, name: str) -> tf.Tensor:
    """Which of n examples to take in each one's place: itself, or the next that is good."""
    count = tf.size(index, tf.int64)
    none = (
        name,
        ": ",
        count,
        " examples in a row cannot be decoded, from position ",
        index[0],
        " on, too many to let others stand in for them",
    )
    good = require(tf.reduce_any(good), none, good)
    found = tf.where(good)[:, 0]
    next_found = tf.searchsorted(found, tf.range(count), out_type=tf.int64)
    return tf.gather(found, next_found % tf.size(found, tf.int64))


def map_decodable(
    view: Callable,
    source: Source,
    example: dict[str, tf.Tensor],
    *,
    shape: tuple[int, ...],
    dtype: tf.DType = tf.float32,
    name: str,
    strict: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Views of a group of examples, and which of them could be decoded.

    Args:
      view: bytes of an image () -> a tensor of the given shape and dtype.
      source: decodes the images.
      example: image, string (n,), and with strict also id, string (n,).
      shape: of what view returns.
      dtype: of a view.
      name: of the stream, for messages.
      strict: raise an error for an example that cannot be decoded.

    Returns:
      Views (n, *shape), blank where the example cannot be decoded, and bool (n,): False there.

    Raises:
      UndecodableError: as errors.in_one_line has it, if strict and an example cannot be decoded.
    """
    encoded = example["image"]

    def map_one(function, *rows):
        images = _map(lambda *row: [function(*row)], rows, tf.TensorSpec((1, *shape), dtype))
        return tf.squeeze(images, 1)

    spec = tf.TensorSpec(shape, dtype)
    views, succeeded = _attempt(lambda encoded: map_one(view, encoded), (encoded,), spec)

    def with_blanks():
        good = _decodable(source, encoded)
        if strict:
            good = _require_all(good, name, example["id"])

        def view_or_blank(encoded, good):
            return tf.cond(good, lambda: view(encoded), lambda: tf.zeros(shape, dtype))

        return map_one(view_or_blank, encoded, good), good

    return tf.cond(succeeded, lambda: (views, tf.ones_like(encoded, tf.bool)), with_blanks)


def parallel_map(
    dataset: tf.data.Dataset, function: Callable, *, threads_per_core: int = 1
) -> tf.data.Dataset:
    """Maps groups of examples, several at a time, in threads apart from those of the step.

    The results are in order.
    """
    options = tf.data.Options()
    # Groups keep the cores busy: no op need share its work out, and more threads than cores would
    # only take the caches from each other.
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = threads_per_core * _num_cores()
    return dataset.map(
        tf.autograph.experimental.do_not_convert(function),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    ).with_options(options)


def _num_cores() -> int:
    """The cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _map(function: Callable, rows: Sequence[tf.Tensor], spec: tf.TensorSpec) -> tf.Tensor:
    """function of each row, a list of tensors that together are of spec: (n, *spec.shape)."""
    n, parts = tf.shape(rows[0])[0], spec.shape[0]
    array = tf.TensorArray(spec.dtype, n * parts, element_shape=spec.shape[1:])

    def step(i, array):
        for k, part in enumerate(function(*(tf.gather(row, i) for row in rows))):
            array = array.write(parts * i + k, part)
        return i + 1, array

    # One at a time: the parallelism is over groups, and of large images few fit in memory.
    _, array = tf.while_loop(lambda i, _: i < n, step, (0, array), parallel_iterations=1)
    return tf.reshape(array.stack(), (-1, *spec.shape))


def _attempt(
    function: Callable, arguments: tuple[tf.Tensor, ...], spec: tf.TensorSpec
) -> tuple[tf.Tensor, tf.Tensor]:
    """function(*arguments), n of spec, and True; or none of them and False if it fails."""
    dataset = tf.data.Dataset.from_tensors(arguments).map(_plain(function)).ignore_errors()
    nothing = tf.data.Dataset.from_tensors(tf.zeros((0, *spec.shape), spec.dtype))
    options = tf.data.Options()
    # Of one element, and made anew for each group: there is nothing to gain from optimising it.
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    result = dataset.concatenate(nothing).take(1).with_options(options).get_single_element()
    return result, tf.shape(result)[0] > 0


def _decodable(source: Source, encoded: tf.Tensor) -> tf.Tensor:
    """Which of the images, string (n,), can be decoded: bool (n,)."""

    def position_if_decoded(position, encoded):
        # A pixel as a result keeps the decoding from being optimised away. (Its size would not,
        # where all images of a data set have the same.)
        return position, tf.reshape(source.decode(encoded), [-1])[:1]

    dataset = tf.data.Dataset.from_tensor_slices(encoded).enumerate()
    dataset = dataset.map(_plain(position_if_decoded)).ignore_errors()
    positions = tf.range(tf.size(encoded), dtype=tf.int64)
    return dataset.reduce(
        tf.zeros_like(encoded, tf.bool), lambda good, x: good | (positions == x[0])
    )


def _require_all(good: tf.Tensor, name: str, ids: tf.Tensor) -> tf.Tensor:
    """good, an error if not all of it are True."""
    text = (
        name,
        ": example ",
        ids[tf.argmin(tf.cast(good, tf.int32))],
        " cannot be decoded; mend or remove it, or do without such examples by --strict_data=False",
    )
    return require(tf.reduce_all(good), text, good)


def _plain(function: Callable) -> Callable:
    return tf.autograph.experimental.do_not_convert(function)
