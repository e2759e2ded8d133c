"""Converted official checkpoints answer the golden endpoints and work wherever ours do."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tests import tf1_checkpoints

import convert_checkpoint
from tf_simclr.checkpoints import run_checkpoints, weights
from tf_simclr.checkpoints.formats.tensorflow import official_tf2
from tf_simclr.cli import flags
from tf_simclr.models import from_config
from tf_simclr.optim import policy


@pytest.fixture(scope="module")
def source(golden):
    return golden("models/r18_cifar")


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory):
    """A model_dir made by the command line, without any model flag."""
    output = tmp_path_factory.mktemp("converted") / "run"
    output.mkdir()  # an empty directory may be there
    convert_checkpoint.main([f"--source={source}/ckpt-0", f"--output={output}"])
    return output


def model_of(model_dir):
    config = flags.parse(["", f"--model_dir={model_dir}"]).config
    return from_config.make_model(config, 10), config


def skip_saved_model(monkeypatch):
    """Saves the seconds that the SavedModel takes, in tests that do not look at it."""
    monkeypatch.setattr(convert_checkpoint.saved_model, "export", lambda *_, **__: None)
    monkeypatch.setattr(convert_checkpoint.model_card, "write", lambda *_: None)


def error_of(capsys, *arguments):
    """The one line on stderr with which the command line fails."""
    with pytest.raises(SystemExit) as stopped:
        convert_checkpoint.main([str(argument) for argument in arguments])
    message = stopped.value.code
    assert isinstance(message, str)  # Python prints it to stderr and exits with 1
    assert message.startswith("convert_checkpoint.py: ") and "\n" not in message
    assert capsys.readouterr().out == ""
    return message


def test_everything_is_there_and_nothing_else(converted):
    assert sorted(path.name for path in converted.iterdir()) == [
        "about.json",
        "checkpoint",
        "ckpt-0.data-00000-of-00001",
        "ckpt-0.index",
        "config.gin",
        "config.json",
        "saved_model",
    ]
    assert [path.name for path in (converted / "saved_model").iterdir()] == ["0"]
    assert [path.name for path in converted.parent.iterdir()] == ["run"]


def test_saved_model_answers_the_golden_endpoints(converted, source):
    expected = np.load(source / "expected.npz")
    views = tf.concat(tf.split(expected["x"], 2, axis=-1), axis=0)
    endpoints = tf.saved_model.load(str(converted / "saved_model" / "0"))(views, trainable=False)
    names = [key for key in expected.files if key.startswith("eval|")]
    assert len(names) == 9
    for name in names:
        endpoint = endpoints[name.removeprefix("eval|")].numpy()
        endpoint = endpoint.mean((1, 2)) if endpoint.ndim == 4 else endpoint
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(endpoint / scale, expected[name] / scale, atol=1e-5)


def test_works_as_checkpoint(converted, source):
    model, _ = model_of(converted)
    report = weights.restore_weights(model, str(converted))
    assert not report.missing and not report.skipped
    values = official_tf2.read(str(source / "ckpt-0"))
    for path, variable in model.variables_by_path().items():
        np.testing.assert_array_equal(tf.convert_to_tensor(variable), values.pop(path))
    assert not values


def test_works_as_model_dir(converted, source, tmp_path):
    shutil.copytree(converted, tmp_path / "run")
    model, config = model_of(tmp_path / "run")
    optimizer = policy.make_optimizer(
        model, config.optimizer.optimizer, 0.1, momentum=0.9, weight_decay=0.0
    )
    checkpointer = run_checkpoints.Checkpointer(
        model, optimizer, str(tmp_path / "run"), max_to_keep=1
    )
    assert checkpointer.latest == str(tmp_path / "run" / "ckpt-0")
    checkpointer.check_latest()
    checkpointer.restore(checkpointer.latest)
    assert checkpointer.step == 0
    bias = official_tf2.read(str(source / "ckpt-0"))["head_supervised/dense/bias"]
    np.testing.assert_array_equal(
        tf.convert_to_tensor(model.variables_by_path()["head_supervised/dense/bias"]), bias
    )


def test_config_holds_the_flags(converted):
    _, config = model_of(converted)
    assert config.model.resnet_depth == 18
    assert config.model.width_multiplier == 0.125
    assert config.data.image_size == 32
    assert config.training.train_mode == "pretrain"
    assert config.model.lineareval_while_pretraining


def test_says_what_it_recognized(capsys, source, tmp_path, monkeypatch):
    skip_saved_model(monkeypatch)
    convert_checkpoint.main([f"--source={source}", f"--output={tmp_path}/new"])
    assert capsys.readouterr().out.splitlines()[0] == (
        "Recognized a TF2 checkpoint of the official code; ResNet-18 0.125x, small stem, "
        "projection head of 3 layers to 128, 10 classes."
    )


@pytest.mark.parametrize(
    "flag, reason",
    [
        ("--width_multiplier=0.25", "show width_multiplier=0.125, not 0.25"),
        ("--image_size=64", "image_size must be 32 or less, got 64"),
        ("--resnet_depth=34", "show resnet_depth=18, not 34"),
        ("--se_ratio=0.25", "show se_ratio=0.0, not 0.25"),
        ("--num_proj_layers=2", "show num_proj_layers=3, not 2"),
        ("--proj_out_dim=64", "show proj_out_dim=128, not 64"),
        ("--proj_head_mode=linear", "show proj_head_mode=nonlinear, not linear"),
    ],
)
def test_flags_that_contradict_the_weights(capsys, source, tmp_path, flag, reason):
    message = error_of(capsys, f"--source={source}", f"--output={tmp_path}/new", flag)
    assert reason in message and str(source) in message
    assert not list(tmp_path.iterdir())


def test_absent_sources(capsys, tmp_path):
    output = f"--output={tmp_path}/new"
    assert "no-such' does not exist: give a prefix" in error_of(
        capsys, f"--source={tmp_path}/no-such", output
    )
    (tmp_path / "empty").mkdir()
    message = error_of(capsys, f"--source={tmp_path}/empty", output)
    assert "directory without a checkpoint" in message
    (tmp_path / "notes.txt").write_text("mine")
    message = error_of(capsys, f"--source={tmp_path}/notes.txt", output)
    assert "is not a file of weights" in message
    assert not (tmp_path / "new").exists()


def test_our_own_saved_model_is_a_source(converted, tmp_path, monkeypatch):
    skip_saved_model(monkeypatch)
    source = converted / "saved_model" / "0"
    convert_checkpoint.main([f"--source={source}", f"--output={tmp_path}/new"])
    again, before = (weights.read_weights(str(path)) for path in (tmp_path / "new", converted))
    assert set(again) == set(before)
    for path, value in before.items():
        np.testing.assert_array_equal(again[path], value)


def test_a_checkpoint_of_another_program(capsys, tmp_path):
    other = tf.train.Checkpoint(a=tf.Variable(1.0)).write(str(tmp_path / "other"))
    message = error_of(capsys, f"--source={other}", f"--output={tmp_path}/new")
    assert "neither one of ours nor one of the official code" in message


def test_truncated_source(capsys, source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    data = tmp_path / "source" / "ckpt-0.data-00000-of-00001"
    data.chmod(0o644)
    data.write_bytes(data.read_bytes()[:1000])
    message = error_of(capsys, f"--source={tmp_path}/source", f"--output={tmp_path}/new")
    assert "cannot be read" in message
    assert not (tmp_path / "new").exists()


def test_a_tilde_is_the_home_directory_and_a_pattern_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    message = error_of(capsys, "--source=~/absent", "--output=~/run")
    assert f"checkpoint '{tmp_path}/absent' does not exist" in message
    message = error_of(capsys, "--source=x", "--output=~/run[1]")
    assert "output must be a path in UTF-8 without * ? [" in message
    assert list(tmp_path.iterdir()) == []


def test_output_must_be_new_or_empty(capsys, source, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for output in (tmp_path, tmp_path / "notes.txt"):
        message = error_of(capsys, f"--source={source}", f"--output={output}")
        assert "exists and is not an empty directory: remove it, or use another" in message
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_nothing_is_left_behind_when_writing_fails(capsys, source, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(convert_checkpoint.saved_model, "export", fail)
    message = error_of(capsys, f"--source={source}", f"--output={tmp_path}/new")
    assert "output" in message and "No space left on device" in message
    assert not list(tmp_path.iterdir())


def test_a_wrong_value_names_its_flag(capsys, source, tmp_path):
    arguments = [f"--source={source}", f"--output={tmp_path}/new"]
    assert "resnet_depth must be one of 18, 34, 50, 101, 152, 200, got 19" in error_of(
        capsys, *arguments, "--resnet_depth=19"
    )
    assert "image_size must be an int, got 'big'" in error_of(
        capsys, *arguments, "--image_size=big"
    )
    assert "fine_tune_after_block must be -1 with train_mode=pretrain" in error_of(
        capsys, *arguments, "--fine_tune_after_block=2"
    )


def test_a_checkpoint_without_supervised_head(capsys, source, tmp_path, monkeypatch):
    keys = official_tf2.checkpoint_keys(tf.train.load_checkpoint(str(source / "ckpt-0")))
    encoder = {k: v for k, v in keys.items() if not k.startswith("head_supervised")}
    monkeypatch.setattr(official_tf2, "checkpoint_keys", lambda _: encoder)
    arguments = [f"--source={source}", f"--output={tmp_path}/new"]
    assert "train_mode must be pretrain, got finetune" in error_of(
        capsys, *arguments, "--train_mode=finetune"
    )
    skip_saved_model(monkeypatch)
    convert_checkpoint.main(arguments)
    assert "no supervised head" in capsys.readouterr().out
    saved = flags.parse(["", f"--model_dir={tmp_path}/new"]).config
    assert not saved.model.lineareval_while_pretraining


@pytest.mark.long
def test_a_tf1_checkpoint_is_fine_tuned_as_a_hub_layer(tiny_model, randomize, tmp_path):
    """TF1 -> model_dir -> SavedModel -> a step of hub.KerasLayer."""
    try:
        import tensorflow_hub as hub
    except ImportError as error:
        pytest.skip(f"tensorflow_hub does not import here: {error}")
    model = tiny_model(image_size=32, num_classes=5)
    randomize(model)
    source = tf1_checkpoints.write_model(
        tmp_path / "model.ckpt-9", model, depth=18, width=0.0625, small_stem=True
    )
    convert_checkpoint.main([f"--source={source}", f"--output={tmp_path}/new"])
    images = np.random.default_rng(0).uniform(size=(8, 32, 32, 3)).astype(np.float32)
    labels = np.arange(8) % 5
    layer = hub.KerasLayer(
        str(tmp_path / "new" / "saved_model" / "0"), trainable=True, output_key="logits_sup"
    )
    expected = model(images, training=False)["logits_sup"]
    difference = np.abs(layer(images, training=False) - expected).max()
    assert difference < 1e-5 * np.abs(expected).max()
    losses = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            logits = layer(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        losses.append(float(loss))
        gradients = tape.gradient(loss, layer.trainable_variables)
        for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
            if gradient is not None:  # the projection head is beside the way to the logits
                variable.assign_sub(0.01 * gradient)
    assert losses[1] < losses[0]
