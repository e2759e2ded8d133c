"""Measures what distillation on unlabeled images adds to fine-tuning on few labels.

    python tools/distillation.py --checkpoint=runs/curve --work_dir=runs/distillation \\
        --share=0.01:60 --steps=1000 --student=--width_multiplier=0.125 -- --data_dir=DIR

For each seed, the teacher is the checkpoint fine-tuned on a share of the labels. Three networks are
compared with it: a student trained on the same labels alone; a student distilled from the teacher
on all images without labels; and a network of the teacher's size that starts from the checkpoint
and is distilled in the same way (self-distillation).

Settings come from the checkpoint's config.gin, and fine-tuning settings from tools/few_labels.py.
Arguments after `--` go to run.py. Prints a Markdown table of top-1 accuracies in percent. An
interrupted series resumes.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import few_labels
import series

COLUMNS = ["seed", "teacher", "student, labels alone", "student, distilled", "self-distilled"]


def distill(args: Namespace, folder: str, teacher: Path, seed: int, *more: str) -> float:
    """Distills a student on all images without labels; returns its top-1 accuracy."""
    return series.result(
        Path(args.work_dir) / folder,
        [
            f"--gin_file={args.checkpoint}/config.gin",
            *few_labels.SETTINGS,
            "--train_mode=distill",
            f"--teacher={teacher}",
            f"--distill_temperature={args.temperature:g}",
            f"--learning_rate={args.learning_rate:g}",
            f"--seed={seed}",
            f"--train_steps={args.steps}",
            f"--train_batch_size={args.batch_size}",
            *more,
            *args.settings,
        ],
    )[series.TOP_1]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = series.series_parser(__doc__)
    parser.add_argument(
        "--share",
        type=few_labels.shares,
        default="0.01:60",
        help="share of the labels and its epochs (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=1000, help="steps of each distillation (default: %(default)s)"
    )
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument(
        "--learning_rate",
        type=float,
        default=0.2,
        help="learning rate of distillation, times batch / 256 (default: %(default)s)",
    )
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument(
        "--student",
        action="append",
        metavar="SETTING",
        required=True,
        help="makes the student smaller: --student=--width_multiplier=0.125",
    )
    args = parser.parse_args(argv)
    [(share, epochs)] = args.share
    pretrained = few_labels.starts(args.checkpoint)["pretrained"]
    rows = []
    for seed in range(1, 1 + args.seeds):
        folder = f"teacher_seed{seed}"
        top_1 = [few_labels.finetune(args, folder, pretrained, share, epochs, seed)]
        top_1.append(
            few_labels.finetune(
                args, f"labels_seed{seed}", "--from_scratch", share, epochs, seed, *args.student
            )
        )
        teacher = Path(args.work_dir) / folder
        top_1.append(distill(args, f"distilled_seed{seed}", teacher, seed, *args.student))
        top_1.append(distill(args, f"self_seed{seed}", teacher, seed, pretrained))
        rows.append(top_1)
    cells = [
        [str(seed), *(series.percent([top_1]) for top_1 in row)]
        for seed, row in enumerate(rows, start=1)
    ]
    cells.append(["all", *map(series.percent, zip(*rows, strict=True))])
    print(series.table(COLUMNS, cells))


if __name__ == "__main__":
    main()
