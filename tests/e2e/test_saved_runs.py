"""A run that somebody shares is data: nothing in it is executed, and what changes is said."""

import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

import small
from tf_simclr import run_state
from tf_simclr.config import saved_settings
from tf_simclr.modes.export import Exporter
from tf_simclr.training import run_input

pytestmark = pytest.mark.long

TINY = small.FINETUNE
EXAMPLES_KEY = "examples/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(scope="module")
def trained(shapes_dir, tmp_path_factory) -> str:
    """A run of two steps."""
    folder = str(tmp_path_factory.mktemp("trained") / "run")
    small.run(*TINY, f"--data_dir={shapes_dir}", f"--model_dir={folder}", "--train_steps=2")
    return folder


@pytest.fixture
def copy(trained, tmp_path) -> str:
    return shutil.copytree(trained, tmp_path / "copy")


@pytest.fixture
def seen_by_pipeline(monkeypatch) -> list[int]:
    """Where the training batches of each start go on."""
    found, original = [], run_input.train_batches

    def record(*args, examples_seen):
        found.append(examples_seen)
        return original(*args, examples_seen=examples_seen)

    monkeypatch.setattr(run_input, "train_batches", record)
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mode=predict", "--checkpoint={run}", "--images=x"],
        ["--mode=predict", "--checkpoint={run}/saved_model/2", "--images=x"],
        ["--mode=probe", "--checkpoint={run}", "--model_dir=new"],
        ["--model_dir={run}"],
        ["--gin_file={run}/config.gin"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    "text",
    [
        "Loss.temperature = 0.5\nimport evil_module\n",
        "from __gin__ import dynamic_registration\nimport evil_module\n"
        "Loss.temperature = @evil_module.run()\n",
    ],
    ids=["import", "dynamic registration"],
)
def test_settings_in_a_shared_run_cannot_run_code(repo_root, tmp_path, arguments, text):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.gin").write_text(text)
    marker = tmp_path / "executed"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    done = subprocess.run(
        [sys.executable, str(repo_root / "run.py"), *(a.format(run=folder) for a in arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert not marker.exists()
    assert done.returncode == 2
    assert f"run.py: {folder}/config.gin line " in done.stderr
    assert "a run's saved settings may only have" in done.stderr


def test_a_run_leaves_the_same_settings_twice(trained):
    values = [saved_settings.read(f"{trained}/config.{name}") for name in ("json", "gin")]
    assert values[0] == values[1] and values[0]["train_batch_size"] == 16


def test_another_batch_size_is_said_and_counted(copy, capsys, seen_by_pipeline):
    results = small.run(f"--model_dir={copy}", "--train_batch_size=32", "--train_steps=4")
    assert results["step"] == 4 and seen_by_pipeline == [32]
    assert (
        "Step 2 resumes with different settings: train_batch_size 16 -> 32, train_steps 2 -> 4. "
        "Learning rate: 0 by the old settings, 0.1875 now. Seen so far: 32 images, 0.50 epochs."
    ) in capsys.readouterr().err
    # Now 2 * 16 + 2 * 32 images, which no multiplication of steps by a batch size tells.
    small.run(f"--model_dir={copy}", "--train_steps=5")
    assert seen_by_pipeline == [32, 96]
    assert "Seen so far: 96 images, 1.50 epochs." in capsys.readouterr().err


def test_going_on_with_the_same_settings_says_nothing(shapes_dir, tmp_path, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    arguments = (*TINY, f"--data_dir={shapes_dir}", f"--model_dir={tmp_path}", "--train_steps=2")
    with monkeypatch.context() as patch:
        patch.setattr(Exporter, "export_latest", stop)
        with pytest.raises(KeyboardInterrupt):
            small.run(*arguments, "--checkpoint_steps=1")
    for name in os.listdir(tmp_path):
        if name.startswith("ckpt-2") or name == "checkpoint":
            os.remove(tmp_path / name)
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-1"\nall_model_checkpoint_paths: "ckpt-1"\n'
    )
    capsys.readouterr()
    assert small.run(f"--model_dir={tmp_path}")["step"] == 2
    error = capsys.readouterr().err
    assert "steps 1 to 2 of 16 images" in error and "different settings" not in error


def test_a_run_of_an_earlier_version_goes_on(
    shapes_dir, tmp_path, capsys, monkeypatch, seen_by_pipeline
):
    """Such a run has left config.gin alone, and no number of examples in its checkpoints."""
    original = run_state.Checkpointer
    with monkeypatch.context() as patch:
        patch.setattr(
            run_state,
            "Checkpointer",
            lambda *args, examples_seen, **kwargs: original(*args, **kwargs),
        )
        small.run(*TINY, f"--data_dir={shapes_dir}", f"--model_dir={tmp_path}", "--train_steps=2")
    os.remove(tmp_path / "config.json")
    keys = [name for name, _ in tf.train.list_variables(str(tmp_path / "ckpt-2"))]
    assert EXAMPLES_KEY not in keys
    assert (
        small.run(f"--model_dir={tmp_path}", "--train_steps=3", "--train_batch_size=32")["step"]
        == 3
    )
    assert seen_by_pipeline == [0, 32]
    assert "Seen so far: 32 images, 0.50 epochs." in capsys.readouterr().err
    keys = [name for name, _ in tf.train.list_variables(str(tmp_path / "ckpt-3"))]
    assert EXAMPLES_KEY in keys and (tmp_path / "config.json").exists()


@pytest.fixture
def picture(tmp_path) -> str:
    path = tmp_path / "picture.png"
    path.write_bytes(tf.io.encode_png(tf.zeros((32, 32, 3), tf.uint8)).numpy())
    return str(path)


def predict(checkpoint_path, picture, output) -> dict:
    return small.run(
        "--mode=predict",
        f"--checkpoint={checkpoint_path}",
        f"--images={picture}",
        f"--output={output}",
        "--eval_batch_size=1",
    )


def test_a_saved_model_put_into_a_run_is_not_opened(copy, picture, tmp_path, loaded_graphs):
    shutil.copytree(f"{copy}/saved_model/2", copy, dirs_exist_ok=True)
    assert predict(copy, picture, tmp_path / "out.csv")["written"] == 1
    assert loaded_graphs == []


def test_of_our_own_saved_model_the_variables_are_read(
    copy, picture, tmp_path, loaded_graphs, capsys
):
    elsewhere = shutil.copytree(f"{copy}/saved_model/2", tmp_path / "a" / "b" / "c" / "elsewhere")
    for name, path in (("beside", f"{copy}/saved_model/2"), ("elsewhere", elsewhere)):
        predict(path, picture, tmp_path / f"{name}.csv")
    assert loaded_graphs == []
    assert "graph" not in capsys.readouterr().err
    rows = [
        (tmp_path / f"{name}.csv").read_text().splitlines()[1].split(",")
        for name in ("beside", "elsewhere")
    ]
    assert rows[0][:2] == rows[1][:2]
    first, second = ([float(value) for value in row[2:]] for row in rows)
    assert first == pytest.approx(second, rel=1e-4)
