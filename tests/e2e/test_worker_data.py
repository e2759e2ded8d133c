"""Two real workers whose data_dir does not hold the same: both stop, and say why.

The folder is named by a relative path, which leads each of them to another place.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import small
from hostile_pictures import noise, saved, write
from tf_simclr.data.sources import image_files

pytestmark = [pytest.mark.long, pytest.mark.shared]

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    *small.RUN,
    "--strategy=multi_worker",
    "--dataset=folder",
    "--data_dir=data",
    "--train_batch_size=8",
    "--train_steps=2",
)
PICTURE = saved(noise(16), format="PNG")


def fill(folder: Path, **counts: int) -> Path:
    for name, count in counts.items():
        files = {f"{i}.png": PICTURE for i in range(count)}
        write(folder / "data" / "train" / name, files)
    return folder


@pytest.fixture
def run_in(tmp_path, free_ports):
    """Function: working directories -> [(exit code, output)] of a worker in each of them."""
    started = []

    def run(*folders: Path) -> list[tuple[int, str]]:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(len(folders))]
        for index, folder in enumerate(folders):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            started.append(
                subprocess.Popen(
                    small.command(*SETTINGS, f"--model_dir={tmp_path}/run"),
                    env=os.environ | {"TF_CONFIG": json.dumps(task)},
                    cwd=folder,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            )
        deadline = time.monotonic() + 90
        outputs = [w.communicate(timeout=deadline - time.monotonic())[0] for w in started]
        return [(worker.returncode, text) for worker, text in zip(started, outputs, strict=True)]

    yield run
    for worker in started:
        worker.kill()


@pytest.mark.parametrize(
    "other, difference",
    [
        (
            dict(cat=8, dog=6),
            "train: 14 on worker 1, 16 on worker 0; train/dog: 6 on worker 1, 8 on worker 0",
        ),
        (dict(cat=8, dog=7, Dog=1), "train/Dog: 1 on worker 1, 0 on worker 0; train/dog: 7 on"),
    ],
)
def test_other_files(tmp_path, run_in, other, difference):
    folders = fill(tmp_path / "a", cat=8, dog=8), fill(tmp_path / "b", **other)
    results = run_in(*folders)
    for code, text in results:
        assert code == 1 and "Traceback" not in text
        assert (
            f"dataset folder is not the same on all workers, so all of them stop ({difference}"
            in text
        )
    assert "data: 16 pictures in 2 classes" in results[0][1]
    assert "pictures in" not in results[1][1]  # the chief says it
    assert not (tmp_path / "run").exists()


def test_other_names(tmp_path, run_in):
    folders = fill(tmp_path / "a", cat=8, dog=8), fill(tmp_path / "b", cat=8, dog=8)
    moved = folders[1] / "data" / "train" / "dog"
    (moved / "0.png").rename(moved / "another.png")
    for code, text in run_in(*folders):
        assert code == 1 and "the numbers of examples agree, but names or contents differ" in text


@pytest.mark.parametrize("missing, without", [("pictures", 0), ("pictures", 1), ("folder", 1)])
def test_a_worker_that_cannot_open_its_folder(tmp_path, run_in, missing, without):
    folders = [fill(tmp_path / "a", cat=8, dog=8), fill(tmp_path / "b", cat=8, dog=8)]
    shutil.rmtree(folders[without] / "data")
    refusal = "data_dir must be an existing directory, or a URL such as gs://bucket/folder, got"
    if missing == "pictures":
        (folders[without] / "data").mkdir()
        refusal = f"data_dir 'data' has no picture ({image_files.FORMAT_NAMES}) among its 0 files"
    for index, (code, text) in enumerate(run_in(*folders)):
        assert code == 1 and refusal in text and "Traceback" not in text
        named = f"worker {without} cannot open the data set, so all workers stop" in text
        assert named == (index != without)
