"""Declares every setting, by section: type, default, allowed values and help text.

A field's name is also the name of its command-line flag and of its gin parameter
(`Optimizer.learning_rate = 1.0`). tf_simclr/cli creates both from this file. Settings that the
official code has keep its names, types and defaults, unless the help text says otherwise.
"""

import dataclasses
import functools

from tf_simclr.config import choices
from tf_simclr.config.setting import (
    FILE_NAME,
    FRACTION,
    GRPC,
    IMAGE_RANGE,
    NO_PATTERN,
    NOT_EMPTY,
    OPEN_FRACTION,
    POSITIVE,
    REGEX,
    SHARE,
    STEPS,
    TABLE,
    Section,
    Setting,
    at_least,
    between,
    setting,
    settings_of,
)


@dataclasses.dataclass(frozen=True)
class Data(Section):
    """The data set, its splits and labels, and the size of the images."""

    dataset: str = setting(
        "imagenet2012",
        "Name of a TensorFlow Datasets (TFDS) data set, such as cifar10. "
        "imagenet2012_subset/1pct is the SimCLR paper's 1% subset. Or folder: image files in "
        "--data_dir, as SPLIT/CLASS/FILE. Or shapes: a small data set drawn by this program.",
        constraint=NOT_EMPTY,
    )
    data_dir: str | None = setting(
        None,
        "Directory that holds the data set. If unset, the default of TFDS: TFDS_DATA_DIR in the "
        "environment, or ~/tensorflow_datasets. --dataset=folder needs it.",
        is_path=True,
    )
    unlabelled: bool = setting(
        False,
        "Read a folder of images without labels: every image in --data_dir, at any depth, "
        "belongs to the split train.",
    )
    train_split: str = setting("train", "Split to train on.", constraint=NOT_EMPTY)
    eval_split: str = setting(
        "validation", "Split to evaluate on. Use test for CIFAR-10.", constraint=NOT_EMPTY
    )
    label_fraction: float = setting(
        1.0,
        "Fraction of the training examples to fine-tune on: the same fraction of every class, at "
        "least one example each. Selecting them reads the full split: once with --cache_dataset, "
        "otherwise in every epoch.",
        constraint=SHARE,
    )
    label_seed: int = setting(
        0, "Seed that selects the examples of --label_fraction.", constraint=at_least(0)
    )
    cache_dataset: bool | str = setting(
        "auto",
        "Keep the training images in memory. Small images of one size that are augmented in "
        "batches (--augment_on) are kept decoded, which needs twice the memory while loading. All "
        "other images are kept as stored. auto does so if they need at most a quarter of the free "
        "memory, if the run is longer than one epoch, and if their order does not change: they are "
        "in one file of TFDS, and no tf.data service reads them.",
        choices=choices.CACHE_DATASET,
    )
    strict_data: bool = setting(
        False,
        "Stop at the first example that cannot be decoded, and name it. By default training "
        "replaces it with another example, evaluation skips it, and the number of such examples "
        "is reported.",
    )
    image_range: str | None = setting(
        None,
        "LOW,HIGH: the values of a 16-bit image that become black and white, e.g. 0,4095 for a "
        "12-bit camera. If unset, 0,65535. 8-bit images are not affected.",
        constraint=IMAGE_RANGE,
    )
    max_megapixels: int = setting(
        256,
        "Largest image file to use, in millions of pixels (--dataset=folder and --images). "
        "Decoding takes 3 MB per megapixel in each of several threads.",
        constraint=between(1, 4000),
    )
    image_key: str | None = setting(
        None,
        'Feature of the TFDS data set that holds the image. If unset, the feature "image" if there '
        "is one, otherwise the first image feature.",
        constraint=NOT_EMPTY,
    )
    label_key: str | None = setting(
        None,
        "Feature of the TFDS data set that holds the class, a ClassLabel. If unset, the label of "
        'its supervised keys, otherwise the feature "label" or "labels".',
        constraint=NOT_EMPTY,
    )
    image_size: int = setting(
        224,
        "Side of the square input images, in pixels. 32 or less selects the small ResNet stem: "
        "3x3 convolution, stride 1, no max pooling (SimCLR paper, appendix B.9).",
        constraint=at_least(8),
    )


