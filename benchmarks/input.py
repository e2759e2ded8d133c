"""Measures the input pipeline in images per second: decoded, cropped, augmented and batched.

The baseline is a plain version of the official code's pipeline: each image is decoded, and each
view is cropped, resized, flipped and distorted separately, in float32, one random op at a time.
With --cache, ours keeps in memory the same as with --cache_dataset. The baseline keeps images:
decoded, as with the official flag cache_dataset, or encoded.
"""

import argparse
import functools
import statistics
import time

import tensorflow as tf

from benchmarks import report, timing
from benchmarks.report import Report, measured
from tf_simclr.config import Config
from tf_simclr.data.augment import color
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.sources import opening
from tf_simclr.data.sources.protocol import Source
from tf_simclr.training import run_input

WHERE = ("device", "host")
NOTES = """\
- A rate counts images, of two views each; it is the median of calls that take turns.
- host's work: the host's part for augment_on=device and augment_on=host; a loop takes the batches
  and drops them.
- all: includes the step's augmentation on the device, here the same CPU. Neither side blurs.
- bare decoding: JPEGs decoded one by one and dropped, without crop or batch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument("--data_dir", help="folder in which TFDS keeps the data sets")
    parser.add_argument("--dataset", default="cifar10", help="TFDS name (default: %(default)s)")
    parser.add_argument(
        "--image_size",
        type=report.positive,
        default=32,
        help="side of a view (default: %(default)s)",
    )
    parser.add_argument(
        "--batch", type=report.positive, default=256, help="images per batch (default: %(default)s)"
    )
    parser.add_argument(
        "--batches",
        type=report.positive,
        default=20,
        help="batches per timed call (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        choices=("encoded", "decoded"),
        help="keep the data set in memory on both sides, after an epoch that is not "
        "timed; the value says how the baseline keeps it",
    )
    report.add_arguments(parser, repetitions=3)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    out = Report("input", repetitions=args.repetitions, json_path=args.json)
    config = Config().replace(
        dataset=args.dataset,
        data_dir=args.data_dir,
        image_size=args.image_size,
        seed=1,
        train_batch_size=args.batch,
        cache_dataset=bool(args.cache),
        color_jitter_strength=1.0,
        use_blur=False,
    )
    source = opening.open_data(config)
    setting = f"{args.dataset}, {args.image_size} pixels, batch {args.batch}"
    setting += f", {args.cache} in memory" if args.cache else ""
    baseline = official(source, config, cache=args.cache)
    pipelines = {
        where: run_input.train_batches(
            config.replace(augment_on=where), source, tf.distribute.get_strategy(), examples_seen=0
        )
        for where in WHERE
    }
    step = _augment_step(config)
    if args.cache:
        epoch = source.num_examples(config.data.train_split) // args.batch + 2
        for dataset in (baseline, *pipelines.values()):
            for _ in zip(range(epoch), dataset, strict=False):
                pass

    def rates(*sides):
        """Returns the median images per second of each (dataset, step or None), taking turns."""
        calls = [functools.partial(_seconds, data, args.batches, step) for data, step in sides]
        seconds = timing.in_turns(calls, repetitions=args.repetitions)
        images = args.batch * args.batches
        return [images / statistics.median(times) for times in seconds]

    for what, side in (
        *((f"host's work, augment_on={where}", (pipelines[where], None)) for where in WHERE),
        ("all, augment_on=device", (pipelines["device"], step)),
    ):
        out.add(measured(what, setting, "images/s", rates(side, (baseline, None))))
    out.add(
        measured("bare decoding", setting, "images/s", rates((_decoding(source, config), None)))
    )
    out.finish(NOTES)


def _seconds(dataset: tf.data.Dataset, count: int, step) -> float:
    """Times `count` batches, after `count` untimed batches that fill buffers and trace.

    The iterator ends with the call. Otherwise it would fill its buffers while another side is
    timed.
    """
    iterator = iter(dataset)
    for _ in range(2):
        began = time.perf_counter()
        for _ in range(count):
            batch = next(iterator)
            last = step(batch) if step else batch
        tf.nest.map_structure(lambda tensor: tensor.numpy(), last)
        seconds = time.perf_counter() - began
    return seconds


def _augment_step(config: Config):
    """Returns the training step's augmentation of a batch, without blur."""
    device_views = DeviceViews(config, compiled=True)
    return tf.function(lambda batch: device_views.views(batch, step=0, part=0))


def official(source: Source, config: Config, *, cache: str | None) -> tf.data.Dataset:
    """Makes the official code's pretraining pipeline, up to batches of (images, one-hot labels)."""
    size, strength = config.data.image_size, config.augment.color_jitter_strength

    def distorted(image):
        """Applies color jitter with p = 0.8 in random order, then grayscale with p = 0.2."""

        def jitter(image):
            def clipped(op, *bounds):
                return lambda x: tf.clip_by_value(op(x, tf.random.uniform([], *bounds)), 0, 1)

            factors = max(0.0, 1 - 0.8 * strength), 1 + 0.8 * strength
            ops = (
                clipped(color.BRIGHTNESS.on_image, *factors),
                clipped(color.CONTRAST.on_image, *factors),
                clipped(color.SATURATION.on_image, *factors),
                clipped(color.HUE.on_image, -0.2 * strength, 0.2 * strength),
            )
            for operation_index in tf.unstack(tf.random.shuffle(tf.range(4))):
                image = tf.switch_case(
                    operation_index, [functools.partial(op, image) for op in ops]
                )
                image = tf.ensure_shape(image, (size, size, 3))
            return image

        chosen = tf.random.uniform([2])
        image = tf.cond(chosen[0] < 0.8, lambda: jitter(image), lambda: image)
        return tf.cond(chosen[1] < 0.2, lambda: color.to_grayscale(image), lambda: image)

    def view(image):
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image),
            tf.zeros([1, 0, 4]),
            min_object_covered=0.1,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            max_attempts=100,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.image.resize(tf.slice(image, begin, extent), (size, size), "bicubic")
        image = distorted(tf.image.random_flip_left_right(image))
        return tf.clip_by_value(tf.reshape(image, (size, size, 3)), 0, 1)

    def example(encoded):
        image = tf.image.convert_image_dtype(encoded["image"], tf.float32)
        images = tf.concat([view(image), view(image)], axis=-1)
        return images, tf.one_hot(encoded["label"], source.num_classes)

    dataset = source.encoded_examples(config.data.train_split)
    dataset = dataset.cache() if cache == "encoded" else dataset
    dataset = dataset.map(
        lambda example: {**example, "image": source.decode(example["image"])},
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    dataset = dataset.cache() if cache == "decoded" else dataset
    batch = config.training.train_batch_size
    dataset = dataset.shuffle(batch * (50 if size <= 32 else 10)).repeat()
    dataset = dataset.map(
        tf.autograph.experimental.do_not_convert(example), num_parallel_calls=tf.data.AUTOTUNE
    )
    return dataset.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _decoding(source, config: Config) -> tf.data.Dataset:
    def decode(encoded):
        return tf.reduce_max(source.decode(encoded["image"]))

    dataset = source.encoded_examples(config.data.train_split).cache().repeat()
    dataset = dataset.map(
        tf.autograph.experimental.do_not_convert(decode), num_parallel_calls=tf.data.AUTOTUNE
    )
    return tf.data.Dataset.zip((dataset.batch(config.training.train_batch_size),))
