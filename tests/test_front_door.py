"""The public names: listed and imported lazily, each with defaults and an example that runs."""

import doctest
import inspect
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tf_simclr
from tf_simclr.config import Config

PUBLIC = {
    "Config",
    "LARS",
    "SimCLR",
    "WarmUpAndCosineDecay",
    "__version__",
    "augmentation",
    "nt_xent",
    "run",
}


def test_public_names_are_listed_without_tensorflow():
    code = (
        "import sys, tf_simclr; print(*dir(tf_simclr)); tf_simclr.Config();"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(listed.split()) == set(tf_simclr.__all__) == PUBLIC


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'tf_simclr' has no attribute 'simclr'"):
        _ = tf_simclr.simclr


def test_run_is_what_the_program_runs():
    from tf_simclr import experiment

    assert tf_simclr.run is experiment.run


def run_example(name: str):
    """Runs the example in the docstring of a public name."""
    value = getattr(tf_simclr, name)
    assert "Example:" in value.__doc__
    (example,) = doctest.DocTestFinder(recurse=False).find(value, name)
    assert example.examples
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__", "run"}))
def test_examples_of_docstrings(name):
    run_example(name)


@pytest.mark.long
def test_example_of_run(shapes_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(shapes_dir)
    run_example("run")
    assert {"ckpt-2.index", "config.gin"} <= {path.name for path in tmp_path.glob("runs/first/*")}


def test_defaults_are_those_of_the_settings():
    config = Config()

    def defaults(function) -> dict:
        parameters = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    assert defaults(tf_simclr.nt_xent) == {
        "temperature": config.loss.temperature,
        "hidden_norm": config.loss.hidden_norm,
        "block_rows": config.loss.loss_block_rows,
    }
    assert defaults(tf_simclr.SimCLR)["image_size"] == config.data.image_size
    assert defaults(tf_simclr.LARS)["learning_rate"] == config.optimizer.learning_rate
    augment = defaults(tf_simclr.augmentation)
    for name in ("color_jitter_strength", "color_jitter_impl", "use_blur"):
        assert augment[name] == getattr(config.augment, name)


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 24, 20, 3), dtype=np.uint8)


def test_views_depend_on_the_seed_only():
    seeds = ((1, 2), (1, 2), (2, 2))
    first, again, other = (tf_simclr.augmentation(IMAGES, image_size=16, seed=s) for s in seeds)
    for view in first:
        assert view.shape == (6, 16, 16, 3) and view.dtype == tf.float32
        assert 0 <= np.min(view) and np.max(view) <= 1
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[0], other[0])


def test_views_of_float_images_are_those_of_bytes():
    settings = dict(image_size=16, seed=(3, 4))
    bytes_ = tf_simclr.augmentation(IMAGES, **settings)
    floats = tf_simclr.augmentation(IMAGES / np.float32(255), **settings)
    np.testing.assert_allclose(bytes_, floats, atol=1e-5)


def test_without_a_seed_every_call_makes_new_views():
    first, second = (tf_simclr.augmentation(IMAGES)[0] for _ in range(2))
    assert first.shape == (6, 24, 24, 3) and not np.array_equal(first, second)


def test_views_in_a_data_set_are_those_of_an_eager_call():
    dataset = tf.data.Dataset.from_tensors(IMAGES)
    ((view1, view2),) = dataset.map(lambda images: tf_simclr.augmentation(images, seed=(1, 2)))
    expected = tf_simclr.augmentation(IMAGES, seed=(1, 2))
    np.testing.assert_allclose((view1, view2), expected, atol=1e-5)


def test_nt_xent_of_views_equals_that_of_stacked_projections():
    from tf_simclr.losses.nt_xent import nt_xent_stacked

    z1, z2 = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    stacked = nt_xent_stacked(np.concatenate([z1, z2]))
    for name, value in tf_simclr.nt_xent(z1, z2).items():
        np.testing.assert_array_equal(value, stacked[name])


def test_simclr_is_a_resnet_50_by_default():
    parameters = inspect.signature(tf_simclr.SimCLR).parameters.values()
    required = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    assert not required and Config().model.resnet_depth == 50
