"""Measures the benefit of pretraining with few labels: fine-tuning vs. training from scratch.

    python tools/few_labels.py --checkpoint=runs/curve --work_dir=runs/few_labels \\
        --shares=0.01:60,0.1:30 --seeds=3 -- --data_dir=DIR

For each share of the labels (given with its epochs), one network is fine-tuned from the checkpoint
and one is trained from scratch with the same settings. This is repeated for each seed. The seed
decides the choice of labels, the order and every weight that is not restored. --linear_epochs adds
linear evaluation by SGD: a classifier on all labels, on the pretrained and on an untrained encoder.

Settings come from the checkpoint's config.gin. The learning rate is 0.05 * batch / 256 (SimCLR
paper, appendix B.5; 0.1 for linear evaluation), without weight decay or warm-up. Arguments after
`--` go to run.py. Prints a Markdown table of top-1 accuracies in percent: mean and standard
deviation over the seeds. An interrupted series resumes.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import series

SETTINGS = (
    "--mode=train_then_eval",
    "--optimizer=momentum",
    "--momentum=0.9",
    "--weight_decay=0",
    "--learning_rate_scaling=linear",
    "--warmup_epochs=0",
    "--train_steps=0",
    "--checkpoint_steps=0",
    "--zero_init_logits_layer=True",
    "--cache_dataset",
)


def starts(checkpoint: str) -> dict[str, str]:
    """Returns {name of a row: the flag that sets where its network starts}."""
    return {"pretrained": f"--checkpoint={checkpoint}", "from scratch": "--from_scratch"}


def finetune(
    args: Namespace, folder: str, start: str, share: float, epochs: int, seed: int, *more: str
) -> float:
    """Trains on a share of the labels and returns the top-1 accuracy.

    Args:
      args: checkpoint (its config.gin gives the settings), work_dir, batch_size, settings.
      folder: name of the run's folder in work_dir.
      start: --checkpoint=... or --from_scratch.
      share: fraction of the labels.
      epochs: number of epochs.
      seed: seed of the choice of labels and of the run.
      more: further flags of run.py.
    """
    return series.result(
        Path(args.work_dir) / folder,
        [
            f"--gin_file={args.checkpoint}/config.gin",
            *SETTINGS,
            "--train_mode=finetune",
            start,
            "--learning_rate=0.05",
            f"--label_fraction={share:g}",
            f"--label_seed={seed}",
            f"--seed={seed}",
            f"--train_epochs={epochs}",
            f"--train_batch_size={args.batch_size}",
            *more,
            *args.settings,
        ],
    )[series.TOP_1]


def linear(args: Namespace, folder: str, start: str) -> float:
    """Trains a classifier on the frozen encoder with all labels; returns the top-1 accuracy."""
    return series.result(
        Path(args.work_dir) / folder,
        [
            f"--gin_file={args.checkpoint}/config.gin",
            *SETTINGS,
            "--train_mode=finetune",
            start,
            "--learning_rate=0.1",
            "--fine_tune_after_block=4",
            "--seed=1",
            f"--train_epochs={args.linear_epochs}",
            f"--train_batch_size={args.linear_batch_size}",
            *args.settings,
        ],
    )[series.TOP_1]


def shares(text: str) -> list[tuple[float, int]]:
    """Parses shares and epochs: "0.01:60,1:5" -> [(0.01, 60), (1.0, 5)]."""
    pairs = (each.split(":") for each in text.split(","))
    return [(float(share), int(epochs)) for share, epochs in pairs]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = series.series_parser(__doc__)
    parser.add_argument(
        "--shares",
        type=shares,
        default="0.01:60,0.1:30",
        help="shares of the labels, each with its epochs (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs per cell (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--linear_epochs", type=int, default=0, help="0 for no linear evaluation")
    parser.add_argument("--linear_batch_size", type=int, default=512)
    args = parser.parse_args(argv)
    rows = []
    for name, start in starts(args.checkpoint).items():
        folder, cells = name.replace(" ", "_"), []
        if args.linear_epochs:
            cells.append(series.percent([linear(args, f"{folder}_linear", start)]))
        for share, epochs in args.shares:
            cells.append(
                series.percent(
                    [
                        finetune(args, f"{folder}_{share:g}_seed{seed}", start, share, epochs, seed)
                        for seed in range(1, 1 + args.seeds)
                    ]
                )
            )
        rows.append([name, *cells])
    columns = ["", *["linear, all labels"] * bool(args.linear_epochs)]
    columns += [f"{100 * share:g}% of the labels, {epochs} epochs" for share, epochs in args.shares]
    print(series.table(columns, rows))


if __name__ == "__main__":
    main()
