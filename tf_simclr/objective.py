"""What is trained: from a Config to the loss of one step and its metrics, for each train_mode."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_simclr import build
from tf_simclr.checkpoints.teacher import Teacher
from tf_simclr.config import Config
from tf_simclr.data.augment import host, on_device
from tf_simclr.data.pipeline import batch_spec
from tf_simclr.devices.replicas import replica_id
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training import microbatch, steps

# Keep the random numbers of the step's parts apart.
BLUR_STREAM, DEVICE_STREAM = 1, 2


@dataclasses.dataclass(frozen=True)
class Objective:
    """What one step minimises.

    Images are as `pipeline.train_batches` gives them, whichever way.

    Attributes:
      metrics: names of what a step returns, total_loss among them.
      differentiate: (images, one-hot labels (n, classes), trainable variables, scale=1.0) ->
        {metric: ()} and gradients, on one replica, as `steps.gradients` returns them.
      preview: (images, number) -> float32 (number, s, s, 3), first views of the first images as
        they are augmented, but for the blur.
    """

    metrics: tuple[str, ...]
    differentiate: Callable[[tf.Tensor, tf.Tensor, Sequence], tuple[dict[str, tf.Tensor], list]]
    preview: Callable[[tf.Tensor, int], tf.Tensor]


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

    def differentiate(images, labels, trainable, scale=1.0):
        def of_part(images, targets, place):
            (view,) = augmentation.views(images, place)
            return loss(view, targets, **decay)

        targets = steps.Targets.of(labels) if has_labels else ()
        if size := _microbatch(config):
            return microbatch.accumulated_gradients(
                of_part,
                images,
                targets,
                trainable,
                size=size,
                metric_names=metrics,
                averages=model.moving_averages(),
                scale=scale,
            )
        return steps.gradients(
            lambda: of_part(images, targets, replica_id()), trainable, scale=scale
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

    def outputs(images, place):
        return steps.pretrain_outputs(model, augmentation.views(images, place))

    def differentiate(images, labels, trainable, scale=1.0):
        targets = None if model.supervised_head is None else steps.Targets.of(labels)
        if size := _microbatch(config):
            return microbatch.cached_gradients(
                outputs,
                loss,
                images,
                targets,
                trainable,
                size=size,
                widths=model.output_widths(),
                averages=model.moving_averages(),
                scale=scale,
            )
        return steps.gradients(
            lambda: loss(outputs(images, replica_id()), targets), trainable, scale=scale
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
        self._on_device = self._distorted
        if compiled:
            self._on_device = tf.function(self._distorted, jit_compile=True, autograph=False)

    def views(self, images, place) -> list[tf.Tensor]:
        """Two views of images in pretraining, else one: float32 (n, s, s, 3) in [0, 1]."""
        pretraining = self._config.training.train_mode == "pretrain"
        numbers = range(batch_spec.num_views(self._config.training.train_mode))
        if isinstance(images, dict):
            views = [
                self._on_device(self._part(images, k), self._seed(DEVICE_STREAM, place, k))
                for k in numbers
            ]
        else:
            views = tf.unstack(images, axis=1)
        if pretraining and self._config.augment.use_blur:
            size = self._config.data.image_size
            views = [
                host.random_blur(view, self._seed(BLUR_STREAM, place, k), image_size=size)
                for k, view in enumerate(views)
            ]
        return views

    def preview(self, images, number: int) -> tf.Tensor:
        """First views of the first images, not blurred: float32 (number, s, s, 3).

        What the device does is done again. Where it is compiled, which takes seconds, the preview
        calls it for as many images as the step does; elsewhere it spares the memory.
        """
        if not isinstance(images, dict):
            return images[:number, 0]
        made = (_microbatch(self._config) or None) if self._compiled else number
        first = {name: value[:made] for name, value in self._part(images, 0).items()}
        return self._on_device(first, self._seed(DEVICE_STREAM, 0, 0))[:number]

    @staticmethod
    def _part(images: dict, k: int) -> dict:
        """What the view with the number k is made of."""
        if "boxes" in images:
            return {"images": images["images"], "boxes": images["boxes"][:, k]}
        return {"images": images["images"][:, k]}

    def _distorted(self, images: dict, seed) -> tf.Tensor:
        flip_seed, color_seed = tf.unstack(
            tf.random.experimental.stateless_split(seed, 2, alg="philox")
        )
        n = images["images"].shape[0]
        view = self._cropped(images, on_device.random_flips(n, flip_seed))
        if self._config.training.train_mode != "pretrain":
            return view
        settings = self._config.augment
        return on_device.color_distortion(
            view,
            color_seed,
            strength=settings.color_jitter_strength,
            impl=settings.color_jitter_impl,
        )

    def _cropped(self, images: dict, flips) -> tf.Tensor:
        pixels = images["images"]
        if "boxes" in images:
            size = self._config.data.image_size
            return on_device.crop_and_resize(pixels, images["boxes"], flips, size)
        return on_device.flip(on_device.to_float(pixels), flips)

    def _seed(self, stream: int, place, number: int) -> tf.Tensor:
        seed = tf.constant([self._config.runtime.seed, stream], tf.int32)
        for part in (self._optimizer.iterations, place, number):
            # Philox as in random_blur: the same numbers on every device, with XLA and without.
            seed = tf.random.experimental.stateless_fold_in(
                seed, tf.cast(part, tf.int32), alg="philox"
            )
        return seed
