"""The parts of a run's time, and the sides that are timed; never their times."""

import ast
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from benchmarks import lightly_env, moments, programs
from benchmarks.__main__ import main
from benchmarks.sides.stamps import Stamps

STEPS = ("--batch=8", "--steps=4", "--checkpoint_steps=2", "--pairs=1")
TF_PARTS = [*moments.PARTS, moments.STEADY, moments.OVERHEAD, moments.WHOLE]


def _call(began: float, ended: float, steps: int, **more) -> dict:
    return {"what": "call", "began": began, "ended": ended, "steps": steps} | more


def test_parts_of_a_run_add_up():
    written = [
        {"what": "import", "began": 11.0, "ended": 13.0},
        _call(20.0, 34.0, 3, traced=26.0),  # tracing 6 s, first step, two steady steps of 2 s
        {"what": "checkpoint", "began": 34.0, "ended": 35.0},
        _call(36.0, 37.0, 1, traced=None),
        _call(37.0, 42.0, 2),
        {"what": "checkpoint", "began": 42.0, "ended": 43.5},
        {"what": "export", "began": 50.0, "ended": 57.0},
        {"what": "evaluation", "began": 45.0, "ended": 58.0},
    ]
    seconds = moments.parts(written, started=10.0, ended=60.0, window=3)
    assert seconds == {
        "import": 3.0,
        moments.BUILD: 7.0,
        moments.TRACE: 6.0,
        moments.FIRST: 4.0,
        moments.LATER: 10.0,
        moments.CHECKPOINTS: 2.5,
        "evaluation": 6.0,
        "export": 7.0,
        moments.REST: 4.5,
        moments.STEADY: 2.0,
        moments.OVERHEAD: 40.0,
        moments.WHOLE: 50.0,
    }
    assert sum(seconds[part] for part in moments.PARTS) == seconds[moments.WHOLE]


def test_steady_step_is_the_median_of_the_windows_after_the_first():
    calls = [_call(0, 100, 2), _call(100, 104, 2), _call(104, 105, 1), _call(105, 106, 1)]
    calls.append(_call(106, 126, 2))
    written = [{"what": "import", "began": 0, "ended": 0}, *calls]
    seconds = moments.parts(written, started=0, ended=130, window=2)
    assert seconds[moments.STEADY] == 2.0  # windows of 2, 1 and 10 seconds per step
    assert seconds[moments.TRACE] == 0  # a side that does not trace


@pytest.mark.parametrize(
    "written, message",
    [
        ([], "no time of its imports"),
        ([{"what": "import", "began": 0, "ended": 1}], "or of a step"),
        ([{"what": "import", "began": 0, "ended": 1}, _call(1, 2, 5)], "5 steps, and the first 5"),
    ],
)
def test_missing_moments_are_errors(written, message):
    with pytest.raises(ValueError, match=message):
        moments.parts(written, started=0, ended=9, window=5)


def test_stamps_are_read_back_in_order(tmp_path):
    class Program:
        def save(self, value: int) -> int:
            return 2 * value

    stamps = Stamps(str(tmp_path / "stamps"))
    assert moments.read(tmp_path / "stamps") == []
    stamps.wrap(Program, "save", "checkpoint")
    with stamps.span("call", steps=3):
        assert Program().save(4) == 8
    inner, outer = moments.read(tmp_path / "stamps")
    assert (inner["what"], outer["what"], outer["steps"]) == ("checkpoint", "call", 3)
    assert outer["began"] <= inner["began"] <= inner["ended"] <= outer["ended"]


OFFICIAL_FILES = ("objective.py", "lars_optimizer.py")
# As the official program: its function that trains makes the variables when it is traced, and takes
# all steps between two checkpoints.
OFFICIAL_RUN = """
import sys
import tensorflow.compat.v2 as tf
class app:
    run = staticmethod(lambda main: main(sys.argv))
given = dict(flag[2:].split("=") for flag in sys.argv[1:])
def save(model, global_step):
    pass
def perform_evaluation(model):
    save(model, 4)
def main(argv):
    assert given.pop("use_tpu") == "False" and "precision" not in given, argv
    steps, total = int(given["checkpoint_steps"]), int(given["train_steps"])
    module, holder = tf.Module(), []
    @tf.function
    def train_multiple_steps(iterator):
        if not holder:
            holder.append(tf.Variable(0))
        for _ in tf.range(steps):
            holder[0].assign_add(next(iterator))
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(), given["model_dir"], 1)
    iterator = iter(tf.data.Dataset.from_tensors(1).repeat())
    while not holder or holder[0].numpy() < total:
        train_multiple_steps(iterator)
        manager.save()
    assert holder[0].numpy() == total
    print("flags:", *sorted(given))
    perform_evaluation(module)
    {end}
"""


