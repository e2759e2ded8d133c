"""--eval_every_epochs: what is evaluated on the way and kept, and that nothing else changes."""

import json
import os

import numpy as np
import pytest

from tf_simclr import experiment, flags
from tf_simclr.training.weights import read_weights

TINY = (
    "--dataset=shapes", "--train_split=train[:64]", "--eval_split=test[:200]", "--image_size=32",
    "--resnet_depth=18", "--width_multiplier=0.0625", "--train_batch_size=16",
    "--train_mode=finetune", "--from_scratch", "--optimizer=momentum", "--learning_rate=3",
    "--warmup_epochs=0", "--train_steps=6", "--checkpoint_steps=2", "--seed=3",
)  # fmt: skip


def run(*arguments) -> dict:
    config = flags.parse(["run.py", *TINY, *arguments]).config
    return experiment.run(config, config_gin=flags.to_gin(config))


def checkpoints(folder) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".index"))


@pytest.fixture(scope="module")
def runs(shapes_dir, tmp_path_factory):
    """(model_dir, results) of a run that evaluates every second step, (...) of one that does not"""
    parent = tmp_path_factory.mktemp("runs")
    data = f"--data_dir={shapes_dir}"
    early, plain = str(parent / "early"), str(parent / "plain")
    return (
        (early, run(data, f"--model_dir={early}", "--eval_every_epochs=0.5")),
        (plain, run(data, f"--model_dir={plain}")),
    )


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
    assert list(events(f"{early}/eval")["eval/label_top_1_accuracy"]) == [2, 4, 6]
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
    results = run(f"--data_dir={shapes_dir}", f"--model_dir={early}", "--eval_every_epochs=0.5",
                  "--mode=train_then_eval")  # fmt: skip
    assert results["best_step"] == 6
    assert checkpoints(f"{early}/best") == ["ckpt-6.index"]
