"""Every setting, once: its name, type, default, allowed values and help text.

A field's name is also the name of its command-line flag and of its gin parameter
(`Optimizer.learning_rate = 1.0`); flags.py generates both from this file. Names, types and defaults
are those of the official code; where ours differ, the field says so.
"""

import dataclasses
import functools
import json
import math
import operator
import os
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tf_simclr import paths
from tf_simclr.errors import ConfigError, did_you_mean


class Rule(NamedTuple):
    """What a value must satisfy: `must be {text}`."""

    text: str
    holds: Callable[[Any], bool]


def at_least(low) -> Rule:
    return Rule(f"at least {low}", lambda value: value >= low)


def between(low, high) -> Rule:
    return Rule(f"between {low} and {high}", lambda value: low <= value <= high)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


PRECISIONS = ("float32", "bfloat16", "float16")
POSITIVE = Rule("greater than 0", lambda value: value > 0)
SHARE = Rule("greater than 0 and at most 1", lambda value: 0 < value <= 1)
FRACTION = Rule("at least 0 and less than 1", lambda value: 0 <= value < 1)
OPEN_FRACTION = Rule("greater than 0 and less than 1", lambda value: 0 < value < 1)
NOT_EMPTY = Rule("not empty", lambda value: value != "")
REGEX = Rule("a valid regular expression", _compiles)
GRPC = Rule("grpc://HOST:PORT", lambda value: re.fullmatch(r"grpc://[^/:]+:\d+", value))
FILE_NAME = Rule(
    "made of letters, digits, '.', '_' and '-', at most 100 of them",
    lambda value: re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value),
)
NO_PATTERN = Rule(
    f"a path in UTF-8 without {' '.join(paths.PATTERN)} (TensorFlow takes these for patterns and "
    "would not find its files again: rename the directory, or make a link to it)",
    lambda value: paths.is_utf8(value) and not paths.is_pattern(value),
)
STEPS = Rule(
    "two steps FIRST,LAST with FIRST < LAST, such as 10,20",
    lambda value: re.fullmatch(r"\d+,\d+", value) and operator.lt(*map(int, value.split(","))),
)
IMAGE_RANGE = Rule(
    "two values LOW,HIGH with 0 <= LOW < HIGH <= 65535, such as 0,4095",
    lambda value: re.fullmatch(r"[0-9]{1,5},[0-9]{1,5}", value)
    and operator.lt(*map(int, value.split(",")))
    and int(value.split(",")[1]) <= 65535,
)
TABLE = Rule(
    "a file that ends in .csv, .parquet or .npy",
    lambda value: value.endswith((".csv", ".parquet", ".npy")),
)
DIRECTORY = Rule(
    "an existing directory, or a URL such as gs://bucket/folder",
    lambda value: "://" in value or os.path.isdir(value),
)


