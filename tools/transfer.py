"""Measures how well features transfer to other data sets: table 8 of the SimCLR paper.

    python tools/transfer.py --checkpoint=runs/curve --work_dir=runs/transfer --data_dir=DIR \\
        --datasets=cifar10,oxford_flowers102

For each data set, `run.py --mode=probe` fits logistic regression on frozen features, chooses its
strength on a validation part, and evaluates it on the test split by the data set's own metric
(appendix B.8). --baselines adds an untrained encoder. --finetune adds a grid of fine-tuning runs of
the whole network: the settings that are best on the validation part are trained again on all
training examples and tested.

Prints a Markdown table and writes it to work_dir as table.md and table.csv. A data set that is not
prepared in data_dir is listed as missing, unless --download is given. Arguments after `--` go to
run.py. An interrupted series resumes.
"""

import csv
import itertools
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import series

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(series.ROOT))

from tf_simclr.data.sources.tfds_prepare import is_prepared  # noqa: E402
from tf_simclr.data.sources.tfds_source import open_source  # noqa: E402
from tf_simclr.probes.metrics import metric_for  # noqa: E402


class DataSet(NamedTuple):
    """Describes a column of the table.

    Attributes:
      title: name in the paper.
      train, validation, test: splits; a part of train is used if there is no validation split.
      missing: why the data set cannot be used at all.
    """

    title: str
    train: str = "train"
    validation: str = ""
    test: str = "test"
    missing: str = ""


# In the order of the paper's table 8; keys are names of TensorFlow Datasets.
DATASETS = {
    "food101": DataSet("Food", test="validation"),
    "cifar10": DataSet("CIFAR10"),
    "cifar100": DataSet("CIFAR100"),
    "birdsnap": DataSet("Birdsnap", missing="not in TensorFlow Datasets"),
    "sun397/standard-part1-120k": DataSet("SUN397"),
    "cars196": DataSet("Cars"),
    "fgvc_aircraft": DataSet("Aircraft", missing="not in TensorFlow Datasets"),
    "voc/2007": DataSet("VOC2007", missing="images of several classes, which run.py does not take"),
    "dtd": DataSet("DTD", validation="validation"),
    "oxford_iiit_pet": DataSet("Pets"),
    "caltech101": DataSet("Caltech-101"),
    "oxford_flowers102": DataSet("Flowers", validation="validation"),
}
METRICS = {"top_1": "top-1", "mean_per_class": "mean per class"}
BATCH_SIZE = 256  # of fine-tuning (appendix B.8)


def spec(name: str) -> DataSet:
    """Returns a data set's description, given its name with or without a config.

    A data set that is not in the table has the splits train and test.
    """
    for key, value in DATASETS.items():
        if name in (key, key.split("/")[0]):
            return value
    return DataSet(name)


def reason_missing(name: str, args: Namespace) -> str:
    """Returns why a data set is left out; "" if it is not."""
    if spec(name).missing:
        return spec(name).missing
    if args.download or is_prepared(name, args.data_dir):
        return ""
    return f"not prepared in {args.data_dir or 'the data_dir of TFDS'} (--download would)"


def settings(args: Namespace, name: str) -> list[str]:
    """Returns the settings that all runs on a data set share."""
    data_dir = [f"--data_dir={args.data_dir}"] if args.data_dir else []
    return [f"--checkpoint={args.checkpoint}", f"--dataset={name}", *data_dir]


def probe(args: Namespace, name: str) -> dict[str, float]:
    """Runs linear evaluation; returns {row: test value of the data set's metric}."""
    data = spec(name)
    validation = [f"--probe_validation_split={data.validation}"] if data.validation else []
    baselines = ["--probe_baselines"] if args.baselines else []
    result = series.result(
        Path(args.work_dir) / "probe" / name.replace("/", "_"),
        [
            "--mode=probe",
            *settings(args, name),
            f"--train_split={data.train}",
            f"--eval_split={data.test}",
            *validation,
            *baselines,
            *args.settings,
        ],
        file="result_probe.json",
    )
    titles = {"pretrained": "Linear evaluation", "untrained": "Linear evaluation, untrained"}
    return {
        title: result["encoders"][encoder]["logistic"][result["metric"]]
        for encoder, title in titles.items()
        if encoder in result["encoders"]
    }