@dataclasses.dataclass(frozen=True)
class Augment(Section):
    """How training images are augmented."""

    color_jitter_strength: float = setting(
        1.0,
        "Strength s of the color distortion: 0.8s for brightness, contrast and saturation, 0.2s "
        "for hue (SimCLR paper, appendix A). The paper uses 0.5 on CIFAR-10.",
        constraint=at_least(0),
    )
    color_jitter_impl: str = setting(
        "simclrv2",
        "How to jitter the brightness: multiply by a factor (simclrv2) or add an offset "
        "(simclrv1).",
        choices=choices.JITTER_IMPLS,
    )
    augment_on: str = setting(
        "auto",
        "Where to flip the views, distort their colors, and crop small images: on the device in "
        "batches, or on the host one image at a time. auto chooses the faster.",
        choices=choices.AUGMENT_ON,
    )
    use_blur: bool = setting(
        True,
        "Blur half of the views with a Gaussian kernel of a tenth of the image's side. The SimCLR "
        "paper does not blur on CIFAR-10.",
    )


@dataclasses.dataclass(frozen=True)
class Model(Section):
    """The backbone, the projection head and the supervised head."""

    resnet_depth: int = setting(50, "Depth of the ResNet.", choices=choices.RESNET_DEPTHS)
    width_multiplier: float = setting(
        1.0,
        "Factor on the width of every layer of the backbone. Fractions are allowed (the official "
        "flag accepts integers only).",
        constraint=POSITIVE,
    )
    sk_ratio: float = setting(
        0.0,
        "Bottleneck ratio of the selective kernels; 0 for none. Any other value also selects the "
        "ResNet-D stem and shortcuts. SimCLRv2 uses 0.0625.",
        constraint=between(0, 1),
    )
    se_ratio: float = setting(
        0.0,
        "Bottleneck ratio of squeeze-and-excitation; 0 for none.",
        constraint=between(0, 1),
    )
    max_pool_padding: str = setting(
        "same",
        "How the stem pads its max pooling: after the image only if the side is even (same, as in "
        "TensorFlow and the official code), or by one pixel on each side (symmetric, as in "
        "PyTorch). --checkpoint sets it for PyTorch files.",
        choices=choices.MAX_POOL_PADDINGS,
    )
    input_normalization: str = setting(
        "none",
        "Mean to subtract from each color of the images, in [0, 1], and deviation to divide by, as "
        "the first layer of the network: none (SimCLR), those of ImageNet as in torchvision, or "
        "those of CIFAR-10. --checkpoint sets it for PyTorch files.",
        choices=choices.INPUT_NORMALIZATIONS,
    )
    first_shortcut: str = setting(
        "projection",
        "Shortcut of the very first block of ResNet-18 and 34: a projection as in the official "
        "code, or the identity as in the ResNet paper (arXiv:1512.03385) and torchvision.",
        choices=choices.FIRST_SHORTCUTS,
    )
    global_bn: bool = setting(
        True,
        "Batch normalization with the statistics of all replicas, not of each replica alone. This "
        "keeps the model from exploiting the statistics of a replica (SimCLR paper, section 2.2).",
    )
    fused_batch_norm: bool = setting(
        True,
        "Use fused batch normalization for training in float32. It is faster, and no less "
        "accurate. False gives the roundings of the official code. Half precision always uses it. "
        "If replicas share statistics (global_bn on several replicas), training never uses it.",
    )
    batch_norm_decay: float = setting(
        0.9, "Decay of the moving averages of batch normalization.", constraint=OPEN_FRACTION
    )
    proj_head_mode: str = setting(
        "nonlinear",
        "Projection head between the backbone and the contrastive loss (SimCLR paper, "
        "section 4.2).",
        choices=choices.PROJECTION_MODES,
    )
    proj_out_dim: int = setting(
        128, "Width of the projection head's output.", constraint=at_least(1)
    )
    num_proj_layers: int = setting(
        3,
        "Layers of the nonlinear projection head: 2 in SimCLR, 3 in SimCLRv2.",
        constraint=at_least(1),
    )
    ft_proj_selector: int = setting(
        0,
        "Input of the supervised head in fine-tuning: 0 for the output of the backbone, 1 for the "
        "first layer of the projection head (SimCLRv2 paper, section 2), -1 for its last.",
    )
    lineareval_while_pretraining: bool = setting(
        True,
        "Train a linear classifier during pretraining. A stop-gradient keeps the labels from "
        "influencing the backbone.",
    )
    zero_init_logits_layer: bool = setting(
        False, "Reset the supervised head to zero after --checkpoint is restored."
    )
    fine_tune_after_block: int = setting(
        -1,
        "What fine-tuning trains: -1 for everything, 0 for everything after the stem, 1 to 3 for "
        "everything after that block group, 4 for the supervised head only (linear evaluation).",
        constraint=between(-1, 4),
    )
    frozen_batch_norm: str = setting(
        "inference",
        "How frozen blocks normalize: by their moving averages (inference, as in the SimCLR paper "
        "and the official TF1 code), or by the statistics of the batch, which also update the "
        "averages (training, as in the official TF2 code).",
        choices=choices.FROZEN_BATCH_NORM,
    )


