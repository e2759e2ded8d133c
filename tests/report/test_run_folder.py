"""What is read from a model_dir: finished, going on, resumed, old, damaged and hostile runs."""

import json
import math
import os
import subprocess
import sys

import pytest
import tensorflow as tf

import made_runs
from tf_simclr.checkpoints import history, run_lock
from tf_simclr.errors import ConfigError
from tf_simclr.report.run_files import folders, run_folder
from tf_simclr.training.metrics_file import MONITOR, TRAIN


def test_a_finished_run(tmp_path):
    run = run_folder.read(str(made_runs.finished(tmp_path / "run")))
    assert (run.state, run.step, run.total_steps) == ("finished", 800, 800)
    assert run.state_text == "finished, step 800 of 800" and run.notes == ()
    assert run.settings["train_batch_size"] == 64
    assert [r.step for r in run.of_kind(TRAIN)] == list(range(100, 801, 100))
    assert [r.step for r in run.of_kind(MONITOR)] == [400, 800]
    (evaluation,) = run.evaluations[""]
    assert evaluation.values == {made_runs.TOP_1: 0.8}
    assert run.results == {"result.json": {made_runs.TOP_1: 0.8, "global_step": 800}}


def test_states(tmp_path):
    made_runs.settings(tmp_path)
    assert run_folder.read(str(tmp_path)).state == "unknown"
    made_runs.start(tmp_path)
    assert run_folder.read(str(tmp_path)).state_text == "stopped, no step"
    with run_lock.lock(str(tmp_path)):
        made_runs.write(tmp_path, made_runs.record(TRAIN, 400, {"train/total_loss": 2.0}))
        for _ in range(2):  # reading releases no lock
            run = run_folder.read(str(tmp_path))
            assert run.state_text == "training, step 400 of 800"
    assert run_folder.read(str(tmp_path)).state == "stopped"  # it was killed
    for reason in history.REASONS:
        history.end(str(tmp_path), reason, step=400)
        assert run_folder.read(str(tmp_path)).state == reason
    made_runs.start(tmp_path, step=400)
    assert run_folder.read(str(tmp_path)).state == "stopped"


def test_checkpoints_and_results_tell_the_step_too(tmp_path):
    made_runs.settings(tmp_path, train_steps=9)
    (tmp_path / "ckpt-7.index").touch()
    (tmp_path / "ckpt-8.data-00000-of-00001").touch()
    assert run_folder.read(str(tmp_path)).state_text == "stopped, step 7 of 9"
    (tmp_path / "result.json").write_text('{"global_step": 9, "eval/x": NaN}')
    run = run_folder.read(str(tmp_path))
    assert run.step == 7 and len(run.notes) == 1  # NaN is no JSON
    (tmp_path / "result.json").write_text('{"global_step": 9, "a": "b", "c": true, "d": 1e999}')
    run = run_folder.read(str(tmp_path))
    assert run.state == "finished" and run.results["result.json"] == {"global_step": 9}


def test_a_run_without_its_length_has_no_of(tmp_path):
    made_runs.settings(tmp_path)
    (tmp_path / "ckpt-400.index").touch()
    run = run_folder.read(str(tmp_path))
    assert (run.total_steps, run.state, run.state_text) == (None, "unknown", "step 400")


def write_events(directory, steps, **tags):
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default():
        for step in steps:
            for tag, value in tags.items():
                tf.summary.scalar(tag.replace("__", "/"), value + step, step=step)
        tf.summary.image("image", tf.zeros((1, 4, 4, 3)), step=max(steps))
    writer.close()


def test_an_old_run_is_read_from_event_files(tmp_path):
    (tmp_path / "config.gin").write_text("Loss.temperature = 0.5\nTraining.train_steps = 20\n")
    (tmp_path / "flags.json").touch()
    write_events(tmp_path, (10, 20), train__contrast_loss=1.0, learning_rate=0.5, other=1.0)
    write_events(tmp_path / "eval", (20,), eval__label_top_1_accuracy=-19.5)
    run = run_folder.read(str(tmp_path))
    assert run.state == "finished" and run.settings["temperature"] == 0.5 and not run.notes
    assert [(r.kind, r.step, dict(r.values)) for r in run.records] == [
        (TRAIN, 10, {"train/contrast_loss": 11.0, "learning_rate": 10.5}),
        (TRAIN, 20, {"train/contrast_loss": 21.0, "learning_rate": 20.5}),
    ]
    assert all(math.isnan(r.epoch) for r in run.records)
    assert run.evaluations[""][0].values == {made_runs.TOP_1: 0.5}


