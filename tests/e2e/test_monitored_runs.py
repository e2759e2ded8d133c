"""Runs that measure their embeddings: what they write, resume, and say of a collapse."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr.checkpoints.weights import read_weights
from tf_simclr.losses import nt_xent
from tf_simclr.training import metrics_file, tasks

pytestmark = [pytest.mark.long, pytest.mark.shared]

TAGS = {
    f"monitor/{name}"
    for name in (
        "alignment uniformity positive_similarity negative_similarity embedding_std rankme "
        "rankme_projections knn_top_1 images seconds"
    ).split()
}
FLAGS = (*small.RUN, "--dataset=shapes", "--eval_split=test", "--monitor_images=40")


def monitored(folder) -> dict[int, metrics_file.Record]:
    """{step: record} of the measurements of a run."""
    records = metrics_file.read(str(folder))
    return {record.step: record for record in records if record.kind == metrics_file.MONITOR}


def scalars(folder, events) -> dict[str, dict[int, float]]:
    return {tag: values for tag, values in events(folder).items() if tag.startswith("monitor/")}


def test_a_resumed_run_writes_what_an_uninterrupted_one_does(shapes_dir, tmp_path, events, capsys):
    """Neither twice, nor what a killed run had written after its last checkpoint."""
    flags = (*FLAGS, f"--data_dir={shapes_dir}", "--train_split=train[:64]", "--train_steps=8")
    flags += ("--monitor_every_epochs=0.5", "--checkpoint_steps=4", "--keep_checkpoint_max=9")
    whole, resumed, without = (tmp_path / name for name in ("whole", "resumed", "without"))
    small.run(*flags, f"--model_dir={whole}")
    assert "Monitors the embeddings of 40 images of split test every 2 steps." in (
        capsys.readouterr().err
    )
    small.run(*flags, f"--model_dir={without}", "--monitor_images=0")
    assert not scalars(without, events) and not monitored(without)
    trained, expected = read_weights(str(whole / "ckpt-8")), read_weights(str(without / "ckpt-8"))
    assert trained.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(trained[path], value, err_msg=path)

    small.run(*flags, f"--model_dir={resumed}", "--train_steps=8")
    for path in resumed.glob("ckpt-8*"):
        path.unlink()
    state = (resumed / "checkpoint").read_text().replace("ckpt-8", "ckpt-4")
    (resumed / "checkpoint").write_text(state)
    small.run(*flags, f"--model_dir={resumed}")
    for folder in (whole, resumed):
        records = monitored(folder)
        assert list(records) == [2, 4, 6, 8]
        lines = (folder / metrics_file.NAME).read_text().splitlines()
        kinds = [json.loads(line).get("kind") for line in lines]
        assert kinds.count("monitor") == 4, "no measurement stands in the file twice"
        tags = scalars(folder, events)
        assert tags.keys() == TAGS
        for step, record in records.items():
            assert record.values.keys() == TAGS
            assert all(math.isfinite(value) for value in record.values.values())
            assert record.epoch == step * 16 / 64
            assert record.spectrum[0] == 1 and len(record.spectrum) == 32
            assert list(record.spectrum) == sorted(record.spectrum, reverse=True)
            assert {tag: float(tags[tag][step]) for tag in TAGS} == pytest.approx(record.values)
    for a, b in zip(monitored(whole).values(), monitored(resumed).values(), strict=True):
        expected = dict(a.values, **{"monitor/seconds": b.values["monitor/seconds"]})
        assert b.values == pytest.approx(expected, rel=1e-3)


@pytest.mark.shared
@pytest.mark.parametrize("where", ["host", "device"])
def test_a_run_by_its_command_at_224_pixels(tmp_path, where):
    """With default settings, of a folder sorted by class that has no split to hold out."""
    rng = np.random.default_rng(0)
    for label in range(3):
        folder = tmp_path / "pictures" / "train" / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(12):
            picture = tf.cast(rng.integers(256, size=(240, 260, 3)), tf.uint8)
            (folder / f"{i}.jpg").write_bytes(tf.io.encode_jpeg(picture).numpy())
    done = small.run_alone(
        "--dataset=folder",
        f"--data_dir={tmp_path / 'pictures'}",
        "--resnet_depth=18",
        "--width_multiplier=0.0625",
        "--train_batch_size=16",
        "--train_steps=2",
        "--mode=train",
        f"--augment_on={where}",
        f"--model_dir={tmp_path / 'run'}",
    )
    note = "36 images of split train (there is no split validation) every 2 steps"
    assert note in done.stderr
    (record,) = monitored(tmp_path / "run").values()
    assert record.step == 2 and record.values.keys() == TAGS
    assert record.values["monitor/images"] == 36
    assert len(record.spectrum) == 32 and not record.warnings


@pytest.mark.parametrize(
    "flags",
    [
        ("--dataset=folder", "--unlabelled"),
        ("--lineareval_while_pretraining=False", "--precision=bfloat16"),
        ("--microbatch_size=8", "--proj_head_mode=none"),
        ("--cpu_replicas=2", "--global_bn=False", "--train_split=train[:48]"),
    ],
    ids=lambda flags: flags[0],
)
def test_other_runs_are_measured_too(flags, shapes_dir, tmp_path):
    data_dir = shapes_dir
    if "--unlabelled" in flags:
        data_dir = tmp_path / "pictures"
        data_dir.mkdir()
        rng = np.random.default_rng(0)
        for i in range(40):
            picture = tf.cast(rng.integers(256, size=(32, 40, 3)), tf.uint8)
            (data_dir / f"{i}.png").write_bytes(tf.io.encode_png(picture).numpy())
    small.run(
        *FLAGS,
        f"--data_dir={data_dir}",
        *flags,
        "--train_steps=2",
        f"--model_dir={tmp_path / 'run'}",
    )
    (record,) = monitored(tmp_path / "run").values()
    assert record.values["monitor/images"] == 40
    assert TAGS - record.values.keys() == (
        {"monitor/knn_top_1"} if "--unlabelled" in flags else set()
    )


DEMO = ("--gin_file=demo", "--mode=train", "--probe_summary=False", "--monitor_images=128")


@pytest.mark.shared
def test_a_healthy_run_is_not_warned(shapes_dir, tmp_path, capsys):
    """The demo, measured where the learning rate has been at its peak for 100 steps, and later."""
    small.run(
        *DEMO,
        f"--data_dir={shapes_dir}",
        f"--model_dir={tmp_path}",
        "--train_steps=300",
        "--monitor_every_epochs=0.64",
    )
    assert "collapsed" not in (printed := capsys.readouterr().err)
    assert "learned" not in printed
    records = monitored(tmp_path)
    assert list(records) == [100, 200, 300]
    assert all(not record.warnings for record in records.values())


@pytest.mark.shared
def test_a_run_at_chance_level_is_warned(shapes_dir, tmp_path, capsys):
    small.run(
        *DEMO,
        f"--data_dir={shapes_dir}",
        f"--model_dir={tmp_path}",
        "--temperature=100",
        "--train_steps=110",
        "--warmup_epochs=0.05",
    )
    assert "Step 110: Nothing is learned so far: the contrastive loss" in capsys.readouterr().err
    (record,) = monitored(tmp_path).values()
    assert any("chance level, 2 log(2 * 64 - 1)" in text for text in record.warnings)


@pytest.mark.shared
def test_a_run_without_negatives_is_called_collapsed(shapes_dir, tmp_path, capsys, monkeypatch):
    def only_positives(projections, *, hidden_norm, **_):
        a, b = nt_xent.split_projections(projections, hidden_norm=hidden_norm)
        similarity = tf.reduce_mean(tf.reduce_sum(a * b, axis=1))
        zero = tf.zeros(())
        return {"contrast_loss": -similarity, "contrast_acc": zero, "contrast_entropy": zero}

    monkeypatch.setattr(tasks, "nt_xent_stacked", only_positives)
    small.run(
        *DEMO,
        f"--data_dir={shapes_dir}",
        f"--model_dir={tmp_path}",
        "--train_steps=150",
        "--warmup_epochs=0.1",
    )
    assert "collapsed" in capsys.readouterr().err
    (record,) = monitored(tmp_path).values()
    assert any("The projections have collapsed" in text for text in record.warnings)
