"""Class folders that change between training and what follows: no class gets another's number."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import small
from tf_simclr import run_state
from tf_simclr.checkpoints import waiting, weights
from tf_simclr.errors import ConfigError

pytestmark = pytest.mark.long

TINY = (
    *small.RUN,
    "--dataset=folder",
    "--eval_batch_size=8",
    "--train_mode=finetune",
    "--optimizer=momentum",
    "--learning_rate=3",
    "--eval_split=test",
)
COLOURS = {"a": (220, 30, 30), "b": (30, 220, 30), "c": (30, 30, 220)}
NAMES = ["a", "b", "c"]
TOP_1 = "eval/label_top_1_accuracy"
STEPS = 30


def write_pictures(root, colors: dict[str, tuple]) -> str:
    """root/{train,test}/CLASS/: noisy pictures of one color for each class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 8)):
        for name, color in colors.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(-25, 25, (32, 32, 3))
                pixels = np.clip(noise + color, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(root)


def contents(folder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def class_names(folder) -> list[str]:
    return json.loads((folder / "about.json").read_text())["class_names"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, str]:
    """{name: --data_dir=...}: the three classes, without the first, with one more, and others."""
    root = tmp_path_factory.mktemp("data")
    fewer = {name: COLOURS[name] for name in ("b", "c")}
    more = {"0new": (220, 220, 30), **COLOURS}
    others = dict(zip(("x", "y", "z"), COLOURS.values(), strict=True))
    folders = {"all": COLOURS, "fewer": fewer, "more": more, "others": others}
    return {
        name: f"--data_dir={write_pictures(root / name, colors)}"
        for name, colors in folders.items()
    }


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """model_dir of a run that tells the three classes apart."""
    model_dir = tmp_path_factory.mktemp("runs") / "trained"
    results = small.run(
        *TINY,
        data["all"],
        f"--model_dir={model_dir}",
        "--from_scratch",
        f"--train_steps={STEPS}",
        "--eval_every_epochs=10",
    )
    assert results[TOP_1] == 1
    return model_dir


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the trained run's model_dir that a test may change."""
    return shutil.copytree(trained, tmp_path / "copy")


def test_the_names_lie_beside_all_weights(trained):
    exported = sorted(trained.glob("saved_model*/*/assets"))
    assert len(exported) == 2
    for folder in (trained, trained / "best", *exported):
        assert class_names(folder) == NAMES


def test_a_data_set_with_fewer_classes_is_evaluated_by_name(data, copy, capsys):
    results = small.run(
        *TINY, data["fewer"], f"--model_dir={copy}", "--mode=eval", f"--train_steps={STEPS}"
    )
    assert results[TOP_1] == 1  # 0 if b counted as a, and c as b
    assert "mapped by class name" in capsys.readouterr().err
    assert class_names(copy) == NAMES
    assert class_names(copy / f"saved_model/{STEPS}/assets") == NAMES


def test_evaluation_reads_the_names_when_the_first_checkpoint_comes(
    data, trained, tmp_path, monkeypatch
):
    model_dir = tmp_path / "late"

    def arrive(directory, *, timeout):
        assert directory == str(model_dir) and timeout == 60
        shutil.copytree(trained, model_dir)

    monkeypatch.setattr(waiting, "wait_for_first", arrive)
    results = small.run(
        *TINY,
        data["fewer"],
        f"--model_dir={model_dir}",
        "--mode=eval",
        f"--train_steps={STEPS}",
        "--eval_timeout=60",
    )
    assert results[TOP_1] == 1


def test_a_run_goes_on_with_fewer_classes_under_their_numbers(data, copy, capsys):
    results = small.run(
        *TINY,
        data["fewer"],
        f"--model_dir={copy}",
        f"--train_steps={STEPS + 2}",
        "--mode=train_then_eval",
        "--label_fraction=0.99",
        "--learning_rate=1e-9",
    )
    assert results[TOP_1] == 1 and results["step"] == STEPS + 2
    assert "mapped by class name" in capsys.readouterr().err
    assert class_names(copy) == class_names(copy / f"saved_model/{STEPS + 2}/assets") == NAMES


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_an_unknown_class_is_refused_by_name_and_nothing_is_written(data, copy, mode):
    before = contents(copy)
    message = small.refused(
        *TINY, data["more"], f"--model_dir={copy}", f"--mode={mode}", f"--train_steps={STEPS + 2}"
    )
    assert f"model_dir '{copy}' was not trained on: '0new'" in message
    assert contents(copy) == before


def test_a_head_for_other_classes_is_not_taken_over(data, trained, tmp_path):
    new = tmp_path / "new"
    arguments = (
        *TINY,
        data["more"],
        f"--model_dir={new}",
        f"--checkpoint={trained}",
        "--train_steps=1",
    )
    message = small.refused(*arguments)
    assert "'0new'" in message and "--zero_init_logits_layer" in message
    assert not new.exists()
    small.run(*arguments, "--zero_init_logits_layer")
    assert class_names(new) == ["0new", *NAMES]


def test_a_head_is_taken_over_with_its_names(data, trained, tmp_path):
    new = tmp_path / "new"
    results = small.run(
        *TINY,
        data["fewer"],
        f"--model_dir={new}",
        f"--checkpoint={trained}/best",
        "--train_steps=1",
        "--learning_rate=1e-9",
        "--mode=train_then_eval",
    )
    assert results[TOP_1] == 1
    assert class_names(new) == NAMES
    assert len(weights.read_weights(str(new))["head_supervised/dense/bias"]) == 3


@pytest.mark.parametrize("where", ["", "best", f"ckpt-{STEPS}", f"saved_model/{STEPS}"])
def test_predictions_have_the_names_of_the_weights(data, trained, tmp_path, where):
    pictures = f"{data['fewer'].partition('=')[2]}/test/c"
    output = tmp_path / "out.csv"
    # Whatever --data_dir says.
    small.run(
        "--mode=predict",
        data["more"],
        f"--checkpoint={trained}/{where}".rstrip("/"),
        "--eval_batch_size=8",
        f"--images={pictures}",
        f"--output={output}",
    )
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "prediction", "probability", *NAMES]
    assert [row["prediction"] for row in rows] == ["c"] * 8


def test_a_student_is_not_evaluated_by_labels_of_other_classes(data, trained, tmp_path, capsys):
    """As many classes as the teacher's, but others, among images that need no labels."""
    student = tmp_path / "student"
    results = small.run(
        *TINY,
        data["others"],
        f"--model_dir={student}",
        "--train_mode=distill",
        f"--teacher={trained}",
        "--train_steps=1",
        "--mode=train_then_eval",
    )
    assert TOP_1 not in results
    assert "nothing to evaluate" in capsys.readouterr().err
    assert class_names(student) == NAMES


def test_workers_that_see_other_names_are_refused(monkeypatch):
    config = small.parse(*TINY, "--model_dir=x", "--from_scratch")
    numbers = []

    def all_same(strategy, number):
        numbers.append(number)
        return len(numbers) == 1  # the settings are the same, the names are not

    monkeypatch.setattr(run_state.workers, "all_same", all_same)
    names = ("a", "b\udcff")  # a folder's name may be any bytes
    strategy = tf.distribute.get_strategy()
    with pytest.raises(ConfigError, match="workers see different class names.*model_dir"):
        run_state.build(config.replace(seed=1), None, None, strategy, class_names=names)
    assert len(numbers) == 2