def _official(folder: Path, *, end: str = "pass") -> Path:
    folder.mkdir()
    for name in OFFICIAL_FILES:
        (folder / name).touch()
    (folder / "run.py").write_text(OFFICIAL_RUN.replace("{end}", end))
    return folder


def _measure(folder: Path, *arguments: str) -> list[dict]:
    path = folder / "rows.jsonl"
    main(["end_to_end", *STEPS, f"--json={path}", *arguments])
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.long
def test_a_checkout_like_the_official_one_takes_turns_with_ours(tmp_path, shapes_dir, capsys):
    checkout = _official(tmp_path / "tf2")
    rows = _measure(
        tmp_path,
        f"--vs={checkout}",
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--width_multiplier=0.0625",
        "--precision=float32,bfloat16",
    )
    shown = capsys.readouterr()
    assert [line.split(":")[0] for line in shown.err.splitlines() if " s" in line] == [
        "tf_simclr, float32",
        "official, float32",
        "tf_simclr, bfloat16",
    ]
    assert [row["what"] for row in rows] == 2 * TF_PARTS
    assert rows[0]["setting"] == "ResNet-18, batch 8, float32, width 0.0625"
    assert rows[-1]["setting"] == "ResNet-18, batch 8, bfloat16, width 0.0625 beside float32"
    for row in rows:
        assert row["ours"] > 0 and len(row["our_runs"]) == len(row["baseline_runs"]) == 1
    official = {row["what"]: row["baseline"] for row in rows[: len(TF_PARTS)]}
    assert min(official[part] for part in ("import", moments.TRACE, moments.CHECKPOINTS)) > 0
    assert "first call takes 2 steps" in shown.out


@pytest.mark.long
def test_a_side_that_fails_shows_its_last_lines(tmp_path, shapes_dir, capsys):
    checkout = _official(tmp_path / "tf2", end="sys.exit('no disk space left')")
    arguments = (f"--vs={checkout}", "--dataset=shapes", f"--data_dir={shapes_dir}")
    with pytest.raises(SystemExit, match="official failed with status 1:(?s:.*)no disk space left"):
        _measure(tmp_path, *arguments, "--width_multiplier=0.0625")


@pytest.mark.long
def test_this_checkout_on_both_sides(tmp_path, shapes_dir, repo_root, capsys):
    rows = _measure(
        tmp_path,
        f"--vs={repo_root}",
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--width_multiplier=0.0625",
    )
    assert [row["what"] for row in rows] == TF_PARTS
    for row in rows:
        assert row["ours"] > 0 and row["baseline"] > 0
    assert capsys.readouterr().err.count("tf_simclr, float32: ") == 2


@pytest.mark.long
def test_the_official_code_itself(tmp_path, shared_dir, capsys):
    checkout = Path(os.environ.get("OFFICIAL_SIMCLR", shared_dir.parent / "official" / "tf2"))
    if not checkout.is_dir():
        pytest.skip(f"no checkout of the official code in {checkout}: set OFFICIAL_SIMCLR")
    if int(tf.__version__.split(".")[1]) > 15:
        pytest.skip("the official code runs on no TensorFlow newer than 2.15")
    rows = _measure(tmp_path, f"--vs={checkout}", f"--data_dir={shared_dir / 'tfds'}")
    assert [row["what"] for row in rows] == TF_PARTS
    assert all(row["ours"] > 0 and row["baseline"] > 0 for row in rows)


