"""Cached features are those of the pictures that the folder holds now."""

import pytest

import small
from hostile_pictures import noise, saved, write
from tf_simclr.data.sources import opening

pytestmark = pytest.mark.long

TINY = (
    *small.RUN,
    "--dataset=folder",
    "--image_size=8",
    "--train_batch_size=8",
    "--eval_batch_size=8",
    "--train_steps=1",
    "--eval_split=test",
)


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """(data_dir, model_dir) of a run whose features are cached."""
    root = tmp_path_factory.mktemp("run")
    for folder in ("train/cat", "train/dog", "test/cat", "test/dog"):
        files = {f"{i}.png": saved(noise(8 + i), format="PNG") for i in range(8)}
        write(root / "data" / folder, files)
    data_dir, model_dir = root / "data", root / "run"
    small.run(*TINY, f"--data_dir={data_dir}", f"--model_dir={model_dir}", "--mode=train")
    small.run("--mode=probe", f"--model_dir={model_dir}")
    return data_dir, model_dir


def cached(model_dir, capsys) -> list[bool]:
    """Whether the features of train and test come from files."""
    capsys.readouterr()
    small.run("--mode=probe", f"--model_dir={model_dir}")
    lines = [line for line in capsys.readouterr().err.splitlines() if "Features of" in line]
    assert len(lines) == 2
    return ["images, from" in line for line in lines]


def test_features_are_kept_until_the_folder_changes(probed, capsys):
    data_dir, model_dir = probed
    assert cached(model_dir, capsys) == [True, True]
    (data_dir / "train" / "cat" / "1.png").rename(data_dir / "train" / "dog" / "9.png")
    (data_dir / "train" / "dog" / "2.png").rename(data_dir / "train" / "cat" / "9.png")
    assert cached(model_dir, capsys) == [False, False]
    assert cached(model_dir, capsys) == [True, True]


def test_another_range_of_values_is_another_data_set(probed, capsys):
    _, model_dir = probed
    cached(model_dir, capsys)
    capsys.readouterr()
    small.run("--mode=probe", f"--model_dir={model_dir}", "--image_range=0,4095")
    assert capsys.readouterr().err.count("images, kept in") == 2


def test_a_limited_data_set_has_a_fingerprint_of_its_own(probed):
    data_dir, _ = probed

    def fingerprint(**settings) -> int:
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        config = small.parse(*TINY, f"--data_dir={data_dir}", "--train_mode=finetune", *arguments)
        return opening.limit_labels(config, opening.open_data(config)).fingerprint()

    found = {
        fingerprint(),
        fingerprint(label_fraction=0.5),
        fingerprint(label_fraction=0.5, label_seed=1),
        fingerprint(label_fraction=0.25),
        fingerprint(label_fraction=0.5, train_split="test"),
    }
    assert len(found) == 5 and fingerprint(label_fraction=0.5) in found
