"""How often a run measures its embeddings, and on how many images."""

import dataclasses

import pytest

from tf_simclr.config import Config
from tf_simclr.errors import ConfigError
from tf_simclr.training import notes
from tf_simclr.training.plan import make_plan


@dataclasses.dataclass
class Source:
    """As much of a data set as a plan asks for."""

    name: str = "stub"
    sizes: dict = dataclasses.field(default_factory=lambda: {"train": 50_000, "test": 10_000})

    def num_examples(self, split, flag=None):
        if split not in self.sizes:
            raise ConfigError(f"{flag} {split} does not exist")
        return self.sizes[split]


def plan(sizes=None, **settings):
    """(split, images, every_steps) of a run with these settings."""
    config = Config().replace(**({"eval_split": "test"} | settings))
    made = make_plan(config, Source(**({"sizes": sizes} if sizes else {})), evaluates=False)
    return made.monitor_split, made.monitor_images, made.monitor_every_steps


@pytest.mark.parametrize("batch, epochs", [(512, 1000), (64, 100), (4096, 100), (256, 7)])
def test_the_automatic_interval_costs_at_most_a_hundredth(batch, epochs):
    """Three views of an image forward, against two views forward and backward."""
    split, images, every = plan(train_batch_size=batch, train_epochs=epochs)
    steps = max(1, round(50_000 * epochs / batch))
    assert (split, images) == ("test", 1024)
    measurements = -(-steps // every)
    assert measurements * images * 3 <= 0.01 * steps * batch * 2 * 3
    assert every >= 50_000 / batch - 1, "an epoch or more"
    assert measurements > 1
    # The last interval is as long as the others, up to the steps that do not divide.
    assert steps - (measurements - 1) * every > every - measurements


def test_a_short_run_measures_fewer_images_at_its_end():
    assert plan(train_steps=800, train_batch_size=64) == ("test", 1024, 800)
    assert plan(train_steps=400, train_batch_size=64) == ("test", 512, 400)
    assert plan(train_steps=3, train_batch_size=16) == ("test", 64, 3)
    assert plan(train_steps=3, train_batch_size=16, monitor_images=20) == ("test", 20, 3)


def test_an_interval_in_epochs():
    settings = {"train_batch_size": 500, "train_epochs": 10}
    assert plan(monitor_every_epochs=0.5, **settings) == ("test", 1024, 50)
    assert plan(monitor_every_epochs=1e-9, **settings) == ("test", 1024, 1)
    assert plan(monitor_every_epochs=50, **settings) == ("test", 1024, 5000)
    assert plan(monitor_every_epochs=2, monitor_images=7, **settings) == ("test", 7, 200)


def test_a_small_split_is_measured_completely():
    sizes = {"train": 1000, "test": 30}
    assert plan(sizes, train_batch_size=100)[:2] == ("test", 30)


def test_without_held_out_images_those_of_training_are_measured():
    sizes = {"train": 1000}
    assert plan(sizes, train_batch_size=100)[:2] == ("train", 1000)


@pytest.mark.parametrize("settings", [{"monitor_images": 0}, {"train_mode": "finetune"}])
def test_nothing_is_measured(settings):
    assert plan(**settings) == ("", 0, 0)


def test_the_run_says_what_it_measures():
    for eval_split, text in [
        ("test", "split test every"),
        ("val", "train (there is no split val)"),
    ]:
        config = Config().replace(train_steps=1000, eval_split=eval_split)
        made = make_plan(config, Source(), evaluates=False)
        note = notes.monitor_note(config, made)
        assert (
            text in note and "1024 images" in note and f"{made.monitor_every_steps} steps" in note
        )


def test_a_run_resumes_with_other_settings_of_the_monitor_without_a_note():
    before = Config()
    now = before.replace(monitor_images=5, monitor_every_epochs=3.0)
    assert notes.changed_settings(before, now) == {}
