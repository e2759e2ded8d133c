"""What a run says at its start: nothing where all is as expected, else a line with the numbers."""

import dataclasses

import pytest

from tf_simclr.cli import flags
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError
from tf_simclr.training import notes
from tf_simclr.training.plan import make_plan, make_schedule, previous_settings_and_plan


@dataclasses.dataclass
class Source:
    """As much of a data set as a plan asks for."""

    name: str = "stub"
    sizes: dict = dataclasses.field(default_factory=lambda: {"train": 1000, "validation": 300})

    def num_examples(self, split, flag=None):
        if split not in self.sizes:
            raise ConfigError(f"{flag} {split} does not exist")
        return self.sizes[split]


CONFIG = Config().replace(
    train_batch_size=100, train_steps=50, warmup_epochs=1.0, learning_rate=0.5, eval_batch_size=100
)


def note(step=20, examples=2000, source=None, saved=None, **changes) -> str | None:
    """What a run with CONFIG says when it resumes with changes."""
    source, now = source or Source(), CONFIG.replace(**changes)
    before = previous_settings_and_plan(CONFIG.to_dict() if saved is None else saved, now, source)
    plan = make_plan(now, source, evaluates=False)
    return notes.resume_note(before, (now, plan), step=step, examples=examples)


def start(step=0, replicas=1, **changes) -> list[str]:
    config = CONFIG.replace(**changes)
    plan = make_plan(config, Source(), evaluates=True)
    return notes.start_notes(config, plan, step=step, replicas=replicas)


def test_a_run_that_goes_on_as_it_was_says_nothing():
    assert note() is None


@pytest.mark.parametrize(
    "changes",
    [
        {"eval_batch_size": 7},
        {"checkpoint_steps": 3},
        {"cache_dataset": True},
        {"eval_every_epochs": 1.0},
        {"train_epochs": 3},
        {"model_dir": "x"},
        {"eval_steps": 1},
        {"checkpoint": None, "data_dir": "elsewhere"},
    ],
)
def test_what_does_not_bear_on_the_training_is_not_said(changes):
    assert note(**changes) is None


def test_more_steps():
    before = make_schedule(CONFIG, make_plan(CONFIG, Source(), evaluates=False))
    longer = CONFIG.replace(train_steps=200)
    after = make_schedule(longer, make_plan(longer, Source(), evaluates=False))
    text = note(step=50, examples=5000, train_steps=200)
    assert text == (
        "Step 50 resumes with different settings: train_steps 50 -> 200. Learning rate: "
        f"{float(before(50)):.4g} by the old settings, {float(after(50)):.4g} now. Seen so far: "
        "5000 images, 5.00 epochs."
    )
    assert float(before(50)) == 0 and float(after(50)) > 0.1


def test_another_batch_size_counts_what_was_seen_and_not_steps_of_the_new_size():
    text = note(train_batch_size=50)
    assert "train_batch_size 100 -> 50" in text
    assert "Seen so far: 2000 images, 2.00 epochs." in text
    assert "by the old settings" in text


@pytest.mark.parametrize(
    "changes, names",
    [
        (
            {"learning_rate": 0.1, "temperature": 0.7},
            ["temperature 0.1 -> 0.7", "learning_rate 0.5 -> 0.1"],
        ),
        ({"optimizer": "momentum"}, ["optimizer lars -> momentum"]),
        ({"seed": 7}, ["seed None -> 7"]),
        ({"use_blur": False}, ["use_blur True -> False"]),
    ],
)
def test_every_setting_of_the_training_is_named(changes, names):
    assert ", ".join(names) + ". Learning rate" in note(**changes)


def test_the_old_rate_is_left_out_where_it_cannot_be_told():
    other_data = note(dataset="other")
    assert "dataset imagenet2012 -> other" in other_data and "by the old" not in other_data
    gone = note(saved=CONFIG.replace(train_split="gone").to_dict())
    assert "train_split gone -> train" in gone and "by the old" not in gone
    corrupt = note(saved=CONFIG.to_dict() | {"learning_rate": -1.0})
    assert "learning_rate -1.0 -> 0.5" in corrupt and "by the old" not in corrupt


