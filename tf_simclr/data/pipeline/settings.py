"""What the training stream is made of: which examples, in batches of which size, as which views."""

import dataclasses

from tf_simclr.config.choices import TRAIN_MODES
from tf_simclr.data.batch import num_views
from tf_simclr.data.pipeline.service import Service
from tf_simclr.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of the work that one of several input pipelines does.

    Attributes:
      index: number of this input pipeline, from 0.
      count: how many input pipelines share the split; each reads an equal part of it.
    """

    index: int = 0
    count: int = 1


WHOLE_SPLIT = Shard()


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """Which examples a training stream holds, in which order.

    Attributes:
      split: TFDS split.
      batch_size: examples of one batch of this shard.
      global_batch_size: examples of a training step, over all shards.
      seed: of the order and the views.
      start_example: number of examples of this shard that were consumed before, in whole steps.
        Epochs before it are not read. In the epoch that contains it, the examples before it are
        read but not decoded.
      cache: keep the examples in memory after the first epoch: encoded, or decoded where the device
        crops them.
      strict: raise an error for an example that cannot be decoded. Without it another example
        stands in (`undecodable`).
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
        """Examples of a training step in this shard."""
        return self.global_batch_size // self.shard.count


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """Which views are made of an image, and where.

    Attributes:
      train_mode: "pretrain" (two views, with color distortion), "finetune" or "distill" (one,
        without).
      image_size: side of a view in pixels.
      color_jitter_strength: s of the paper's appendix A.
      color_jitter_impl: "simclrv2" or "simclrv1".
      augment_on_device: leave to the device what can be computed on batches: flips and color
        distortion, and for small images of one size the crops as well.

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
        """How many views of an image are made."""
        return num_views(self.train_mode)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of an image's views: (views, size, size, 3)."""
        return (self.num_views, self.image_size, self.image_size, 3)
