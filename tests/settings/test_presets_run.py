"""Every preset takes two steps and exports, at its own image size and flags, on host and device.

Only width, depth, batch and data are shrunk. All are part of `make test-long`.
"""

import os
from pathlib import Path

import pytest

import small
from tf_simclr.cli import flags
from tf_simclr.devices import strategies

PRESETS = sorted(path.stem for path in Path(flags.PRESETS).glob("*.gin"))
# Presets that start from another's checkpoint.
PRETRAINED = {
    "cifar10_finetune": "cifar10_resnet18",
    "cifar10_linear_eval": "cifar10_resnet18",
    "imagenet_finetune": "imagenet_resnet50_100ep_linear",
    "imagenet_linear_eval": "imagenet_resnet50_100ep_linear",
    "simclrv2_finetune": "simclrv2_resnet50_1x",
}


@pytest.fixture(scope="module")
def train(shapes_dir, shared_dir):
    """Function: (name of a preset, model_dir, more arguments) -> what run.py returns."""

    def train(preset: str, folder, *more) -> dict:
        config = small.parse(f"--gin_file={preset}", f"--model_dir={folder}", *more)
        dataset = config.data.dataset.split("_subset")[0]
        split = {"shapes": "train", "cifar10": "train[:2000]", "imagenet2012": "train"}[dataset]
        return small.run(
            f"--gin_file={preset}",
            "--mode=train",
            f"--dataset={dataset}",
            f"--data_dir={shapes_dir if dataset == 'shapes' else shared_dir / 'tfds'}",
            f"--train_split={split}",
            "--width_multiplier=0.125",
            "--train_batch_size=16",
            "--train_steps=2",
            "--seed=1",
            f"--model_dir={folder}",
            *more,
        )

    return train


@pytest.fixture(scope="module")
def pretrained(train, tmp_path_factory):
    """Function: name of a preset -> model_dir of a run of it; each runs once."""
    runs = {}

    def find(preset: str):
        if preset not in runs:
            runs[preset] = tmp_path_factory.mktemp(preset) / "run"
            train(preset, runs[preset])
        return runs[preset]

    return find


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.parametrize("augment_on", ["host", "device"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_and_exports(
    preset, augment_on, train, pretrained, request, tmp_path, monkeypatch
):
    more = [f"--augment_on={augment_on}"]
    if augment_on == "device":  # as an accelerator would have it
        monkeypatch.setattr(strategies, "on_cpu", lambda strategy: False)
    start = next((p for name, p in PRETRAINED.items() if preset.startswith(name)), None)
    if start:
        more.append(f"--checkpoint={pretrained(start)}")
    if "distill" in preset:
        more.append(f"--teacher={request.getfixturevalue('teacher')}")
    results = train(preset, tmp_path / "run", *more)
    assert results["step"] == 2
    assert os.path.exists(tmp_path / "run" / "saved_model" / "2" / "saved_model.pb")


def test_all_presets_that_fine_tune_have_a_checkpoint_to_start_from():
    for preset in PRESETS:
        teacher = ["--teacher=runs/teacher"] if "distill" in preset else []
        config = small.parse(f"--gin_file={preset}", *teacher)
        starts = any(preset.startswith(name) for name in PRETRAINED)
        assert starts == (config.training.train_mode == "finetune"), preset