def finetune(args: Namespace, name: str) -> float:
    """Chooses learning rate and weight decay on the validation part; returns top-1 on test."""
    data = spec(name)
    accuracies: dict[tuple[float, float], float] = {}
    train, validation = (
        (data.train, data.validation)
        if data.validation
        else (f"{data.train}[:90%]", f"{data.train}[90%:]")
    )
    for rate, decay in itertools.product(args.learning_rates, args.weight_decays):
        accuracies[rate, decay] = _finetune_once(args, name, rate, decay, train, validation)
    rate, decay = max(accuracies, key=lambda settings: accuracies[settings])
    everything = f"{data.train}+{data.validation}" if data.validation else data.train
    return _finetune_once(args, name, rate, decay, everything, data.test)


def _finetune_once(args, name, rate: float, decay: float, train: str, test: str) -> float:
    source = open_source(name, args.data_dir)
    steps_per_epoch = source.num_examples(train) / BATCH_SIZE
    batch_norm_decay = max(1 - 10 / steps_per_epoch, 0.9)
    folder = f"lr{rate:g}_wd{decay:g}_{test}".translate(str.maketrans("[]:%", "____"))
    return series.result(
        Path(args.work_dir) / "finetune" / name.replace("/", "_") / folder,
        [
            f"--gin_file={args.checkpoint}/config.gin",
            "--mode=train_then_eval",
            "--train_mode=finetune",
            *settings(args, name),
            f"--train_split={train}",
            f"--eval_split={test}",
            "--zero_init_logits_layer=True",
            "--optimizer=momentum",
            "--momentum=0.9",
            f"--learning_rate={rate:g}",
            "--learning_rate_scaling=linear",
            f"--weight_decay={decay:g}",
            "--warmup_epochs=0",
            f"--train_steps={args.steps}",
            f"--train_batch_size={BATCH_SIZE}",
            f"--batch_norm_decay={batch_norm_decay:g}",
            "--checkpoint_epochs=1000",
            *args.settings,
        ],
    )[series.TOP_1]


def numbers(text: str) -> list[float]:
    """Parses numbers separated by commas."""
    return [float(number) for number in text.split(",")]


def parse(argv: Sequence[str] | None) -> Namespace:
    """Parses the command line."""
    parser = series.series_parser(__doc__)
    parser.add_argument(
        "--data_dir", type=os.path.expanduser, help="folder in which TFDS keeps its data sets"
    )
    parser.add_argument(
        "--datasets",
        default=",".join(DATASETS),
        help="names of TensorFlow Datasets (default: the paper's twelve)",
    )
    parser.add_argument("--download", action="store_true", help="prepare what is missing")
    parser.add_argument("--baselines", action="store_true", help="add an untrained encoder")
    parser.add_argument("--finetune", action="store_true", help="also fine-tune the whole network")
    parser.add_argument(
        "--steps", type=int, default=20_000, help="steps of fine-tuning (default: %(default)s)"
    )
    parser.add_argument(
        "--learning_rates",
        type=numbers,
        help="grid of learning rates, times batch / 256 (default: %(default)s)",
        default="0.0001,0.000316,0.001,0.00316,0.01,0.0316,0.1",
    )
    parser.add_argument(
        "--weight_decays",
        type=numbers,
        help="grid of weight decays (default: %(default)s)",
        default="0,1e-6,3.16e-6,1e-5,3.16e-5,1e-4,3.16e-4,1e-3",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = parse(argv)
    names = [name for name in args.datasets.split(",") if name]
    missing = {name: reason for name in names if (reason := reason_missing(name, args))}
    rows: dict[str, dict[str, float]] = {}
    for name in names:
        if name in missing:
            continue
        accuracies = probe(args, name)
        if args.finetune:
            accuracies["Fine-tuned (top-1)"] = finetune(args, name)
        for row, value in accuracies.items():
            rows.setdefault(row, {})[name] = value
    columns = ["", *(f"{spec(name).title} ({METRICS[metric_for(name)]})" for name in names)]
    cells = [
        [row, *(f"{100 * values[n]:.1f}" if n in values else "-" for n in names)]
        for row, values in rows.items()
    ]
    text = series.table(columns, cells)
    for name, reason in missing.items():
        text += f"\n\n{spec(name).title}: {reason}."
    print(text)
    Path(args.work_dir).mkdir(parents=True, exist_ok=True)
    (Path(args.work_dir) / "table.md").write_text(text + "\n")
    with open(Path(args.work_dir) / "table.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *cells])


if __name__ == "__main__":
    main()