def test_a_run_that_an_older_version_began_has_both(tmp_path):
    made_runs.settings(tmp_path)
    write_events(tmp_path, (10, 20), train__contrast_loss=0.0)
    made_runs.start(tmp_path, step=20)
    made_runs.write(tmp_path, made_runs.record(TRAIN, 20, {"train/contrast_loss": 5.0}))
    made_runs.write(tmp_path, made_runs.record(TRAIN, 30, {"train/contrast_loss": 6.0}))
    run = run_folder.read(str(tmp_path))
    losses = {r.step: r.values["train/contrast_loss"] for r in run.records}
    assert losses == {10: 10.0, 20: 5.0, 30: 6.0}


def test_a_new_run_is_read_without_tensorflow(tmp_path):
    made_runs.finished(tmp_path / "run")
    write_events(tmp_path / "run", (10,), train__contrast_loss=0.0)
    code = (
        "import sys; from tf_simclr.report.run_files import run_folder;"
        f"print(run_folder.read({str(tmp_path / 'run')!r}).state);"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "finished\n", done.stderr


DAMAGED = {
    "config.json": [b"", b"{", b"\xff\xfe", b'{"format": "tf_simclr settings", "version": 7}'],
    "history.json": [b"", b"[]", b"null", b"\x00" * 100, b'{"starts": 3}'],
    "metrics.jsonl": [b'{"format": "tf_simclr metrics", "version": 99}\n'],
    "result.json": [b"{", b"[1]", b'{"global_step": "x"', b"[" * 100_000],
    "best/result.json": [b"{"],
    "result_probe.json": [b"{", b"{}", b'{"encoders": [], "metric": 1, "dataset": 2}'],
}


@pytest.mark.parametrize(
    "name, content", [(n, c) for n, contents in DAMAGED.items() for c in contents]
)
def test_a_damaged_file_is_a_note_and_the_rest_is_read(tmp_path, name, content):
    folder = made_runs.finished(tmp_path / "run")
    (folder / "best").mkdir()
    (folder / "flags.json").touch()
    (folder / name).write_bytes(content)
    run = run_folder.read(str(folder))
    (note,) = run.notes
    assert name in note and "\n" not in note
    assert run.step == 800
    assert bool(run.settings) == (name != "config.json")
    assert bool(run.of_kind(TRAIN)) == (name != "metrics.jsonl")


def test_a_metrics_file_that_is_being_written_gives_its_complete_lines(tmp_path):
    folder = made_runs.finished(tmp_path / "run")
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "train", "step": 900, "epo')
    run = run_folder.read(str(folder))
    assert run.of_kind(TRAIN)[-1].step == 800 and not run.notes


def test_hostile_lines_are_left_out(tmp_path):
    folder = made_runs.finished(tmp_path / "run")
    good = {"kind": "train", "step": 850, "epoch": 1, "time": 1, "values": {"<script>": 1.5}}
    bad = [
        good | {"step": -1},
        good | {"step": 10**30},
        good | {"step": "7"},
        good | {"values": {"a": "b"}},
        good | {"values": [1]},
        good | {"kind": "evil"},
        good | {"spectrum": "abc"},
        good | {"warnings": [1]},
        good | {"values": {"a": [[[]]]}},
    ]
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in bad))
        file.write("x" * 3_000_000 + "\n" + "[" * 50_000 + "\n")
        file.write('{"kind":"train","step":860,"epoch":1,"time":1,"values":{"a":NaN}}\n')
        file.write('{"kind":"train","step":870,"epoch":1e999,"time":1,"values":{}}\n')
        file.write(json.dumps(good) + "\n")
    run = run_folder.read(str(folder))
    assert run.step == 850 and run.records[-1].values == {"<script>": 1.5}


