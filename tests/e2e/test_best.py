"""--eval_every_epochs: what is evaluated on the way and kept, and that nothing else changes."""

import collections
import contextlib
import functools
import json
import os

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr.checkpoints.formats.tensorflow import saved_model
from tf_simclr.checkpoints.weights import read_weights
from tf_simclr.modes.export import Exporter
from tf_simclr.training import evaluator

pytestmark = pytest.mark.long

run = functools.partial(small.run, *small.FINETUNE, "--train_steps=6", "--checkpoint_steps=2")


def checkpoints(folder) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".index"))


def leave_summaries(folder, tag):
    """Leaves what a run that was killed before its first checkpoint has written."""
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default():
        for step in range(1, 7):
            tf.summary.scalar(tag, -1.0, step=step)
    writer.close()


def count_summaries(folder) -> dict[tuple[str, int], int]:
    """How often each (tag, step) stands in the event files of a folder."""
    return collections.Counter(
        (value.tag, event.step)
        for name in os.listdir(folder)
        if "tfevents" in name
        for event in tf.compat.v1.train.summary_iterator(f"{folder}/{name}")
        for value in event.summary.value
    )


@contextlib.contextmanager
def counted_calls(module, name):
    """Counts the calls of a function of a module: of one in a graph, how often it is traced."""
    function, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(name)
        return function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, counted)
        yield calls


@pytest.fixture(scope="module")
def traces():
    """The traces of an evaluation in the first of `runs`."""
    return []


@pytest.fixture(scope="module")
def runs(shapes_dir, tmp_path_factory, traces):
    """(model_dir, results) of a run that evaluates every second step, (...) of one that does not"""
    parent = tmp_path_factory.mktemp("runs")
    data = f"--data_dir={shapes_dir}"
    early, plain = str(parent / "early"), str(parent / "plain")
    leave_summaries(f"{early}/eval", "eval/label_top_1_accuracy")
    leave_summaries(plain, "train/total_loss")
    with counted_calls(evaluator, "evaluation_step") as calls:
        results = run(data, f"--model_dir={early}", "--eval_every_epochs=0.5")
    traces += calls
    return (early, results), (plain, run(data, f"--model_dir={plain}"))


def test_all_evaluations_of_a_run_are_one_trace(runs, traces):
    assert len(traces) == 1


def test_no_step_stands_twice_after_a_run_was_killed(runs):
    (early, _), (plain, _) = runs
    assert set(count_summaries(f"{early}/eval").values()) == {1}
    found = count_summaries(plain)
    assert set(found.values()) == {1}
    assert [step for tag, step in found if tag == "train/total_loss"] == [6]


def test_evaluations_do_not_change_the_training(runs):
    (early, _), (plain, results) = runs
    first, second = (read_weights(f"{folder}/ckpt-6") for folder in (early, plain))
    for path, value in second.items():
        np.testing.assert_array_equal(first[path], value, err_msg=path)
    assert not {"best", "saved_model_best"} & set(os.listdir(plain))
    assert "best_step" not in results


def test_the_best_is_kept_and_exported(runs, events):
    (early, results), _ = runs
    top_1 = {}
    for step in (2, 4, 6):
        with open(f"{early}/result_{step}.json") as file:
            top_1[step] = json.load(file)["eval/label_top_1_accuracy"]
    best = max(top_1, key=top_1.get)  # of equals the first
    assert results["best_step"] == best and results["best_top_1"] == top_1[best]
    with open(f"{early}/best/result.json") as file:
        assert json.load(file)["global_step"] == best
    assert checkpoints(f"{early}/best") == [f"ckpt-{best}.index"]
    kept = read_weights(f"{early}/ckpt-{best}")
    for path in (f"{early}/best", results["best_saved_model"]):
        found = read_weights(path)
        assert found.keys() == kept.keys()
        for name, value in kept.items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{path}: {name}")
    curve = events(f"{early}/eval")["eval/label_top_1_accuracy"]
    assert {step: float(curve[step]) for step in (2, 4, 6)} == pytest.approx(top_1)
    # The run itself ends, and is exported, where it ended.
    assert results["step"] == 6 and results["saved_model"].endswith("/saved_model/6")


def test_a_later_best_takes_the_place_of_the_first(runs, shapes_dir):
    """A finished run evaluates once more; with a worse record on file its last step is the best."""
    (early, _), _ = runs
    path = f"{early}/best/result.json"
    with open(path) as file:
        record = json.load(file)
    with open(path, "w") as file:
        json.dump(record | {"eval/label_top_1_accuracy": -1.0}, file)
    results = run(
        f"--data_dir={shapes_dir}",
        f"--model_dir={early}",
        "--eval_every_epochs=0.5",
        "--mode=train_then_eval",
    )
    assert results["best_step"] == 6
    assert checkpoints(f"{early}/best") == ["ckpt-6.index"]


@pytest.mark.long
def test_following_a_run_traces_evaluation_and_export_once(runs, monkeypatch):
    """mode=eval in half precision, which exports a copy of the model in float32."""
    (early, _), _ = runs
    followed = [f"{early}/ckpt-{step}" for step in (2, 4, 6)]
    monkeypatch.setattr(tf.train, "checkpoints_iterator", lambda *_, **__: iter(followed))
    with counted_calls(evaluator, "evaluation_step") as evaluations:
        with counted_calls(saved_model, "exportable") as exports:
            run(
                f"--model_dir={early}",
                "--mode=eval",
                "--precision=bfloat16",
                "--eval_name=half",
                "--keep_hub_module_max=3",
            )
    assert len(evaluations) == len(exports) == 1
    for prefix in followed:
        step = prefix.rpartition("-")[2]
        expected, found = read_weights(prefix), read_weights(f"{early}/saved_model/{step}")
        for path, value in expected.items():
            np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.mark.long
def test_memory_is_flat_over_100_evaluations(runs, monkeypatch):
    (early, _), _ = runs
    memory = []

    def follow(*_, **__):
        for number in range(100):
            with open("/proc/self/statm") as file:
                memory.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
            yield f"{early}/ckpt-{2 + 2 * (number % 2)}"

    monkeypatch.setattr(tf.train, "checkpoints_iterator", follow)
    monkeypatch.setattr(Exporter, "export_latest", lambda self: None)
    run(f"--model_dir={early}", "--mode=eval", "--eval_name=memory")
    # MiB. The allocator settles in the first of them.
    assert memory[-1] - memory[20] < 40, memory[::10]
