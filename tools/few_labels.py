"""What pretraining is worth with few labels: fine-tuning it beside training from scratch.

    python tools/few_labels.py --checkpoint=runs/curve --work_dir=runs/few_labels \\
        --shares=0.01:60,0.1:30 --seeds=3 -- --data_dir=DIR

Each share of the labels (with its epochs) is fine-tuned from the checkpoint and trained from
scratch, with the same settings, once for each seed: of the choice of labels, of the order and of
what is not restored. With --linear_epochs the classifier alone is trained on all labels, too, on
the pretrained and on an untrained encoder (linear evaluation by SGD).

Settings come from the checkpoint's config.gin; the learning rate is 0.05 * batch / 256 (SimCLR
paper, appendix B.5; 0.1 for the linear evaluation), without weight decay and warm-up. What stands
behind `--` goes to run.py. Prints a Markdown table of top-1 accuracies in per cent, mean and
standard deviation over the seeds. A series that was interrupted goes on.
"""

import argparse
import os
from pathlib import Path

import runs

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
    """{name of a row: the setting that makes it}."""
    return {"pretrained": f"--checkpoint={checkpoint}", "from scratch": "--from_scratch"}


def finetune(args, folder: str, start: str, share: float, epochs: int, seed: int, *more) -> float:
    """Top-1 accuracy of one run on a share of the labels.

    Args:
      args: checkpoint, of whose config.gin the settings are; work_dir, batch_size, settings.
      folder: of the run, in work_dir.
      start: --checkpoint=... or --from_scratch.
      share: of the labels.
      epochs: to train.
      seed: of the choice of labels, and of the run.
      more: settings.
    """
    return runs.result(
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
    )[runs.TOP_1]


def linear(args, folder: str, start: str) -> float:
    """Top-1 accuracy of a classifier on the frozen encoder, trained on all labels."""
    return runs.result(
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
    )[runs.TOP_1]


def shares(text: str) -> list[tuple[float, int]]:
    """'0.01:60,1:5' -> [(0.01, 60), (1.0, 5)]: shares of the labels and their epochs."""
    pairs = (each.split(":") for each in text.split(","))
    return [(float(share), int(epochs)) for share, epochs in pairs]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        type=os.path.expanduser,
        required=True,
        help="model_dir of the pretrained run",
    )
    parser.add_argument(
        "--work_dir", type=os.path.expanduser, required=True, help="where the runs go"
    )
    parser.add_argument(
        "--shares",
        type=shares,
        default="0.01:60,0.1:30",
        help="shares of the labels, each with its epochs (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs a cell (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--linear_epochs", type=int, default=0, help="0 for no linear evaluation")
    parser.add_argument("--linear_batch_size", type=int, default=512)
    parser.add_argument("settings", nargs="*", help="for run.py, behind --")
    args = parser.parse_args(argv)
    rows = []
    for name, start in starts(args.checkpoint).items():
        folder, cells = name.replace(" ", "_"), []
        if args.linear_epochs:
            cells.append(runs.percent([linear(args, f"{folder}_linear", start)]))
        for share, epochs in args.shares:
            cells.append(
                runs.percent(
                    [
                        finetune(args, f"{folder}_{share:g}_seed{seed}", start, share, epochs, seed)
                        for seed in range(1, 1 + args.seeds)
                    ]
                )
            )
        rows.append([name, *cells])
    columns = ["", *["linear, all labels"] * bool(args.linear_epochs)]
    columns += [f"{100 * share:g}% of the labels, {epochs} epochs" for share, epochs in args.shares]
    print(runs.table(columns, rows))


if __name__ == "__main__":
    main()
