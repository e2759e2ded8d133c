"""The table of settings: every two values of two settings meet in a row that is executed.

A row is a command line with two steps, a checkpoint, an evaluation and an export, and then one
step more from the checkpoint. Only width, depth, steps and the size of an evaluation are shrunk.
Pairs of values that no run can have are RULES: each must be refused by an error that names its
flag, before anything is written.
"""

import itertools
from typing import NamedTuple

import allpairspy

# The first value is the one that most users have.
FACTORS = {
    "train_mode": ("pretrain", "finetune", "distill"),
    "augment_on": ("auto", "device", "host"),
    "image_size": (224, 32, 64),
    "dataset": ("imagenet2012", "cifar10", "folder", "unlabelled", "shapes"),
    "train_batch_size": (64, 256, 16, 2),
    "cache_dataset": (False, True),
    "microbatches": (1, 2),
    "precision": ("float32", "bfloat16", "float16"),
    "cpu_replicas": (1, 2),
    "global_bn": (True, False),
    "fused_batch_norm": (True, False),
    "resnet_depth": (50, 18),
    "sk_ratio": (0, 0.0625),
    "se_ratio": (0, 0.25),
    "max_pool_padding": ("same", "symmetric"),
    "input_normalization": ("none", "imagenet"),
    "first_shortcut": ("projection", "identity"),
    "use_blur": (True, False),
    "color_jitter_impl": ("simclrv2", "simclrv1"),
    "proj_head_mode": ("nonlinear", "linear", "none"),
    "num_proj_layers": (3, 2, 1),
    "proj_out_dim": (128, 8),
    "ft_proj_selector": (0, 1, -1),
    "fine_tune_after_block": (-1, 0, 2, 4),
    "optimizer": ("lars", "momentum", "adam", "lamb"),
    "learning_rate_scaling": ("linear", "sqrt"),
    "warmup_epochs": (0, 0.02),
    "lineareval_while_pretraining": (True, False),
    "label_fraction": (1, 0.5),
    "eval_every_epochs": (0, 1),
    "monitor_images": (16, 0),
    "loss_block_rows": (0, 3, 4096),
    "jit_compile": (False, True),
    "strict_data": (False, True),
    "data_service": (False, True),
}


class Rule(NamedTuple):
    """What cannot be together: two values, and the flag that the error names."""

    flag: str
    values: dict[str, tuple]

    def forbids(self, row: dict) -> bool:
        """Whether a row, or the beginning of one, has all of these values."""
        return all(name in row and row[name] in values for name, values in self.values.items())


RULES = [
    Rule(
        "fine_tune_after_block", {"train_mode": ("pretrain",), "fine_tune_after_block": (0, 2, 4)}
    ),
    Rule("label_fraction", {"train_mode": ("pretrain",), "label_fraction": (0.5,)}),
    Rule(
        "label_fraction",
        {"train_mode": ("distill",), "dataset": ("unlabelled",), "label_fraction": (0.5,)},
    ),
    Rule("ft_proj_selector", {"proj_head_mode": ("none",), "ft_proj_selector": (1,)}),
    Rule("dataset", {"train_mode": ("finetune",), "dataset": ("unlabelled",)}),
    Rule("eval_every_epochs", {"dataset": ("unlabelled",), "eval_every_epochs": (1,)}),
    Rule(
        "eval_every_epochs",
        {
            "train_mode": ("pretrain",),
            "lineareval_while_pretraining": (False,),
            "eval_every_epochs": (1,),
        },
    ),
    Rule("first_shortcut", {"resnet_depth": (50,), "first_shortcut": ("identity",)}),
    Rule("data_service", {"dataset": ("folder", "unlabelled"), "data_service": (True,)}),
    Rule("jit_compile", {"jit_compile": (True,), "cpu_replicas": (2,)}),
    Rule(
        "train_batch_size",
        {
            "dataset": ("folder",),
            "label_fraction": (0.5,),
            "train_batch_size": (256,),
            "train_mode": ("finetune", "distill"),
        },
    ),
    Rule(
        "teacher",
        {  # it knows the ten classes of shapes
            "train_mode": ("distill",),
            "eval_every_epochs": (1,),
            "dataset": ("imagenet2012", "cifar10", "folder"),
        },
    ),
]


def is_allowed(row: dict) -> bool:
    """Whether no rule forbids a row, or the beginning of one."""
    return not any(rule.forbids(row) for rule in RULES)


def rows() -> list[dict]:
    """All rows of the table, in an order that does not change."""
    names = list(FACTORS)
    found = allpairspy.AllPairs(
        list(FACTORS.values()),
        filter_func=lambda values: is_allowed(dict(zip(names, values, strict=False))),
    )
    table = [dict(zip(names, values, strict=True)) for values in found]
    # Where rules forbid much, that search gives up pairs which a row can have.
    covered = set().union(*map(pairs, table))
    for pair in all_pairs():
        if pair not in covered and (row := _completed(dict(pair), covered)):
            table.append(row)
            covered |= pairs(row)
    return table


def all_pairs() -> list[tuple]:
    """All two values of two settings, allowed or not."""
    found = []
    for (first, firsts), (second, seconds) in itertools.combinations(sorted(FACTORS.items()), 2):
        found += [((first, x), (second, y)) for x in firsts for y in seconds]
    return found


def _completed(row: dict, covered: set[tuple]) -> dict | None:
    """A whole row with these values and many pairs that are new; None where rules forbid it."""
    if not is_allowed(row):
        return None
    name = next((name for name in FACTORS if name not in row), None)
    if name is None:
        return row
    choices = [row | {name: value} for value in FACTORS[name]]
    choices.sort(key=lambda choice: len(pairs(choice) - covered), reverse=True)
    return next(filter(None, (_completed(choice, covered) for choice in choices)), None)


def pairs(row: dict) -> set[tuple]:
    """All two values of two settings in a row."""
    return set(itertools.combinations(sorted(row.items()), 2))


def seconds(row: dict) -> float:
    """About how long a row takes on two cores, on which half precision is slow."""
    views = row["train_batch_size"] * (row["image_size"] / 224) ** 2
    steps = views * (0.1 if row["precision"] == "float32" else 1.0)
    return 20 + steps + 15 * (row["cpu_replicas"] > 1) + 20 * row["jit_compile"]


def name(row: dict) -> str:
    """A row in a word: its values that are not the first ones."""
    usual = {factor: values[0] for factor, values in FACTORS.items()}
    words = [f"{factor}={value}" for factor, value in row.items() if value != usual[factor]]
    return ",".join(words) or "defaults"
