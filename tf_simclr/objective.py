"""What is trained: from a Config to the loss of one step and its metrics, for each train_mode."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_simclr import build
from tf_simclr.checkpoints.teacher import Teacher
from tf_simclr.config import Config
from tf_simclr.data.augment import blur, on_device
from tf_simclr.data.batch import CropBatch, ImageBatch, TrainBatch, ViewBatch, num_views
from tf_simclr.devices.replicas import replica_id
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training import microbatch, steps

# Keep the random numbers of the step's parts apart.
BLUR_STREAM, DEVICE_STREAM = 1, 2


@dataclasses.dataclass(frozen=True)
class Objective:
    """What one step minimises.

    Attributes:
      metrics: names of what a step returns, total_loss among them.
      differentiate: (TrainBatch, trainable variables, scale=1.0) -> {metric: ()} and gradients,
        on one replica, as `steps.gradients` returns them.
      preview: (TrainBatch, number) -> float32 (number, s, s, 3), first views of the first images
        as they are augmented, but for the blur.
    """

    metrics: tuple[str, ...]
    differentiate: Callable[[TrainBatch, Sequence], tuple[dict[str, tf.Tensor], list]]
    preview: Callable[[TrainBatch, int], tf.Tensor]


def make_objective(
    config: Config,
    model: SimCLR,
    optimizer,
    *,
    teacher: Teacher | None = None,
    compile_augmentation: bool = False,
) -> Objective:
    """The objective of config.training.train_mode.

    Args:
      config: its seed must be set.
      model: to be trained.
      optimizer: of the model; its iterations are the step number.
      teacher: for train_mode=distill.
      compile_augmentation: by XLA, whatever becomes of the step: a CPU needs it.
    """
    augmentation = Augmentation(config, optimizer, compiled=compile_augmentation)
    if config.training.train_mode == "pretrain":
        made = _pretraining(config, model, augmentation)
    else:
        made = _supervised(config, model, teacher, augmentation)
    if config.training.precision == "float16":
        return dataclasses.replace(made, metrics=made.metrics + steps.SCALED_METRICS)
    return made


def _supervised(config: Config, model: SimCLR, teacher, augmentation: "Augmentation") -> Objective:
    decay = _decay(config, model)
    if config.training.train_mode == "finetune":
        metrics, loss = steps.FINETUNE_METRICS, functools.partial(steps.finetune_loss, model)
    else:
        label_weight = config.distill.distill_label_weight
        supervised = steps.SUPERVISED_METRICS if label_weight else ()
        metrics = steps.DISTILL_METRICS + supervised
        loss = functools.partial(
            steps.distill_loss,
            model,
            teacher,
            temperature=config.distill.distill_temperature,
            label_weight=label_weight,
        )

    has_labels = steps.SUPERVISED_METRICS[0] in metrics

    def differentiate(batch, trainable, scale=1.0):
        def of_part(batch, targets, place):
            (view,) = augmentation.views(batch, place)
            return loss(view, targets, **decay)

        targets = steps.Targets.of(batch.labels) if has_labels else ()
        if size := _microbatch(config):
            return microbatch.accumulated_gradients(
                of_part,
                batch,
                targets,
                trainable,
                size=size,
                metric_names=metrics,
                averages=model.moving_averages(),
                scale=scale,
            )
        return steps.gradients(
            lambda: of_part(batch, targets, replica_id()), trainable, scale=scale
        )

    return Objective(metrics, differentiate, augmentation.preview)


def _pretraining(config: Config, model: SimCLR, augmentation: "Augmentation") -> Objective:
    loss = functools.partial(
        steps.pretrain_loss,
        temperature=config.loss.temperature,
        hidden_norm=config.loss.hidden_norm,
        block_rows=config.loss.loss_block_rows,
        **_decay(config, model),
    )

    def outputs(batch, place):
        return steps.pretrain_outputs(model, augmentation.views(batch, place))

    def differentiate(batch, trainable, scale=1.0):
        targets = None if model.supervised_head is None else steps.Targets.of(batch.labels)
        if size := _microbatch(config):
            return microbatch.cached_gradients(
                outputs,
                loss,
                batch,
                targets,
                trainable,
                size=size,
                widths=model.output_widths(),
                averages=model.moving_averages(),
                scale=scale,
            )
        return steps.gradients(
            lambda: loss(outputs(batch, replica_id()), targets), trainable, scale=scale
        )

    supervised = steps.SUPERVISED_METRICS if model.supervised_head is not None else ()
    return Objective(steps.PRETRAIN_METRICS + supervised, differentiate, augmentation.preview)


def _decay(config: Config, model: SimCLR) -> dict:
    return dict(
        decayed=policy.loss_decay_variables(model, config.optimizer.optimizer),
        weight_decay=config.optimizer.weight_decay,
    )


def _microbatch(config: Config) -> int:
    """Images of a micro-batch; 0 where a replica's images are one."""
    several = build.num_microbatches(config, tf.distribute.get_strategy()) > 1
    return config.training.microbatch_size if several else 0