@pytest.mark.long
def test_lightly_itself(tmp_path, shared_dir, capsys):
    folder = Path(os.environ.get("LIGHTLY_VENV", lightly_env.default_folder()))
    if not folder.is_dir():
        pytest.skip(f"no environment with lightly in {folder}: set LIGHTLY_VENV")
    rows = _measure(
        tmp_path,
        "--vs=lightly",
        f"--venv={folder}",
        f"--data_dir={shared_dir / 'tfds'}",
        "--precision=bfloat16",
    )
    assert [row["what"] for row in rows] == [p for p in TF_PARTS if p != "evaluation"]
    for row in rows:
        assert row["ours"] > 0 and (row["baseline"] > 0 or row["what"] == moments.TRACE)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--vs={tmp}"], "--vs: needs lightly, the folder tf2 of the official code, or a checkout"),
        (["--data_dir={tmp}/none"], "--data_dir: needs a folder, got"),
        (["--precision=float16"], "--precision: needs float32 or bfloat16, got 'float16'"),
        (["--pairs=0"], "--pairs: needs a whole number >= 1, got '0'"),
        (["--steps=25"], "--steps must be a multiple of --checkpoint_steps=10, and at least twice"),
        (["--steps=10"], "--steps must be a multiple of --checkpoint_steps=10, and at least twice"),
        (["--vs=lightly", "--width_multiplier=2"], "--width_multiplier must be 1 with --vs=light"),
        (["--data_dir={tmp}"], "--data_dir: the data set cifar10 is not prepared in "),
        (["--dataset=no_such_set", "--data_dir={tmp}"], "--dataset: "),
        (
            ["--vs=lightly", "--venv={tmp}", "--dataset=shapes", "--data_dir={shapes}"],
            "is not a virtual environment: give a new folder",
        ),
    ],
)
def test_wrong_arguments_are_named(tmp_path, shapes_dir, capsys, arguments, message):
    (tmp_path / "file").touch()
    values = {"tmp": tmp_path, "shapes": shapes_dir}
    with pytest.raises(SystemExit) as stopped:
        main(["end_to_end", *(argument.format(**values) for argument in arguments)])
    assert message in f"{stopped.value}{capsys.readouterr().err}"


def test_kinds_of_checkouts_are_told_apart(tmp_path, repo_root):
    assert programs.parse_baseline(str(repo_root)) == ("tf_simclr", repo_root)
    official = _official(tmp_path / "tf2")
    assert programs.parse_baseline(str(official)) == ("official", official)
    assert programs.parse_baseline("lightly") == "lightly"


def test_an_environment_is_made_once_and_with_the_first_pins_that_install(tmp_path, monkeypatch):
    commands = []

    def install(command, **_):
        commands.append(command[-2:])
        fails = "+cpu" in command[-1]
        return lightly_env.subprocess.CompletedProcess(command, int(fails), stderr="no build")

    monkeypatch.setattr(lightly_env.subprocess, "run", install)
    monkeypatch.setattr(lightly_env.venv, "create", lambda folder, **_: folder.mkdir())
    folder = tmp_path / "venv"
    assert lightly_env.python(folder).parent.parent == folder
    assert commands == [list(pins) for pins in lightly_env.TORCH]
    assert lightly_env.python(folder) and len(commands) == 2

    monkeypatch.setattr(lightly_env, "TORCH", lightly_env.TORCH[:1])
    with pytest.raises(RuntimeError, match="lightly==.* cannot be installed in .*no build"):
        lightly_env.python(tmp_path / "other")


def test_lightly_gets_the_encoded_bytes_of_the_images(tmp_path, shapes_dir):
    builder = tfds.builder("shapes", data_dir=str(shapes_dir))
    assert lightly_env.export_images(builder, 3, tmp_path) == 10
    ends, labels = (np.load(tmp_path / f"{name}.npy") for name in ("ends", "labels"))
    content = (tmp_path / "images.bin").read_bytes()
    assert len(ends) == len(labels) == 3 and ends[-1] == len(content)
    examples = list(tfds.as_numpy(builder.as_dataset(split="train[:3]")))
    for begin, end, label, example in zip([0, *ends], ends, labels, examples, strict=False):
        decoded = np.array(Image.open(io.BytesIO(content[begin:end])).convert("RGB"))
        np.testing.assert_array_equal(decoded, example["image"])
        assert label == example["label"]


def test_the_sides_import_only_what_each_interpreter_has(repo_root):
    """stamps.py is imported under all interpreters."""
    tree = ast.parse((repo_root / "benchmarks" / "sides" / "stamps.py").read_text())
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert names and names <= sys.stdlib_module_names