@dataclasses.dataclass(frozen=True)
class Loss(Section):
    """The contrastive loss, NT-Xent."""

    temperature: float = setting(
        0.1,
        "Temperature of NT-Xent (SimCLR paper, section 5.1). 0.5 works well on CIFAR-10.",
        constraint=POSITIVE,
    )
    hidden_norm: bool = setting(
        True, "Normalize the projections to unit length, which compares them by cosine similarity."
    )
    loss_block_rows: int = setting(
        0,
        "Rows of the similarity matrix to hold in memory at a time. The result is the same. 0 "
        "chooses automatically. With a replica's batch size or more, the matrix is computed "
        "in one piece.",
        constraint=at_least(0),
    )


@dataclasses.dataclass(frozen=True)
class Optimizer(Section):
    """The optimizer and its learning-rate schedule: linear warm-up, then cosine decay to 0."""

    optimizer: str = setting(
        "lars",
        "The optimizer. lars is for large batches; momentum is SGD with Nesterov momentum; lamb is "
        "Adam with the trust ratio of lars.",
        choices=choices.OPTIMIZERS,
    )
    learning_rate: float = setting(0.3, "Peak learning rate before scaling.", constraint=POSITIVE)
    learning_rate_scaling: str = setting(
        "linear",
        "How the peak learning rate grows with the batch size B: learning_rate * B / 256 (linear) "
        "or learning_rate * sqrt(B) (sqrt) (SimCLR paper, appendix B.1).",
        choices=choices.SCALINGS,
    )
    warmup_epochs: float = setting(
        10.0,
        "Epochs over which the learning rate rises from 0 to its peak.",
        constraint=at_least(0),
    )
    momentum: float = setting(
        0.9, "Momentum of the optimizers lars and momentum.", constraint=FRACTION
    )
    weight_decay: float = setting(
        1e-6,
        "Weight decay, as in the official code. lars decays the kernels of the backbone and of the "
        "projection head in its update, and the kernel of the supervised head by a term of the "
        "loss, but no biases. With any other optimizer, terms of the loss decay all kernels and "
        "biases. Batch normalization never decays.",
        constraint=at_least(0),
    )