class Augmentation:
    """The device's part of the augmentation.

    Its randomness derives from the seed, the step, the view's number and a place, which is the
    replica's number, or that of the micro-batch among those of all replicas.
    """

    def __init__(self, config: Config, optimizer, *, compiled: bool):
        self._config, self._optimizer, self._compiled = config, optimizer, compiled
        self._from_crops, self._from_images = self._crops_distorted, self._images_distorted
        if compiled:
            compile_ = functools.partial(tf.function, jit_compile=True, autograph=False)
            self._from_crops = compile_(self._from_crops)
            self._from_images = compile_(self._from_images)

    def views(self, batch: TrainBatch, place) -> list[tf.Tensor]:
        """Two views of each image in pretraining, else one: float32 (n, s, s, 3) in [0, 1]."""
        pretraining = self._config.training.train_mode == "pretrain"
        numbers = range(num_views(self._config.training.train_mode))
        views = [self._view(batch, k, self._seed(DEVICE_STREAM, place, k)) for k in numbers]
        if pretraining and self._config.augment.use_blur:
            size = self._config.data.image_size
            views = [
                blur.random_blur(view, self._seed(BLUR_STREAM, place, k), image_size=size)
                for k, view in enumerate(views)
            ]
        return views

    def preview(self, batch: TrainBatch, number: int) -> tf.Tensor:
        """First views of the first images, not blurred: float32 (number, s, s, 3).

        What the device does is done again. Where it is compiled, which takes seconds, the preview
        calls it for as many images as the step does; elsewhere it spares the memory.
        """
        made = (_microbatch(self._config) or None) if self._compiled else number
        first = tf.nest.map_structure(lambda part: part[:made], batch)
        return self._view(first, 0, self._seed(DEVICE_STREAM, 0, 0))[:number]

    def _view(self, batch: TrainBatch, k: int, seed) -> tf.Tensor:
        """The view with the number k of each image, but for the blur."""
        if isinstance(batch, ViewBatch):
            return batch.views[:, k]
        if isinstance(batch, CropBatch):
            return self._from_crops(batch.crops[:, k], seed)
        assert isinstance(batch, ImageBatch)
        return self._from_images(batch.images, batch.boxes[:, k], seed)

    def _crops_distorted(self, crops: tf.Tensor, seed) -> tf.Tensor:
        flip_seed, color_seed = _split(seed)
        flips = on_device.random_flips(crops.shape[0], flip_seed)
        return self._colored(on_device.flip(on_device.to_float(crops), flips), color_seed)

    def _images_distorted(self, images: tf.Tensor, boxes: tf.Tensor, seed) -> tf.Tensor:
        flip_seed, color_seed = _split(seed)
        flips = on_device.random_flips(images.shape[0], flip_seed)
        size = self._config.data.image_size
        return self._colored(on_device.crop_and_resize(images, boxes, flips, size), color_seed)

    def _colored(self, view: tf.Tensor, seed) -> tf.Tensor:
        if self._config.training.train_mode != "pretrain":
            return view
        settings = self._config.augment
        return on_device.color_distortion(
            view,
            seed,
            strength=settings.color_jitter_strength,
            impl=settings.color_jitter_impl,
        )

    def _seed(self, stream: int, place, number: int) -> tf.Tensor:
        seed = tf.constant([self._config.runtime.seed, stream], tf.int32)
        for part in (self._optimizer.iterations, place, number):
            # Philox as in random_blur: the same numbers on every device, with XLA and without.
            seed = tf.random.experimental.stateless_fold_in(
                seed, tf.cast(part, tf.int32), alg="philox"
            )
        return seed


def _split(seed) -> list[tf.Tensor]:
    return tf.unstack(tf.random.experimental.stateless_split(seed, 2, alg="philox"))