def setting(
    default,
    help,
    *,
    choices: tuple = (),
    check: Rule | None = None,
    saved: bool = True,
    is_path: bool = False,
):
    """Makes a dataclass field that is a setting.

    Args:
      choices: all allowed values; () for no such limit.
      check: what a value must satisfy.
      saved: False keeps it out of what a run saves.
      is_path: whether a leading ~ stands for a home directory.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "check": check,
        "saved": saved,
        "is_path": is_path,
    }
    return dataclasses.field(default=default, metadata=metadata)


class Section:
    """Base of the sections."""

    def __post_init__(self):
        # `width_multiplier=2` is how the official flag is written: an int stands for its float.
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif field.metadata["is_path"] and type(value) is str:
                object.__setattr__(self, field.name, paths.expand_home(value))


@dataclasses.dataclass(frozen=True)
class Data(Section):
    """Which images are read, and at what size."""

    dataset: str = setting(
        "imagenet2012",
        "Name of the data set, as TensorFlow Datasets knows it; "
        "imagenet2012_subset/1pct is the paper's 1% subset. folder: pictures "
        "in --data_dir, as SPLIT/CLASS/FILE.",
        check=NOT_EMPTY,
    )
    data_dir: str | None = setting(None, "Directory in which the data set lies.", is_path=True)
    unlabelled: bool = setting(
        False,
        "With --dataset=folder: pictures without labels. All in "
        "--data_dir, at any depth, are the split train.",
    )
    train_split: str = setting("train", "Split to train on.", check=NOT_EMPTY)
    eval_split: str = setting(
        "validation", "Split to evaluate on; CIFAR-10 calls it test.", check=NOT_EMPTY
    )
    label_fraction: float = setting(
        1.0,
        "Share of the training examples to fine-tune on, the same of every class (at least "
        "one). Finding them goes through the whole split, once with --cache_dataset, else in each "
        "epoch.",
        check=SHARE,
    )
    label_seed: int = setting(0, "Seed of the choice of label_fraction.", check=at_least(0))
    cache_dataset: bool = setting(
        False,
        "Keep the data set in memory: decoded where small images of one size are augmented "
        "in batches (--augment_on), which takes twice its size while it is read, else as stored.",
    )
    strict_data: bool = setting(
        False,
        "Stop at an example that cannot be decoded and name it. "
        "Else in training another stands in for it, evaluation leaves it "
        "out, and how many there were is said.",
    )
    image_range: str | None = setting(
        None,
        "LOW,HIGH: the values of 16-bit images that become black and white, e.g. 0,4095 for "
        "cameras of 12 bits. By default 0,65535. Images of 8 bits are left as they are.",
        check=IMAGE_RANGE,
    )
    max_megapixels: int = setting(
        256,
        "Largest picture of a folder (--dataset=folder, --images) that is used, in millions "
        "of pixels. A decoded megapixel takes 3 MB, in each of several threads.",
        check=between(1, 4000),
    )
    image_key: str | None = setting(
        None,
        'Feature of the TFDS data set that holds the image. Unset, the feature "image", or '
        "the first image that there is.",
        check=NOT_EMPTY,
    )
    label_key: str | None = setting(
        None,
        "Feature of the TFDS data set that holds the class, a ClassLabel. Unset, the one of "
        'its supervised keys, or the feature "label" or "labels".',
        check=NOT_EMPTY,
    )
    image_size: int = setting(
        224,
        "Side of the square input images, in pixels. 32 or less selects "
        "the small ResNet stem: 3x3 convolution, stride 1, no max pooling "
        "(SimCLR paper, appendix B.9).",
        check=at_least(8),
    )


@dataclasses.dataclass(frozen=True)
class Augment(Section):
    """How the two views of an image are made in pretraining."""

    color_jitter_strength: float = setting(
        1.0,
        "Strength s of the colour distortion: brightness, contrast and saturation 0.8s, hue "
        "0.2s (SimCLR paper, appendix A). The paper takes 0.5 on CIFAR-10.",
        check=at_least(0),
    )
    color_jitter_impl: str = setting(
        "simclrv2",
        "How brightness is jittered: by a factor (simclrv2) or by an added offset (simclrv1).",
        choices=("simclrv2", "simclrv1"),
    )
    augment_on: str = setting(
        "auto",
        "Where views are flipped and their colours distorted, and small images cropped: on "
        "the device in batches, or image by image on the host. auto takes the faster.",
        choices=("auto", "device", "host"),
    )
    use_blur: bool = setting(
        True,
        "Blur half of the views with a Gaussian whose kernel is a tenth "
        "of the image's side. The paper leaves it out on CIFAR-10.",
    )


@dataclasses.dataclass(frozen=True)
class Model(Section):
    """The backbone and its two heads."""

    resnet_depth: int = setting(50, "Depth of the ResNet.", choices=(18, 34, 50, 101, 152, 200))
    width_multiplier: float = setting(
        1.0,
        "Factor on the width of every layer of the backbone. Fractions are allowed (the "
        "official flag takes integers only).",
        check=POSITIVE,
    )
    sk_ratio: float = setting(
        0.0,
        "Selective kernels: bottleneck ratio, 0 for none. Also switches to the ResNet-D stem "
        "and shortcuts. SimCLRv2 takes 0.0625.",
        check=between(0, 1),
    )
    se_ratio: float = setting(
        0.0, "Squeeze-and-excitation: bottleneck ratio, 0 for none.", check=between(0, 1)
    )
    global_bn: bool = setting(
        True,
        "Batch normalisation over all replicas, not each its own, so "
        "that a replica cannot cheat (SimCLR paper, section 2.2).",
    )
    fused_batch_norm: bool = setting(
        False,
        "Batch normalisation by one fused operation in float32, too, where replicas share "
        "no statistics: faster, but its rounding is not the official code's, and deep networks let "
        "that difference grow. In half precision it is always fused.",
    )
    batch_norm_decay: float = setting(
        0.9, "Decay of the batch normalisation's moving averages.", check=OPEN_FRACTION
    )
    proj_head_mode: str = setting(
        "nonlinear",
        "Projection head between the backbone and the contrastive loss (SimCLR paper, "
        "section 4.2).",
        choices=("none", "linear", "nonlinear"),
    )
    proj_out_dim: int = setting(128, "Width of the projection head's output.", check=at_least(1))
    num_proj_layers: int = setting(
        3,
        "Layers of the nonlinear projection head. SimCLR has 2, SimCLRv2 has 3.",
        check=at_least(1),
    )
    ft_proj_selector: int = setting(
        0,
        "Layer that feeds the supervised head in fine-tuning: 0 the backbone's output, 1 after "
        "the projection head's first layer (SimCLRv2 paper, section 2), -1 its output.",
    )
    lineareval_while_pretraining: bool = setting(
        True,
        "Train a linear classifier on the side while pretraining; a stop-gradient keeps the "
        "labels away from the backbone.",
    )
    zero_init_logits_layer: bool = setting(
        False, "Zero the supervised head after --checkpoint is restored."
    )
    fine_tune_after_block: int = setting(
        -1,
        "What trains in fine-tuning: -1 everything, 0 all after the stem, 1 to 3 all after "
        "that block group, 4 the head alone (linear evaluation).",
        check=between(-1, 4),
    )
    frozen_batch_norm: str = setting(
        "inference",
        "How frozen blocks normalise: by their moving averages (inference: the paper "
        "and the TF1 code), or by the batch's statistics, updating the averages (training: the "
        "official TF2 code).",
        choices=("inference", "training"),
    )


@dataclasses.dataclass(frozen=True)
class Loss(Section):
    """The contrastive loss, NT-Xent."""

    temperature: float = setting(
        0.1,
        "Temperature of NT-Xent (SimCLR paper, section 5.1). 0.5 suits CIFAR-10.",
        check=POSITIVE,
    )
    hidden_norm: bool = setting(
        True, "Scale the projections to unit length before they are compared (cosine similarity)."
    )
    loss_block_rows: int = setting(
        0,
        "Rows of the similarity matrix that are in memory at a time; the result is the same. 0 "
        "chooses, the batch size or more takes the whole matrix.",
        check=at_least(0),
    )


@dataclasses.dataclass(frozen=True)
class Optimizer(Section):
    """The optimizer and its learning-rate schedule: warm-up, then cosine decay to 0."""

    optimizer: str = setting(
        "lars",
        "lars for large batches; momentum is SGD with Nesterov "
        "momentum; lamb is Adam with the trust ratio of lars.",
        choices=("momentum", "adam", "lars", "lamb"),
    )
    learning_rate: float = setting(0.3, "Peak learning rate before scaling.", check=POSITIVE)
    learning_rate_scaling: str = setting(
        "linear",
        "How the batch size B scales it: linear is learning_rate * B / 256, sqrt is "
        "learning_rate * sqrt(B) (SimCLR paper, appendix B.1).",
        choices=("linear", "sqrt"),
    )
    warmup_epochs: float = setting(
        10.0, "Epochs over which the learning rate rises from 0 to its peak.", check=at_least(0)
    )
    momentum: float = setting(0.9, "Momentum of lars and momentum.", check=FRACTION)
    weight_decay: float = setting(
        1e-6,
        "Weight decay. lars applies it in the update, to neither biases nor batch "
        "normalisation; the others as a term of the loss.",
        check=at_least(0),
    )


@dataclasses.dataclass(frozen=True)
class Training(Section):
    """What is trained for how long, from which checkpoint, and what is kept."""

    train_mode: str = setting(
        "pretrain",
        "pretrain: contrastive, without labels. finetune: "
        "supervised. distill: after a teacher, without labels.",
        choices=("pretrain", "finetune", "distill"),
    )
    train_batch_size: int = setting(
        512, "Images a step, over all replicas. SimCLR's main runs take 4096.", check=at_least(1)
    )
    microbatch_size: int = setting(
        0,
        "Images that a replica computes at a time, a divisor of its part of the batch; 0 for "
        "all of them. The gradient is that of the whole batch, in less memory, and pretraining "
        "computes each image twice. Batch normalisation sees single micro-batches, as if each "
        "were a replica with --global_bn=False.",
        check=at_least(0),
    )
    train_epochs: int = setting(
        100, "Epochs to train; ignored when --train_steps is given.", check=at_least(0)
    )
    train_steps: int = setting(0, "Steps to train; 0 goes by --train_epochs.", check=at_least(0))
    eval_batch_size: int = setting(
        256, "Images a batch in evaluation, over all replicas.", check=at_least(1)
    )
    eval_steps: int = setting(
        0, "Batches to evaluate on; 0 for the whole split.", check=at_least(0)
    )
    precision: str = setting(
        "float32",
        "Type in which the encoder computes. bfloat16 or float16 is mixed precision: "
        "weights, statistics of batch normalisation, heads, losses and optimizer stay float32, and "
        "checkpoints and SavedModels are the same for all. float16 scales the loss.",
        choices=PRECISIONS,
    )
    jit_compile: bool = setting(
        False,
        "Compile the step by XLA, on a single GPU or CPU; a TPU always does. It may be "
        "faster on a GPU, and takes a minute more to start.",
        saved=False,
    )
    profile_steps: str | None = setting(
        None,
        "FIRST,LAST: write a trace of the steps between for TensorBoard's profiler, in "
        "model_dir/plugins. The first step compiles, so begin later, e.g. 10,20.",
        check=STEPS,
        saved=False,
    )
    checkpoint: str | None = setting(
        None,
        "Checkpoint (file prefix or directory) whose weights a new run starts from. A run "
        "that has a checkpoint of its own in --model_dir continues from that.",
        check=NO_PATTERN,
        is_path=True,
    )
    from_scratch: bool = setting(
        False,
        "Fine-tune without --checkpoint, from a fresh initialisation: the supervised baseline.",
    )
    variable_schema: str | None = setting(
        None,
        "Regular expression that selects which variables of --checkpoint are restored, "
        "matched from the start of paths such as base_model/block_group1/block1/conv1/kernel or "
        "head_supervised/dense/bias. '(?!global_step|(?:.*/|^)Momentum|head)' is all but the "
        "heads.",
        check=REGEX,
    )
    checkpoint_epochs: int = setting(
        1,
        "Epochs between checkpoints; ignored when --checkpoint_steps is given.",
        check=at_least(0),
    )
    checkpoint_steps: int = setting(
        0, "Steps between checkpoints; 0 goes by --checkpoint_epochs.", check=at_least(0)
    )
    keep_checkpoint_max: int = setting(
        5, "How many of the latest checkpoints to keep.", check=at_least(1)
    )
    keep_hub_module_max: int = setting(
        1, "How many of the latest exported models to keep.", check=at_least(1)
    )
    eval_every_epochs: float = setting(
        0.0,
        "Epochs between evaluations while training; 0 evaluates at the end only. The "
        "checkpoint with the best top-1 accuracy is kept in model_dir/best, and exported to "
        "model_dir/saved_model_best at the end.",
        check=at_least(0),
    )
    train_summary_steps: int = setting(
        100,
        "Steps between training summaries; 0 for one at the end. Pictures go into the first, "
        "into every tenth after it, and into the last.",
        check=at_least(0),
    )
    eval_name: str | None = setting(
        None, "Name of the evaluation, when --model_dir holds several.", check=FILE_NAME
    )
    eval_timeout: float = setting(
        0.0,
        "Seconds that --mode=eval waits for a new checkpoint before it ends; 0 waits for ever.",
        check=at_least(0),
    )
    probe_summary: bool = setting(
        False,
        "After train_then_eval, compare linear probes of the raw pixels, the untrained and "
        "the trained encoder.",
    )


@dataclasses.dataclass(frozen=True)
class Distill(Section):
    """How train_mode=distill learns from a teacher (SimCLRv2 paper, section 2)."""

    teacher: str | None = setting(
        None,
        "SavedModel of a fine-tuned run, or the model_dir that holds it; the student gets "
        "its classes. Its graph is opened, which can read and write files.",
        check=NO_PATTERN,
        is_path=True,
    )
    distill_temperature: float = setting(
        1.0, "Temperature of the teacher's and the student's class probabilities.", check=POSITIVE
    )
    distill_label_weight: float = setting(
        0.0,
        "Weight of the true labels' loss beside the teacher's, 1 - alpha in the paper; 0 "
        "needs no labels.",
        check=FRACTION,
    )


@dataclasses.dataclass(frozen=True)
class Probe(Section):
    """Classifiers on the frozen encoder's features: mode=probe."""

    probe_baselines: bool = setting(False, "Raw pixels and an untrained encoder beside it.")
    probe_validation_split: str | None = setting(
        None,
        "Split on which the strength of the regularisation is chosen; unset, a tenth of "
        "--train_split.",
        check=NOT_EMPTY,
    )


