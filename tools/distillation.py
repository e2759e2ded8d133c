"""What distillation on unlabelled images adds to fine-tuning on few labels.

    python tools/distillation.py --checkpoint=runs/curve --work_dir=runs/distillation \\
        --share=0.01:60 --steps=1000 --student=--width_multiplier=0.125 -- --data_dir=DIR

For each seed: the checkpoint is fine-tuned on a share of the labels, the teacher; a student is
trained on the same labels alone; and distilled from the teacher on all images, without any label,
as well as a network of the teacher's own size that starts from the checkpoint (self-distillation).

Settings come from the checkpoint's config.gin, those of fine-tuning from tools/few_labels.py. What
stands behind `--` goes to run.py. Prints a Markdown table of top-1 accuracies in per cent. A series
that was interrupted goes on.
"""

import argparse
import os
from pathlib import Path

import few_labels
import runs

COLUMNS = ["seed", "teacher", "student, labels alone", "student, distilled", "self-distilled"]


def distill(args, folder: str, teacher: Path, seed: int, *more: str) -> float:
    """Top-1 accuracy of a student that has seen all images and no label."""
    return runs.result(
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
    )[runs.TOP_1]


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
        "--share",
        type=few_labels.shares,
        default="0.01:60",
        help="share of the labels, and its epochs (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=1000, help="of each distillation (default: %(default)s)"
    )
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument(
        "--learning_rate",
        type=float,
        default=0.2,
        help="of distillation, times batch / 256 (default: %(default)s)",
    )
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument(
        "--student",
        action="append",
        metavar="SETTING",
        required=True,
        help="makes the student smaller: --student=--width_multiplier=0.125",
    )
    parser.add_argument("settings", nargs="*", help="for run.py, behind --")
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
        [str(seed), *(runs.percent([top_1]) for top_1 in row)]
        for seed, row in enumerate(rows, start=1)
    ]
    cells.append(["all", *map(runs.percent, zip(*rows, strict=True))])
    print(runs.table(COLUMNS, cells))


if __name__ == "__main__":
    main()