def test_settings_that_fit_say_nothing():
    assert start() == []
    assert start(profile_steps="10,20", checkpoint_steps=50, eval_every_epochs=1.0) == []
    assert start(eval_steps=3) == []  # all of the split
    assert start(warmup_epochs=0.0) == []


@pytest.mark.parametrize(
    "changes, parts",
    [
        (
            {"warmup_epochs": 5.0},
            [
                "warmup_epochs=5 is 50 steps, and the run has 50",
                "ends at 0.191",
                "below its peak of 0.195",
                "--warmup_epochs=0.5",
            ],
        ),
        ({"warmup_epochs": 10.0}, ["is 100 steps, and the run has 50", "ends at 0.0957"]),
        (
            {"profile_steps": "50,60"},
            ["profile_steps=50,60 begins after the run's last step, 50: no"],
        ),
        (
            {"profile_steps": "40,60"},
            ["profile_steps=40,60 ends after the run's last step, 50: the"],
        ),
        (
            {"profile_steps": "10,20", "step": 20},
            ["ends before step 20, where the run resumes: no"],
        ),
        ({"checkpoint_steps": 51}, ["checkpoint_steps=51 is more than the run's 50 steps: only"]),
        ({"eval_every_epochs": 5.0}, ["eval_every_epochs=5 is 50 steps, and the run has 50: only"]),
        ({"eval_steps": 2}, ["eval_steps=2 evaluates 200 of the 300 images of split validation"]),
    ],
)
def test_settings_that_reach_beyond_the_run_are_said(changes, parts):
    [text] = start(**changes)
    for part in parts:
        assert part in text, text
    assert "\n" not in text


@pytest.mark.parametrize(
    "changes, images, why",
    [
        ({"train_batch_size": 7}, "7 images", "train_batch_size=7"),
        ({"train_batch_size": 1, "train_mode": "finetune"}, "1 image", "train_batch_size=1"),
        ({"microbatch_size": 4}, "4 images", "microbatch_size=4"),
        ({"microbatch_size": 5, "global_bn": False, "replicas": 2}, "5 images", "microbatch"),
        ({"global_bn": False, "replicas": 25}, "4 images", "global_bn=False and 25 replicas"),
        (
            {"frozen_batch_norm": "training", "fine_tune_after_block": 4, "train_batch_size": 2},
            "2 images",
            "train_batch_size=2",
        ),
    ],
)
def test_batch_normalization_of_few_images_is_said(changes, images, why):
    [text] = start(**{"warmup_epochs": 0.0} | changes)
    assert f"Batch normalization sees {images} at a time ({why}" in text
    assert "raise --" in text and "\n" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"train_batch_size": 8},
        {"microbatch_size": 10},
        {"train_batch_size": 7, "fine_tune_after_block": 4, "train_mode": "finetune"},
        {"replicas": 25},
        {"global_bn": False, "replicas": 10},
    ],
)
def test_batch_normalization_of_enough_images_says_nothing(changes):
    assert start(**{"warmup_epochs": 0.0} | changes) == []


@pytest.mark.parametrize("preset", sorted(path.name for path in flags.PRESETS.glob("*.gin")))
def test_presets_say_nothing(preset):
    extra = ["--checkpoint=x"] if "finetune" in preset or "linear" in preset else []
    extra += ["--teacher=x"] if "distill" in preset else []
    config = flags.parse(["", f"--gin_file={preset}", *extra]).config
    sizes = {"shapes": 9000, "cifar10": 50_000}
    size = sizes.get(config.data.dataset, 1_281_167)
    source = Source(sizes={config.data.train_split: size, config.data.eval_split: 10_000})
    assert notes.start_notes(config, make_plan(config, source, evaluates=True)) == []