@dataclasses.dataclass(frozen=True)
class Predict(Section):
    """Which pictures mode=predict looks at, and what it writes."""

    images: str | None = setting(
        None,
        "A folder of pictures, or a pattern in quotes ('pictures/**/*.jpg'); JPEG, PNG, "
        "WebP, BMP, GIF, TIFF, AVIF or JPEG 2000.",
        check=NOT_EMPTY,
        saved=False,
        is_path=True,
    )
    output: str = setting(
        "predictions.csv",
        "File to write: .csv or .parquet for the class probabilities, .npy for "
        "the embeddings (final_avg_pool), with the names of their files in FILE.npy.files.csv.",
        check=TABLE,
        saved=False,
        is_path=True,
    )


@dataclasses.dataclass(frozen=True)
class Runtime(Section):
    """What to do now, where, and on which devices."""

    mode: str = setting(
        "train",
        "train; eval (follow the checkpoints of a run until its last); train_then_eval; "
        "probe (logistic regression and nearest neighbours on the frozen features of "
        "--checkpoint, or of the run in --model_dir); or predict (what --checkpoint says of "
        "--images).",
        choices=("train", "eval", "train_then_eval", "probe", "predict"),
        saved=False,
    )
    model_dir: str | None = setting(
        None,
        "Directory of the run: checkpoints, summaries, results and config.json, from which a "
        "later start in the same directory takes its settings.",
        check=NO_PATTERN,
        saved=False,
        is_path=True,
    )
    seed: int | None = setting(
        None,
        "Seed of all randomness. Unset, one is drawn and written down in config.json.",
        check=between(0, 2**31 - 1),
    )
    strategy: str = setting(
        "auto",
        "auto: the devices of this machine. multi_worker: those of several, each running "
        "this command; TF_CONFIG or SLURM (srun) names them, and model_dir must be one directory "
        "that all of them see.",
        choices=("auto", "multi_worker"),
        saved=False,
    )
    use_tpu: bool | str = setting(
        "auto",
        "Train on a TPU. auto takes a TPU if there is one, else the GPUs, else the CPU "
        "(the official default is True).",
        choices=(True, False, "auto"),
        saved=False,
    )
    tpu_name: str | None = setting(None, "Name or grpc:// address of the Cloud TPU.", saved=False)
    tpu_zone: str | None = setting(
        None, "Zone of the Cloud TPU; unset, it is detected.", saved=False
    )
    gcp_project: str | None = setting(
        None, "Google Cloud project of the Cloud TPU; unset, it is detected.", saved=False
    )
    master: str | None = setting(
        None, "Address of the TPU worker (grpc://...), in place of tpu_name.", saved=False
    )
    data_service: str | None = setting(
        None,
        "Address of a tf.data service dispatcher (tools/data_service.py), grpc://HOST:PORT, "
        "whose workers then read, decode and augment the training images.",
        check=GRPC,
        saved=False,
    )
    cpu_replicas: int = setting(
        1,
        "On a machine without accelerators: split the CPU in this many "
        "replicas, to try out what many devices do.",
        check=at_least(1),
        saved=False,
    )


