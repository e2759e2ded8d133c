"""Settings of the training stream: examples, batch size, views."""

import dataclasses

from tf_simclr.config.choices import TRAIN_MODES
from tf_simclr.data.batch import num_views
from tf_simclr.data.pipeline.service import Service
from tf_simclr.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several input pipelines that share a split.

    Attributes:
      index: index of this input pipeline, from 0.
      count: number of input pipelines; each reads an equal part of the split.
    """

    index: int = 0
    count: int = 1


WHOLE_SPLIT = Shard()


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """The examples of a training stream and their order.

    Attributes:
      split: TFDS split.
      batch_size: examples per batch of this shard.
      global_batch_size: examples per training step, over all shards.
      seed: seed of the order and the views.
      start_example: number of examples of this shard that were consumed before, in whole steps.
        Earlier epochs are not read, except the last of them if a step holds its end. In the epoch
        that contains start_example, the examples before it are read but not decoded.
      cache: keep the examples in memory after the first epoch: decoded if the device crops them,
        else encoded.
      strict: raise an error for an example that cannot be decoded. Otherwise another example
        replaces it (`undecodable`).
      shard: the part of the split that this input pipeline reads.
      service: where the batches are made; None for this process.
    """

    split: str
    batch_size: int
    global_batch_size: int
    seed: int
    start_example: int = 0
    cache: bool = False
    strict: bool = False
    shard: Shard = WHOLE_SPLIT
    service: Service | None = None

    @property
    def step_size(self) -> int:
        """Returns the number of examples per training step in this shard."""
        return self.global_batch_size // self.shard.count


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """The views of an image, and where they are made.

    Attributes:
      train_mode: "pretrain" (two views, with color distortion), "finetune" or "distill" (one,
        without).
      image_size: side of a view in pixels.
      color_jitter_strength: s in the paper's appendix A.
      color_jitter_impl: "simclrv2" or "simclrv1".
      augment_on_device: let the device do what can be computed on batches: flips, color distortion
        and, for small images of one size, crops.

    Raises:
      ConfigError: unknown train_mode.
    """

    train_mode: str
    image_size: int
    color_jitter_strength: float
    color_jitter_impl: str
    augment_on_device: bool = False

    def __post_init__(self) -> None:
        if self.train_mode not in TRAIN_MODES:
            raise ConfigError(f"train_mode must be one of {TRAIN_MODES}, got {self.train_mode!r}")

    @property
    def num_views(self) -> int:
        """Returns the number of views per image."""
        return num_views(self.train_mode)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns the shape of an image's views: (views, size, size, 3)."""
        return (self.num_views, self.image_size, self.image_size, 3)
