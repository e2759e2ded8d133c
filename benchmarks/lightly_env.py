"""Prepares what the lightly side needs: a virtual environment, and the images without TFDS."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

LIGHTLY = "lightly==1.6.0"
# The first that can be installed: only PyTorch's own registry has builds of both for the CPU.
TORCH = (
    ("torch==2.13.0+cpu", "torchvision==0.28.0+cpu"),
    ("torch==2.13.0", "torchvision==0.28.0"),
)
_INSTALLED = "installed.txt"  # exists once the environment is complete
_TAIL = 2000  # characters of pip's output in an error


def default_folder() -> Path:
    """Returns the cache folder of the environment."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "tf_simclr" / LIGHTLY.replace("==", "-")


def python(folder: Path) -> Path:
    """Returns the interpreter of an environment with lightly, and makes the environment once.

    Raises:
      RuntimeError: pip fails, or the folder is another directory that is not empty.
    """
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / _INSTALLED).exists():
        return interpreter
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise RuntimeError(f"--venv {folder} is not a virtual environment: give a new folder")
    print(f"Installing {LIGHTLY} in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True)
    for pins in TORCH:
        command = [str(interpreter), "-m", "pip", "install", "--quiet", LIGHTLY, *pins]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            (folder / _INSTALLED).write_text("\n".join((LIGHTLY, *pins)))
            return interpreter
    raise RuntimeError(f"{LIGHTLY} cannot be installed in {folder}: {done.stderr[-_TAIL:]}")


def export_images(builder: tfds.core.DatasetBuilder, count: int, folder: Path) -> int:
    """Writes the encoded images of the training split for `lightly_side.Images`.

    Both sides then decode the same bytes.

    Args:
      builder: the prepared data set.
      count: largest number of images to write.
      folder: an existing folder.

    Returns:
      The number of classes.
    """
    count = min(count, builder.info.splits["train"].num_examples)
    dataset = builder.as_dataset(
        split=f"train[:{count}]", decoders={"image": tfds.decode.SkipDecoding()}
    )
    ends, labels = [], []
    with open(folder / "images.bin", "wb") as file:
        for example in dataset.as_numpy_iterator():
            file.write(example["image"])
            ends.append(file.tell())
            labels.append(example["label"])
    np.save(folder / "ends.npy", np.array(ends))
    np.save(folder / "labels.npy", np.array(labels))
    return builder.info.features["label"].num_classes
