"""Draws contact sheets of data sets.

    python tools/pictures.py contact_sheet --dataset=shapes --output=shapes.png

writes a contact sheet: one row of images per class, with its name on the left. The data set may be
any labeled data set of TensorFlow Datasets, or "shapes".
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tf_simclr.data.sources.tfds_source import open_source  # noqa: E402
from tf_simclr.errors import ConfigError  # noqa: E402

_TILE_INCHES = 0.64
_GAP = 0.08  # between images, in tiles


def contact_sheet(
    images: Sequence[np.ndarray],
    labels: np.ndarray,
    class_names: Sequence[str],
    rows: int,
    columns: int,
) -> Figure:
    """Draws one row of images per class.

    Args:
      images: n arrays, uint8 (height, width, 3), or (height, width, 1) for gray; sizes may differ.
      labels: int (n,), indices into class_names.
      class_names: names by label.
      rows: number of classes, starting with class 0; at most len(class_names).
      columns: images per class; a class with fewer leaves empty tiles.

    Returns:
      A figure that has axes for each image, in reading order.

    Raises:
      ValueError: rows or columns is out of range.
    """
    if not 1 <= rows <= len(class_names):
        raise ValueError(f"rows must be in [1, {len(class_names)}] (the classes), got {rows}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    labels = np.asarray(labels)
    # Margins are in inches, because the images have the same size in any grid.
    left = 0.25 + 0.085 * max(len(name) for name in class_names[:rows])
    margin, pitch = 0.15, _TILE_INCHES * (1 + _GAP)
    width = left + columns * pitch - _TILE_INCHES * _GAP + margin
    height = rows * pitch - _TILE_INCHES * _GAP + 2 * margin
    figure = plt.figure(figsize=(width, height), facecolor="white")
    for row in range(rows):
        top = height - margin - row * pitch
        figure.text(
            (left - 0.1) / width,
            (top - _TILE_INCHES / 2) / height,
            class_names[row],
            ha="right",
            va="center",
            fontsize=9,
            color="#333333",
        )
        for column, index in enumerate(np.flatnonzero(labels == row)[:columns]):
            corner = ((left + column * pitch) / width, (top - _TILE_INCHES) / height)
            axes = figure.add_axes((*corner, _TILE_INCHES / width, _TILE_INCHES / height))
            image = images[index].squeeze()
            axes.imshow(image, interpolation="nearest", cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
    return figure


def pick(
    examples: Iterable[dict[str, np.ndarray]], rows: int, columns: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Takes the first `columns` examples of each of the classes 0 .. rows - 1.

    Reading stops as soon as all are found, because data sets can be large.

    Args:
      examples: dictionaries with "image", uint8 (height, width, channels), and "label", an int.

    Returns:
      (n images, labels int64 (n,)), in the order read.
    """
    images, labels, wanted = [], [], dict.fromkeys(range(rows), columns)
    for example in examples:
        label = int(example["label"])
        if wanted.get(label, 0) == 0:
            continue
        wanted[label] -= 1
        images.append(example["image"])
        labels.append(label)
        if not any(wanted.values()):
            break
    return images, np.array(labels, np.int64)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Draws contact sheets of data sets.")
    command = parser.add_subparsers(dest="command", required=True).add_parser("contact_sheet")
    command.add_argument("--dataset", default="shapes", help="as in run.py")
    command.add_argument(
        "--data_dir", type=os.path.expanduser, help="the TFDS data folder (default: TFDS's own)"
    )
    command.add_argument("--split", default="train")
    command.add_argument(
        "--output", type=os.path.expanduser, default="shapes.png", help="the PNG to write"
    )
    command.add_argument("--rows", type=int, default=10, help="number of classes")
    command.add_argument("--columns", type=int, default=12, help="images per class")
    args = parser.parse_args(argv)
    try:
        source = open_source(args.dataset, args.data_dir)
        source.num_examples(args.split)
    except ConfigError as error:
        sys.exit(f"pictures.py: {error}")
    if source.class_names is None:
        sys.exit(f"pictures.py: --dataset={args.dataset} has no class labels to sort by")
    examples = source.examples(args.split).as_numpy_iterator()
    images, labels = pick(examples, args.rows, args.columns)
    figure = contact_sheet(images, labels, source.class_names, args.rows, args.columns)
    figure.savefig(args.output, dpi=200)
    plt.close(figure)
    print(f"Wrote {args.output}.")


if __name__ == "__main__":
    main()