def test_damaged_event_files_are_read_up_to_the_damage(tmp_path):
    made_runs.settings(tmp_path)
    write_events(tmp_path, (10,), train__contrast_loss=0.0)
    (path,) = tmp_path.glob("events*")
    with open(path, "ab") as file:
        file.write(b"\xff" * 50)
    assert [r.step for r in run_folder.read(str(tmp_path)).records] == [10]


def test_scalars_of_hostile_shape_are_left_out(tmp_path):
    """make_ndarray would allocate what the shape says."""
    made_runs.settings(tmp_path)
    event = tf.compat.v1.Event(step=5)
    value = event.summary.value.add(tag="train/contrast_loss")
    value.tensor.dtype = tf.float32.as_datatype_enum
    value.tensor.float_val.append(1.0)
    value.tensor.tensor_shape.dim.add(size=2**50)
    event.summary.value.add(tag="train/total_loss", simple_value=2.5)
    event.summary.value.add(tag="train/weight_decay", simple_value=math.nan)
    with tf.io.TFRecordWriter(str(tmp_path / "events.out.tfevents.1")) as writer:
        writer.write(event.SerializeToString())
    (record,) = run_folder.read(str(tmp_path)).records
    assert record.values == {"train/total_loss": 2.5}


def test_a_folder_that_is_no_run_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match="there is no directory .*missing"):
        run_folder.read(str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="not the directory of a run"):
        run_folder.read(str(tmp_path))
    (tmp_path / "config.json").write_text('{"architectures": ["ResNet"]}')  # of another program
    (tmp_path / "ckpt-1.index").touch()
    with pytest.raises(ConfigError, match="not the directory of a run"):
        run_folder.read(str(tmp_path))
    (tmp_path / "config.json").unlink()
    (tmp_path / "about.json").touch()
    assert run_folder.read(str(tmp_path)).settings == {}


def test_files_that_block_are_not_opened(tmp_path):
    made_runs.settings(tmp_path)
    for name in (".lock", "metrics.jsonl", "history.json", "result.json", "events.out.tfevents.1"):
        os.mkfifo(tmp_path / name)
    run = run_folder.read(str(tmp_path))
    assert run.records == () and run.results == {}


# --- Runs below a folder.


def found(root) -> list[str]:
    paths, bound = folders.find(str(root), run_folder.is_run)
    assert bound == ""
    return [os.path.relpath(path, root) for path in paths]


def test_runs_are_found_at_any_depth_and_in_the_order_of_numbers(tmp_path):
    for name in ("run10", "run2", "a/b/c/d/e", "run2/finetuned", "run2/best", "run2/saved_model/7"):
        made_runs.settings(tmp_path / name)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "config.json").write_text("{}")
    assert found(tmp_path) == ["a/b/c/d/e", "run2", "run2/finetuned", "run10"]
    assert found(tmp_path / "run10") == ["."]


def test_links_are_followed_but_not_in_circles(tmp_path):
    made_runs.settings(tmp_path / "elsewhere" / "run")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "broken").symlink_to(tmp_path / "nothing")
    assert len(found(tmp_path / "root")) == 1


def test_the_search_is_bounded_and_says_so(tmp_path, monkeypatch):
    for i in range(5):
        made_runs.settings(tmp_path / f"run{i}")
    monkeypatch.setattr(folders, "MAX_FOUND", 3)
    paths, bound = folders.find(str(tmp_path), run_folder.is_run)
    assert len(paths) == 3 and "only the first 3 runs" in bound


@pytest.mark.parametrize(
    "paths, names",
    [
        (["runs/demo"], ["demo"]),
        (["runs/demo/", "/x/other"], ["demo", "other"]),
        (["/x/a/first", "/x/b/first", "/x/y/c"], ["a/first", "b/first", "y/c"]),
        (["gs://bucket/run", "gs://other/run"], ["bucket/run", "other/run"]),
        (["/r", "/r"], ["/r", "/r (2)"]),
        (["/"], ["/"]),
        ([], []),
    ],
)
def test_short_names_are_unique(paths, names):
    assert folders.short_names(paths) == names