@dataclasses.dataclass(frozen=True)
class Training(Section):
    """The task, the length of training, evaluation, checkpoints and summaries."""

    train_mode: str = setting(
        "pretrain",
        "What to train. pretrain: contrastive learning without labels. finetune: supervised "
        "training. distill: learning from a teacher, with or without labels.",
        choices=choices.TRAIN_MODES,
    )
    train_batch_size: int = setting(
        512,
        "Images per training step, over all replicas. The main results of SimCLR use 4096.",
        constraint=at_least(1),
    )
    microbatch_size: int = setting(
        0,
        "Images that a replica processes at a time; it must divide the replica's part of the "
        "batch. 0 processes all at once. The loss and its gradient still use the full batch, but "
        "need less memory; pretraining then runs each image forward twice. Batch normalization "
        "uses the statistics of one micro-batch, as if each were a replica with "
        "--global_bn=False.",
        constraint=at_least(0),
    )
    train_epochs: int = setting(
        100, "Epochs to train. Ignored unless --train_steps is 0.", constraint=at_least(0)
    )
    train_steps: int = setting(0, "Steps to train; 0 uses --train_epochs.", constraint=at_least(0))
    eval_batch_size: int = setting(
        256, "Images per evaluation batch, over all replicas.", constraint=at_least(1)
    )
    eval_steps: int = setting(
        0, "Number of batches to evaluate; 0 for the full split.", constraint=at_least(0)
    )
    precision: str = setting(
        "float32",
        "Number format in which the encoder computes. bfloat16 and float16 are mixed precision: "
        "weights, batch normalization statistics, heads, losses and the optimizer stay in float32, "
        "and checkpoints and SavedModels are interchangeable. float16 also scales the loss.",
        choices=choices.PRECISIONS,
    )
    jit_compile: bool = setting(
        False,
        "Compile the training step with XLA on a single GPU or CPU (TPUs always do). It may be "
        "faster on a GPU, and takes longer to start.",
        saved=False,
    )
    profile_steps: str | None = setting(
        None,
        "FIRST,LAST: record a trace of these steps for TensorBoard's profiler, in "
        "model_dir/plugins. The first step compiles, so start later, e.g. 10,20.",
        constraint=STEPS,
        saved=False,
    )
    checkpoint: str | None = setting(
        None,
        "Checkpoint (file prefix, model_dir or SavedModel; ours or the official TF2 code's) that a "
        "new run takes its weights from. A run that already has a checkpoint in --model_dir "
        "resumes from that instead.",
        constraint=NO_PATTERN,
        is_path=True,
    )
    from_scratch: bool = setting(
        False,
        "Fine-tune from a random initialization, without --checkpoint: the supervised baseline.",
    )
    variable_schema: str | None = setting(
        None,
        "Regular expression that selects the variables to restore from --checkpoint. It is "
        "matched from the start of paths such as base_model/block_group1/block1/conv1/kernel or "
        "head_supervised/dense/bias. '(?!global_step|(?:.*/|^)Momentum|head)' selects everything "
        "except the heads.",
        constraint=REGEX,
    )
    checkpoint_epochs: int = setting(
        1,
        "Epochs between checkpoints. Ignored unless --checkpoint_steps is 0.",
        constraint=at_least(0),
    )
    checkpoint_steps: int = setting(
        0, "Steps between checkpoints; 0 uses --checkpoint_epochs.", constraint=at_least(0)
    )
    keep_checkpoint_max: int = setting(
        5, "Number of checkpoints to keep; older ones are deleted.", constraint=at_least(1)
    )
    keep_hub_module_max: int = setting(
        1, "Number of exported SavedModels to keep; older ones are deleted.", constraint=at_least(1)
    )
    eval_every_epochs: float = setting(
        0.0,
        "Epochs between evaluations during training; 0 evaluates only at the end. The checkpoint "
        "with the best top-1 accuracy (--best_metric) is kept in model_dir/best, and is exported "
        "to model_dir/saved_model_best at the end.",
        constraint=at_least(0),
    )
    best_metric: str | None = setting(
        None,
        "Metric that decides which checkpoint is kept in model_dir/best. If unset, "
        "eval/label_top_1_accuracy with --eval_every_epochs; otherwise none is kept. Metrics that "
        "begin with monitor/ need no evaluation. The largest value is the best, except for "
        "alignment, uniformity and negative_similarity.",
        choices=choices.BEST_METRICS,
    )
    stop_after: int = setting(
        0,
        "End the run when --best_metric has not improved in this many measurements in a row; 0 "
        "always trains to the last step.",
        constraint=at_least(0),
    )
    train_summary_steps: int = setting(
        100,
        "Steps between training summaries; 0 writes only one, at the end. Images are written with "
        "summaries 1, 11, 21, ... and the last.",
        constraint=at_least(0),
    )
    monitor_images: int = setting(
        1024,
        "Images on which pretraining measures its embeddings: alignment, uniformity, similarities, "
        "spread and effective rank and, with labels, nearest neighbors. They are drawn from "
        "--eval_split if the data set has it, otherwise from --train_split. At the automatic "
        "interval, a short run measures fewer, at least 64. 0 measures nothing.",
        constraint=at_least(0),
    )
    monitor_every_epochs: float = setting(
        0.0,
        "Epochs between measurements of the embeddings; the run's last step is always measured. 0 "
        "chooses an interval of at least an epoch, in which the forward passes of a measurement "
        "are at most 1% of the training's computation (more if the run trains on fewer than 3,200 "
        "images in all).",
        constraint=at_least(0),
    )
    eval_name: str | None = setting(
        None,
        "Name of this evaluation, if several are kept in one --model_dir.",
        constraint=FILE_NAME,
    )
    eval_timeout: float = setting(
        0.0,
        "Seconds that --mode=eval waits for a new checkpoint before it ends; 0 waits forever.",
        constraint=at_least(0),
    )
    probe_summary: bool = setting(
        False,
        "After --mode=train_then_eval, compare linear probes and nearest neighbors of the raw "
        "pixels, of the untrained encoder and of the trained encoder, and draw a picture.",
    )


@dataclasses.dataclass(frozen=True)
class Distill(Section):
    """How train_mode=distill learns from a teacher (SimCLRv2 paper, section 2)."""

    teacher: str | None = setting(
        None,
        "SavedModel of a fine-tuned run, or the model_dir that contains it. The student learns "
        "its classes. Its graph is executed, and can read and write files: use only teachers that "
        "you trust.",
        constraint=NO_PATTERN,
        is_path=True,
    )
    distill_temperature: float = setting(
        1.0,
        "Temperature of the class probabilities of both teacher and student.",
        constraint=POSITIVE,
    )
    distill_label_weight: float = setting(
        0.0,
        "Weight of the loss on true labels, 1 - alpha in the SimCLRv2 paper; the teacher's loss "
        "has the rest of the weight. 0 needs no labels.",
        constraint=FRACTION,
    )