SECTIONS = (Data, Augment, Model, Loss, Optimizer, Training, Distill, Probe, Predict, Runtime)
_ARTICLES = {bool: "True or False", int: "an int", float: "a float", str: "a string"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of one section, described."""

    section: str
    name: str
    types: tuple[type, ...]
    optional: bool
    default: Any
    help: str
    choices: tuple
    check: Rule | None
    saved: bool
    is_path: bool

    def type_complaint(self, value) -> str | None:
        """What is wrong with the type of `value` ("must be an int, got 1.5"), or None."""
        # Not isinstance: True would pass for an int.
        if type(value) in self.types or (value is None and self.optional):
            return None
        if type(value) is int and self.types == (float,):
            return None
        expected = " or ".join(_ARTICLES[t] for t in self.types)
        return f"must be {expected}{' or None' if self.optional else ''}, got {value!r}"

    def complaint(self, value) -> str | None:
        """What is wrong with `value` ("must be at least 1, got 0"), or None."""
        wrong = self.type_complaint(value)
        if wrong or value is None:
            return wrong
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(map(str, self.choices))}, got {value!r}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"must be a finite number, got {value}"
        if self.is_path and paths.lacks_home(value):
            return (
                f"must begin with a home directory that is known, got {value!r}: write the "
                "path without ~, or ./~ for a name that begins so"
            )
        if self.check and not self.check.holds(value):
            return f"must be {self.check.text}, got {value!r}"
        return None


@functools.cache
def settings() -> dict[str, Setting]:
    """All settings by name, in the order of the sections."""
    found = {}
    for section in SECTIONS:
        for field in dataclasses.fields(section):
            types = typing.get_args(field.type) or (field.type,)
            found[field.name] = Setting(
                section=section.__name__,
                name=field.name,
                default=field.default,
                types=tuple(t for t in types if t is not type(None)),
                optional=type(None) in types,
                **field.metadata,
            )
    return found


@dataclasses.dataclass(frozen=True)
class Config:
    """One resolved configuration: a value for every setting."""

    data: Data = Data()
    augment: Augment = Augment()
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    distill: Distill = Distill()
    probe: Probe = Probe()
    predict: Predict = Predict()
    runtime: Runtime = Runtime()

    def items(self) -> Iterator[tuple[str, str, Any]]:
        """(section, name, value) of every setting, e.g. ('Loss', 'temperature', 0.1)."""
        for name, spec in settings().items():
            yield spec.section, name, getattr(getattr(self, spec.section.lower()), name)

    def to_dict(self) -> dict[str, Any]:
        """Values by flat name."""
        return {name: value for _, name, value in self.items()}

    def to_json(self) -> str:
        """All values by flat name, as flags.json holds them."""
        return json.dumps(self.to_dict(), indent=2)

    def replace(self, **values) -> "Config":
        """A copy with other values, by flat name: `config.replace(temperature=0.5)`.

        Raises:
            ConfigError: there is no setting of that name.
        """
        sections: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in settings():
                raise ConfigError(f"unknown setting {name}{did_you_mean(name, settings())}")
            sections.setdefault(settings()[name].section.lower(), {})[name] = value
        return dataclasses.replace(
            self,
            **{
                section: dataclasses.replace(getattr(self, section), **changes)
                for section, changes in sections.items()
            },
        )


def check_data_dir(config: Config) -> None:
    """Raises ConfigError where data_dir is no directory."""
    value = config.data.data_dir
    if value is not None and not DIRECTORY.holds(value):
        raise ConfigError(f"data_dir must be {DIRECTORY.text}, got {value!r}")


def check(config: Config) -> None:
    """Checks each value, then the combinations of values that cannot work.

    Raises:
        ConfigError: names the setting, its value and what it must be.
    """
    for _, name, value in config.items():
        wrong = settings()[name].complaint(value)
        if wrong:
            raise ConfigError(f"{name} {wrong}")
    model, training, runtime = config.model, config.training, config.runtime
    if runtime.strategy != "multi_worker":  # A worker that ended here would be waited for.
        check_data_dir(config)
    pretraining = training.train_mode == "pretrain"

    if pretraining and model.fine_tune_after_block != -1:
        raise ConfigError(
            "fine_tune_after_block must be -1 when pretraining, got "
            f"{model.fine_tune_after_block}; fine-tune with --train_mode=finetune"
        )
    if pretraining and training.train_batch_size < 2:
        raise ConfigError(
            "train_batch_size must be at least 2 when pretraining, got "
            f"{training.train_batch_size}: a batch of one has no negatives"
        )
    if config.data.unlabelled and config.data.dataset != "folder":
        raise ConfigError(
            f"unlabelled must be False with dataset={config.data.dataset}, got True: "
            "it is for --dataset=folder"
        )
    for name in ("image_key", "label_key"):
        if config.data.dataset in ("folder", "shapes") and (value := getattr(config.data, name)):
            raise ConfigError(
                f"{name} must be None with dataset={config.data.dataset}, got "
                f"{value!r}: it is for the features of a TFDS data set"
            )
    if config.data.dataset == "folder" and runtime.data_service:
        raise ConfigError(
            "data_service must be None with dataset=folder, got "
            f"{runtime.data_service!r}: pictures are decoded in the process that "
            "trains; or make a TFDS data set of them"
        )
    teacher = config.distill.teacher
    if training.train_mode == "distill" and not teacher:
        raise ConfigError(
            "teacher must be given with train_mode=distill, got None: name the "
            "SavedModel of a fine-tuned run, e.g. --teacher=runs/finetuned"
        )
    if teacher and training.train_mode != "distill":
        raise ConfigError(
            f"teacher must be None with train_mode={training.train_mode}, got "
            f"{teacher!r}: distill with --train_mode=distill"
        )
    if pretraining and config.data.label_fraction < 1:
        raise ConfigError(
            "label_fraction must be 1 with train_mode=pretrain, got "
            f"{config.data.label_fraction}: pretraining needs no labels, and takes "
            "a part of the images by --train_split='train[:10%]'"
        )
    if training.from_scratch and (pretraining or training.checkpoint):
        other = "train_mode=pretrain" if pretraining else f"checkpoint={training.checkpoint}"
        raise ConfigError(
            f"from_scratch must be False with {other}, got True: it is for "
            "fine-tuning without a checkpoint"
        )
    # Endpoints of the projection head: its input, then the output of each layer.
    layers = {"none": 0, "linear": 1, "nonlinear": model.num_proj_layers}[model.proj_head_mode]
    if not -1 <= model.ft_proj_selector <= layers:
        raise ConfigError(
            f"ft_proj_selector must be between -1 and {layers} with "
            f"proj_head_mode={model.proj_head_mode}, got {model.ft_proj_selector}"
        )
    if not training.train_epochs and not training.train_steps:
        raise ConfigError("train_epochs or train_steps must be at least 1, got 0 for both")
    if not training.checkpoint_epochs and not training.checkpoint_steps:
        raise ConfigError(
            "checkpoint_epochs or checkpoint_steps must be at least 1, got 0 for "
            "both: nothing would be saved"
        )
    if runtime.strategy == "multi_worker":
        if runtime.mode in ("eval", "probe", "predict"):
            raise ConfigError(
                f"strategy must be auto with mode={runtime.mode}, got multi_worker: "
                "one process looks at the checkpoints of all"
            )
        if runtime.use_tpu is True or runtime.cpu_replicas > 1:
            other = "cpu_replicas" if runtime.cpu_replicas > 1 else "use_tpu"
            raise ConfigError(
                f"strategy must be auto with {other}, got multi_worker: its workers "
                "take their GPUs, or their CPU as one replica"
            )
    if runtime.mode == "predict":
        if not config.predict.images:
            raise ConfigError(
                "images must be given with mode=predict, got None: name a folder of "
                "pictures, e.g. --images=pictures"
            )
        if not (training.checkpoint or runtime.model_dir):
            raise ConfigError(
                "checkpoint must be given with mode=predict, got None: name a "
                "SavedModel, a checkpoint or a model_dir"
            )
    elif config.predict.images:
        raise ConfigError(
            f"images must be None with mode={runtime.mode}, got "
            f"{config.predict.images!r}: it is for --mode=predict"
        )
    if runtime.mode in ("eval", "probe") and not runtime.model_dir:
        raise ConfigError(
            f"model_dir must be given with mode={runtime.mode}, got None; pass the "
            f"directory of the run to {runtime.mode.replace('eval', 'evaluate')} as "
            "--model_dir"
        )
    if runtime.mode == "eval":
        if pretraining and not model.lineareval_while_pretraining:
            raise ConfigError(
                "lineareval_while_pretraining must be True with mode=eval and "
                "train_mode=pretrain, got False: there is no supervised head to "
                "evaluate; train one with --train_mode=finetune"
            )
