"""mode=probe on a run: what it writes, that it leaves the run alone, and what is refused."""

import json
import os
import shutil

import numpy as np
import pytest

import small
from tf_simclr.errors import ConfigError
from tf_simclr.models import from_config
from tf_simclr.modes import probe
from tf_simclr.probes import feature_files, features
from tf_simclr.training import run_input

pytestmark = pytest.mark.long

TINY = (
    *small.RUN,
    "--dataset=shapes",
    "--train_split=train[:200]",
    "--eval_split=test[:80]",
    "--train_steps=1",
    "--eval_batch_size=50",
)


@pytest.fixture(scope="module")
def pretrained(shapes_dir, tmp_path_factory) -> str:
    model_dir = str(tmp_path_factory.mktemp("runs") / "pretrained")
    results = small.run(
        *TINY,
        f"--data_dir={shapes_dir}",
        f"--model_dir={model_dir}",
        "--mode=train_then_eval",
        "--probe_summary",
    )
    assert 0 <= results["probe/raw_pixels"] <= 1
    return model_dir


def test_the_picture_shows_the_images(pretrained, shapes_dir):
    """The first test image of the first class, as large as it is, stands somewhere in it."""
    from PIL import Image

    from tf_simclr.data.sources.tfds_source import open_source

    picture = np.asarray(Image.open(f"{pretrained}/neighbours.png").convert("RGB")).astype(int)
    examples = open_source("shapes", str(shapes_dir)).examples("test[:80]")
    image = next(e["image"].numpy() for e in examples if int(e["label"]) == 0).astype(int)
    # Its colors are in the left column, which is one image wide.
    column = picture[:, : picture.shape[1] // 14].reshape(-1, 3)
    for row, col in ((4, 4), (16, 16), (28, 8)):
        assert np.abs(column - image[row, col]).sum(axis=1).min() <= 6


def content(folder) -> dict[str, bytes]:
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                found[os.path.join(parent, name)] = file.read()
    return found


def test_a_run_of_its_own_is_probed_and_left_alone(pretrained, tmp_path, capsys):
    model_dir = str(tmp_path / "run")
    shutil.copytree(pretrained, model_dir)
    before = content(model_dir)
    results = small.run("--mode=probe", f"--model_dir={model_dir}")
    lines = [line for line in capsys.readouterr().err.splitlines() if "Features of" in line]
    assert len(lines) == 2 and all("images, kept in " in line for line in lines)
    after = content(model_dir)
    assert {path: after[path] for path in before} == before
    new = {os.path.relpath(path, model_dir).split(os.sep)[0] for path in after.keys() - before}
    assert new == {"features", "result_probe.json"}
    with open(f"{model_dir}/result_probe.json") as file:
        written = json.load(file)
    assert written == {k: v for k, v in results.items() if k != "path"}
    assert written["examples"] == {"train": 200, "test": 80}
    assert list(written["encoders"]) == ["pretrained"]
    found = written["encoders"]["pretrained"]
    assert list(found) == ["logistic", "knn_1", "knn_5", "knn_20", "knn_200"]
    for accuracies in found.values():
        for metric in ("top_1", "top_5"):
            assert 80 * accuracies[metric] == pytest.approx(round(80 * accuracies[metric]))
    assert found["logistic"]["fits"] == 45

    # Once more: the same, without the encoder.
    again = small.run("--mode=probe", f"--model_dir={model_dir}")
    assert again == results
    lines = [line for line in capsys.readouterr().err.splitlines() if "Features of" in line]
    assert len(lines) == 2 and all("images, from " in line for line in lines)


def test_an_interrupted_probe_encodes_only_what_is_missing(pretrained, tmp_path, monkeypatch):
    """Two of the four batches of the training split, then an interruption, then the rest."""
    arguments = ("--mode=probe", f"--checkpoint={pretrained}")
    expected = small.run(*arguments, f"--model_dir={tmp_path}/at_once")
    append, num_batches = feature_files.FeatureWriter.append, []

    def interrupted(writer, *args):
        if len(num_batches) == 2:
            raise KeyboardInterrupt
        num_batches.append(1)
        append(writer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(feature_files.FeatureWriter, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            small.run(*arguments, f"--model_dir={tmp_path}/twice")
    encoded = []

    def counted(writer, part, left_out):
        encoded.append(len(part["labels"]))
        append(writer, part, left_out)

    monkeypatch.setattr(feature_files.FeatureWriter, "append", counted)
    result = small.run(*arguments, f"--model_dir={tmp_path}/twice")
    assert encoded == [50, 50, 50, 30]
    assert result["encoders"] == expected["encoders"]


def test_baselines_and_a_validation_split_beside_a_checkpoint(pretrained, tmp_path, monkeypatch):
    """The settings come from beside the checkpoint; no weight changes while features are made."""
    seen = []
    extract = features.extract

    def watched(strategy, encoders, *args, **kwargs):
        def values():
            return {n: [np.array(v) for v in m.variables] for n, m in encoders.items()}

        before = values()
        found = extract(strategy, encoders, *args, **kwargs)
        seen.append((before, values()))
        return found

    monkeypatch.setattr(features, "extract", watched)
    model_dir = tmp_path / "probe"
    results = small.run(
        "--mode=probe",
        f"--checkpoint={pretrained}/saved_model/1",
        f"--model_dir={model_dir}",
        "--probe_baselines",
        "--probe_validation_split=train[200:260]",
    )
    assert list(results["encoders"]) == ["pretrained", "untrained", "raw_pixels"]
    assert results["examples"] == {"train": 200, "test": 80, "validation": 60}
    assert not os.path.exists(model_dir / "config.gin")
    assert len(seen) == 3
    for before, after in seen:
        assert before.keys() == after.keys() == {"pretrained", "untrained"}
        for name in before:
            for first, second in zip(before[name], after[name], strict=True):
                np.testing.assert_array_equal(first, second)


def test_the_features_are_the_encoder_s(pretrained, tmp_path):
    """The kept file against the model, one batch by hand."""
    import tensorflow as tf

    from tf_simclr.checkpoints.weights import restore_weights
    from tf_simclr.data.sources.tfds_source import open_source

    config = small.parse("--mode=probe", f"--checkpoint={pretrained}", f"--model_dir={tmp_path}")
    probe.run(config)
    model = from_config.make_model(config, None)
    restore_weights(model, pretrained, variable_schema="base_model/")
    source = open_source("shapes", config.data.data_dir)
    images, labels, *_ = next(iter(run_input.eval_batches(config, source, "test[:80]")))
    expected = model(images, training=False)["final_avg_pool"].numpy()
    kept = [
        (np.load(path / "features_pretrained.npy"), np.load(path / "labels.npy"))
        for path in (tmp_path / "features").iterdir()
    ]
    [(test_features, test_labels)] = [arrays for arrays in kept if len(arrays[1]) == 80]
    np.testing.assert_allclose(test_features[:50], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(test_labels[:50], tf.argmax(labels, axis=1))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint=nowhere"], "checkpoint 'nowhere' does not exist"),
        (["--eval_split=tset"], "--eval_split=tset is not a split"),
        (["--probe_validation_split=tset"], "--probe_validation_split=tset is not a split"),
        (["--eval_batch_size=3", "--cpu_replicas=2"], "eval_batch_size must be divisible by the 2"),
    ],
)
def test_what_cannot_be_probed_is_refused(pretrained, tmp_path, arguments, message):
    new = tmp_path / "new"
    with pytest.raises(ConfigError) as error:
        small.run(
            "--mode=probe",
            f"--gin_file={pretrained}/config.gin",
            f"--checkpoint={pretrained}",
            f"--model_dir={new}",
            *arguments,
        )
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert not new.exists()
