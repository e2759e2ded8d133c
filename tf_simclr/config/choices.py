"""The allowed values of the settings that have a fixed list of values.

Each list is defined only here. The sections use these lists, and so do the functions in data/,
models/ and optim/ that check their arguments.
"""

# The official code's values come first, in its order.
TRAIN_MODES = ("pretrain", "finetune", "distill")
JITTER_IMPLS = ("simclrv2", "simclrv1")
AUGMENT_ON = ("auto", "device", "host")
RESNET_DEPTHS = (18, 34, 50, 101, 152, 200)
PROJECTION_MODES = ("none", "linear", "nonlinear")
FROZEN_BATCH_NORM = ("inference", "training")
MAX_POOL_PADDINGS = ("same", "symmetric")
INPUT_NORMALIZATIONS = ("none", "imagenet", "cifar10")
FIRST_SHORTCUTS = ("projection", "identity")
OPTIMIZERS = ("momentum", "adam", "lars", "lamb")
SCALINGS = ("linear", "sqrt")
PRECISIONS = ("float32", "bfloat16", "float16")
MODES = ("train", "eval", "train_then_eval", "probe", "predict")
# Metrics that can decide which checkpoint is the best.
BEST_METRICS = (
    "eval/label_top_1_accuracy",
    "eval/label_top_5_accuracy",
    "monitor/knn_top_1",
    "monitor/rankme",
    "monitor/rankme_projections",
    "monitor/embedding_std",
    "monitor/alignment",
    "monitor/uniformity",
    "monitor/positive_similarity",
    "monitor/negative_similarity",
)
# The smallest value of these is the best.
LOWER_IS_BETTER = {"monitor/alignment", "monitor/uniformity", "monitor/negative_similarity"}
STRATEGIES = ("auto", "multi_worker")
USE_TPU = (True, False, "auto")
CACHE_DATASET = (True, False, "auto")