@dataclasses.dataclass(frozen=True)
class Probe(Section):
    """How mode=probe trains classifiers on the frozen encoder's features."""

    probe_baselines: bool = setting(
        False, "Also probe the raw pixels and an untrained encoder, for comparison."
    )
    probe_validation_split: str | None = setting(
        None,
        "Split on which the regularization strength is chosen. If unset, a tenth of --train_split.",
        constraint=NOT_EMPTY,
    )


@dataclasses.dataclass(frozen=True)
class Predict(Section):
    """Which images mode=predict reads, and what it writes."""

    images: str | None = setting(
        None,
        "A folder of images, or a quoted pattern ('pictures/**/*.jpg'). The files can be JPEG, "
        "PNG, WebP, BMP, GIF, TIFF, AVIF or JPEG 2000.",
        constraint=NOT_EMPTY,
        saved=False,
        is_path=True,
    )
    output: str = setting(
        "predictions.csv",
        "File to write: .csv or .parquet for class probabilities, or .npy for embeddings "
        "(final_avg_pool), whose file names go to FILE.npy.files.csv.",
        constraint=TABLE,
        saved=False,
        is_path=True,
    )


@dataclasses.dataclass(frozen=True)
class Runtime(Section):
    """The mode, the run's directory and the devices."""

    mode: str = setting(
        "train",
        "What to do. train: train and export; train_then_eval: train and export, then evaluate; "
        "eval: on one machine, evaluate and export each checkpoint of a run as it appears, up to "
        "the last; probe: fit logistic regression and nearest neighbors to the frozen features of "
        "--checkpoint, or of the run in --model_dir; predict: apply --checkpoint to --images.",
        choices=choices.MODES,
        saved=False,
    )
    model_dir: str | None = setting(
        None,
        "Directory of the run: checkpoints, summaries, results, and config.json, from which a "
        "later start with the same directory reads its settings.",
        constraint=NO_PATTERN,
        saved=False,
        is_path=True,
    )
    seed: int | None = setting(
        None,
        "Seed of all randomness. If unset, the seed in model_dir/config.json, so that the same "
        "command resumes a run; a new run draws a random seed and saves it there.",
        constraint=between(0, 2**31 - 1),
    )
    strategy: str = setting(
        "auto",
        "Which machines to use. auto: the devices of this machine. multi_worker: the devices of "
        "several machines that all run this command. TF_CONFIG or Slurm (srun) names the machines, "
        "and all of them must see the same --model_dir.",
        choices=choices.STRATEGIES,
        saved=False,
    )
    use_tpu: bool | str = setting(
        "auto",
        "Train on a TPU. auto uses a TPU if there is one, otherwise the GPUs, otherwise the CPU "
        "(the official default is True).",
        choices=choices.USE_TPU,
        saved=False,
    )
    tpu_name: str | None = setting(None, "Name or grpc:// address of the Cloud TPU.", saved=False)
    tpu_zone: str | None = setting(
        None, "Zone of the Cloud TPU. If unset, it is detected.", saved=False
    )
    gcp_project: str | None = setting(
        None, "Google Cloud project of the Cloud TPU. If unset, it is detected.", saved=False
    )
    master: str | None = setting(
        None, "Address of the TPU worker (grpc://...), instead of --tpu_name.", saved=False
    )
    data_service: str | None = setting(
        None,
        "Address of a tf.data service dispatcher (tools/data_service.py), grpc://HOST:PORT. Its "
        "workers then read, decode and augment the training images.",
        constraint=GRPC,
        saved=False,
    )
    cpu_replicas: int = setting(
        1,
        "Number of replicas to split the CPU into, on a machine without accelerators, to try out "
        "multi-device training.",
        constraint=at_least(1),
        saved=False,
    )


SECTIONS: tuple[type[Section], ...] = (
    Data,
    Augment,
    Model,
    Loss,
    Optimizer,
    Training,
    Distill,
    Probe,
    Predict,
    Runtime,
)


@functools.cache
def settings() -> dict[str, Setting]:
    """Returns all settings by name, in the order of the sections."""
    return {name: spec for section in SECTIONS for name, spec in settings_of(section).items()}
