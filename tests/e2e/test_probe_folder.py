"""Cached features are those of the pictures that the folder holds now."""

import pytest

from hostile_pictures import noise, saved, write
from tf_simclr import experiment
from tf_simclr.cli import flags
from tf_simclr.data.sources import opening

pytestmark = pytest.mark.long

TINY = (
    "--dataset=folder",
    "--image_size=8",
    "--resnet_depth=18",
    "--width_multiplier=0.0625",
    "--train_batch_size=8",
    "--eval_batch_size=8",
    "--train_steps=1",
    "--warmup_epochs=0",
    "--seed=3",
    "--eval_split=test",
)


def run(*arguments) -> dict:
    config = flags.parse(["run.py", *arguments]).config
    return experiment.run(config)


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """(data_dir, model_dir) of a run whose features are cached."""
    root = tmp_path_factory.mktemp("run")
    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        files = {f"{i}.png": saved(noise(8 + i), format="PNG") for i in range(8)}
        write(root / "data" / place, files)
    data_dir, model_dir = root / "data", root / "run"
    run(*TINY, f"--data_dir={data_dir}", f"--model_dir={model_dir}", "--mode=train")
    run("--mode=probe", f"--model_dir={model_dir}")
    return data_dir, model_dir


def cached(model_dir, capsys) -> list[bool]:
    """Whether the features of train and test come from files."""
    capsys.readouterr()
    run("--mode=probe", f"--model_dir={model_dir}")
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
    run("--mode=probe", f"--model_dir={model_dir}", "--image_range=0,4095")
    assert capsys.readouterr().err.count("images, kept in") == 2


def test_a_limited_data_set_has_a_fingerprint_of_its_own(probed):
    data_dir, _ = probed

    def fingerprint(**settings) -> int:
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        config = flags.parse(
            ["run.py", *TINY, f"--data_dir={data_dir}", "--train_mode=finetune", *arguments]
        ).config
        return opening.with_few_labels(config, opening.open_data(config)).fingerprint()

    found = {
        fingerprint(),
        fingerprint(label_fraction=0.5),
        fingerprint(label_fraction=0.5, label_seed=1),
        fingerprint(label_fraction=0.25),
        fingerprint(label_fraction=0.5, train_split="test"),
    }
    assert len(found) == 5 and fingerprint(label_fraction=0.5) in found
