"""The same command resumes a run, so it needs the same seed."""

import pytest

from tf_simclr import experiment
from tf_simclr.config import Config, saved_settings
from tf_simclr.modes import train


@pytest.fixture
def seeds(monkeypatch):
    """The seeds with which runs start."""
    started = []
    monkeypatch.setattr(train, "run", lambda config: started.append(config.runtime.seed) or {})
    return started


def save(folder, **values):
    text = saved_settings.to_json(Config().replace(**values))
    (folder / saved_settings.JSON).write_text(text)


@pytest.mark.parametrize("saved", [0, 7])
def test_an_unset_seed_is_that_of_the_run_in_model_dir(tmp_path, seeds, saved):
    save(tmp_path, seed=saved)
    experiment.run(Config().replace(mode="train", model_dir=str(tmp_path)))
    assert seeds == [saved]


def test_a_given_seed_wins(tmp_path, seeds):
    save(tmp_path, seed=7)
    experiment.run(Config().replace(mode="train", model_dir=str(tmp_path), seed=3))
    assert seeds == [3]


def test_a_new_run_draws_its_seed(tmp_path, seeds):
    for _ in range(2):
        experiment.run(Config().replace(mode="train", model_dir=str(tmp_path / "new")))
    assert len(set(seeds)) == 2
