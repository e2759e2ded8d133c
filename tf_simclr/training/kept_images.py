"""Decides whether a run keeps its training images in memory (--cache_dataset)."""

import dataclasses
import math

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.pipeline import device_crops
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import host_memory
from tf_simclr.training import run_input

# "auto" takes this share of the free memory.
_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class KeptImages:
    """What a run keeps in memory.

    Attributes:
      are_kept: whether it keeps its training images.
      note: a line for the log that says what "auto" decided; "" if there was nothing to decide.
    """

    are_kept: bool
    note: str = ""


def settle(
    config: Config, source: Source, strategy: tf.distribute.Strategy, *, num_steps: int
) -> tuple[Config, str]:
    """Decides for a run on this machine (`decide`).

    Args:
      config: checked settings.
      source: the data set.
      strategy: the strategy of the run's devices.
      num_steps: number of steps that the run still has to take.

    Returns:
      The settings with cache_dataset True or False, and the note.
    """
    kept = decide(
        config,
        source,
        augments_on_device=run_input.augments_on_device(config, source, strategy),
        num_examples=num_steps * config.training.train_batch_size,
        free_bytes=host_memory.free_bytes(),
    )
    return config.replace(cache_dataset=kept.are_kept), kept.note


def decide(
    config: Config,
    source: Source,
    *,
    augments_on_device: bool,
    num_examples: int,
    free_bytes: int,
) -> KeptImages:
    """Decides what --cache_dataset means.

    "auto" keeps images only if that does not change their order, so that a run has the same
    results on machines with more and with less memory. It does not keep what is read only once,
    because decoded images are all read before the first step.

    Args:
      config: checked settings.
      source: the data set.
      augments_on_device: whether the views are made on the device.
      num_examples: number of examples that the run still has to see.
      free_bytes: free memory (`host_memory.free_bytes`).
    """
    data = config.data
    if data.cache_dataset != "auto":
        return KeptImages(bool(data.cache_dataset))
    if config.runtime.data_service or not source.has_one_order(data.train_split):
        return KeptImages(False)
    if num_examples <= source.num_examples(data.train_split):
        return KeptImages(False)
    are_decoded = augments_on_device and device_crops.crops_on_device(
        source, image_size=data.image_size, train_mode=config.training.train_mode
    )
    if are_decoded:
        height, width, _ = source.image_shape
        assert height and width, "the device crops only images of one size"
        size = source.num_examples(data.train_split) * math.prod((height, width, 3))
    else:
        size = source.num_bytes(data.train_split)
    # A decoded copy exists twice while the images are loaded.
    peak = 2 * size if are_decoded else size
    if peak > _SHARE * free_bytes:
        return KeptImages(
            False,
            f"Reads its images in every epoch: in memory they would need {_text(peak)} of the "
            f"{_text(free_bytes)} that are free (--cache_dataset=True keeps them nevertheless).",
        )
    form = "decoded" if are_decoded else "as stored"
    return KeptImages(
        True,
        f"Keeps its training images in memory, {form}: {_text(size)} of the {_text(free_bytes)} "
        "that are free (--cache_dataset=False reads them in every epoch).",
    )


def _text(num_bytes: int) -> str:
    """Returns a size, such as "154 MB"."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
