"""The SavedModel, as those use it who do not have this package."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import small
from tf_simclr import compat
from tf_simclr.checkpoints import weights
from tf_simclr.checkpoints.formats.tensorflow import saved_model
from tf_simclr.models.simclr import SimCLR

IMAGES = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(short_model, randomize):
    created = short_model(stop_supervised_gradient=True)
    randomize(created)
    return created


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "saved_model"
    return saved_model.export(model, str(directory), 7, keep=1)


@pytest.fixture(scope="module")
def embedding_path(model, tmp_path_factory):
    exported = saved_model.exportable(model, embedding_only=True)
    return saved_model.write(exported, str(tmp_path_factory.mktemp("backbone")), 7, keep=1)


@pytest.fixture
def loaded(path):
    return tf.saved_model.load(path)


def assert_same(result, expected, rtol=1e-4, atol=1e-4):
    assert set(result) == set(expected)
    for name in expected:
        np.testing.assert_allclose(result[name], expected[name], rtol, atol, err_msg=name)


def test_lies_under_its_step(path):
    assert path.endswith("saved_model/7") and tf.saved_model.contains_saved_model(path)


@pytest.mark.parametrize("size", [32, 48])
def test_endpoints_are_the_models_for_any_size(model, loaded, size):
    images = np.random.default_rng(1).uniform(size=(2, size, size, 3)).astype(np.float32)
    expected = model(images, training=False)
    for result in (
        loaded(images),
        loaded(images, trainable=False),
        loaded(images, False),
        loaded(images, training=False),
    ):
        assert_same(result, expected)


def test_trainable_normalizes_by_the_batch_and_has_no_blur(model, values, loaded):
    """Equal to the model without any blur, each time."""
    before = values(model)
    expected = model(IMAGES, training=True)
    for path, variable in model.variables_by_path().items():
        variable.assign(before[path])  # the pass has moved the averages
    for _ in range(2):
        assert_same(loaded(IMAGES, trainable=True), expected, rtol=1e-3, atol=1e-3)
    assert_same(loaded(IMAGES, training=True), expected, rtol=1e-3, atol=1e-3)
    inference = model(IMAGES, training=False)
    assert np.abs(expected["final_avg_pool"] - inference["final_avg_pool"]).max() > 0.1


def test_the_signature_endpoints_is_inference(model, loaded):
    result = loaded.signatures["endpoints"](images=tf.constant(IMAGES))
    assert_same(result, model(IMAGES, training=False))


def test_can_be_trained(model, loaded):
    assert len(loaded.variables) == len(model.weights)
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(IMAGES, trainable=True)["proj_head_output"] ** 2)
    gradients = tape.gradient(loss, list(loaded.trainable_variables))
    reached = sum(g is not None and np.abs(g).max() > 0 for g in gradients)
    assert reached == len(gradients) - 2, "all but the supervised head's kernel and bias"


LOAD = """
import sys
sys.modules["tf_simclr"] = None  # an import of it fails
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], loaded(images, trainable=False)["final_avg_pool"].numpy())
"""


def test_loads_without_this_package(tmp_path, model, path):
    np.save(tmp_path / "images.npy", IMAGES)
    files = [str(tmp_path / name) for name in ("images.npy", "found.npy")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, path, *files], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = model(IMAGES, training=False)["final_avg_pool"]
    np.testing.assert_allclose(np.load(files[1]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exports", ["path", "embedding_path"])
def test_loading_prints_nothing(exports, request, tmp_path):
    """TensorFlow would warn of ops with custom gradients."""
    path = request.getfixturevalue(exports)
    np.save(tmp_path / "images.npy", IMAGES)
    code = LOAD if exports == "path" else LOAD.replace('["final_avg_pool"]', "")
    files = [str(tmp_path / name) for name in ("images.npy", "found.npy")]
    done = subprocess.run(
        [sys.executable, "-c", code, path, *files],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "gradient" not in done.stderr and "WARNING:absl" not in done.stderr, done.stderr


def test_nothing_in_it_has_a_custom_gradient_and_each_graph_is_stored_once(model, path):
    content = saved_model_pb2.SavedModel.FromString(Path(path, "saved_model.pb").read_bytes())
    graph = content.meta_graphs[0].graph_def
    assert not graph.library.registered_gradients
    nodes = [node for function in graph.library.function for node in function.node_def]
    assert not any("_gradient_op_type" in node.attr and node.op == "IdentityN" for node in nodes)
    convolutions = sum(node.op == "Conv2D" for node in nodes)
    kernels = sum(len(v.shape) == 4 for v in model.trainable_variables)
    assert convolutions == 2 * kernels, "one graph for inference and one for training"


def test_is_smaller_than_the_official_export(golden, tmp_path):
    official = golden("saved_model")
    model = from_official(official)
    path = saved_model.export(model, str(tmp_path), 1, keep=1)
    size, official_size = (Path(p, "saved_model.pb").stat().st_size for p in (path, official))
    assert size < 0.5 * official_size
    counts = [len(tf.train.list_variables(f"{p}/variables/variables")) for p in (path, official)]
    assert counts[0] > 100 and abs(counts[0] - counts[1]) < 15, "the same network"


def from_official(directory):
    """The network of the official export, untrained."""
    arguments = np.load(directory / "expected.npz")["args"]
    model = small.parse(*arguments).model
    return SimCLR(10, image_size=32, network=model, stop_supervised_gradient=True)


def test_embed_returns_one_tensor(model, loaded):
    expected = model(IMAGES, training=False)["final_avg_pool"]
    np.testing.assert_allclose(loaded.embed(IMAGES), expected, rtol=1e-4, atol=1e-4)
    trained = loaded.embed_in_training(IMAGES)
    assert np.abs(trained - expected).max() > 0.1, "it normalizes by the batch"


def test_the_variant_of_one_tensor_has_only_the_backbone(model, embedding_path):
    loaded = tf.saved_model.load(embedding_path)
    expected = model(IMAGES, training=False)["final_avg_pool"]
    for found in (loaded(IMAGES), loaded(IMAGES, trainable=False), loaded(IMAGES, training=False)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    backbone = [path for path in model.variables_by_path() if path.startswith("base_model/")]
    assert len(loaded.variables) == len(backbone) < len(model.weights)
    found = loaded.signatures["serving_default"](images=np.zeros((1, 50, 40, 3), np.uint8))
    assert set(found) == {"embedding"}


def test_the_variant_of_one_tensor_is_a_checkpoint(short_model, model, values, embedding_path):
    target = short_model(num_classes=None, proj_head_mode="none", seed=5)
    weights.restore_weights(target, embedding_path)
    expected = values(model)
    for path, value in values(target).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)


def bright_or_dark(number: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Images of two classes that a few steps learn."""
    labels = np.arange(number) % 2
    noise = np.random.default_rng(3).uniform(0, 0.5, (number, 32, 32, 3))
    return (noise + 0.5 * labels[:, None, None, None]).astype(np.float32), labels


def assert_fine_tunes(keras, layer, inference, num_moving: int):
    """A fit changes the layer's weights, lowers the loss, and moves the moving averages."""
    images, labels = bright_or_dark()
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), layer, keras.layers.Dense(2, kernel_initializer="zeros")]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    trained = [v for v in layer.trainable_variables]
    averages = [v for v in layer.non_trainable_variables]
    assert len(averages) == num_moving
    before = [np.array(v) for v in trained], [np.array(v) for v in averages]
    embedding = np.array(inference(images))
    losses = model.fit(images, labels, batch_size=16, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0], losses
    for variables, old in zip((trained, averages), before, strict=True):
        changed = [np.abs(np.array(v) - o).max() > 0 for v, o in zip(variables, old, strict=True)]
        assert all(changed)
    assert np.abs(inference(images) - embedding).max() > 0.01, "it uses the new weights"
    np.testing.assert_allclose(model.layers[0](images), inference(images), rtol=1e-4, atol=1e-4)


@pytest.fixture
def hub_keras(hub):
    """The Keras of hub.KerasLayer: Keras 2, which is the package tf_keras beside Keras 3."""
    if not compat.KERAS_3:
        return keras
    return pytest.importorskip("tf_keras", reason="hub.KerasLayer needs tf_keras beside Keras 3")


def test_hub_keras_layer_takes_it(hub, hub_keras, model, path):
    layer = hub.KerasLayer(path, trainable=True, output_key="final_avg_pool")
    expected = model(IMAGES, training=False)["final_avg_pool"]
    np.testing.assert_allclose(layer(IMAGES, training=False), expected, rtol=1e-4, atol=1e-4)
    assert len(layer.trainable_variables) == len(model.trainable_variables)
    assert np.abs(layer(IMAGES, training=True) - expected).max() > 0.1


def test_hub_keras_layer_fine_tunes_it(hub, hub_keras, model, embedding_path):
    layer = hub.KerasLayer(embedding_path, trainable=True)
    num_moving = sum(
        path.startswith("base_model/") and "moving" in path for path in model.variables_by_path()
    )
    assert_fine_tunes(hub_keras, layer, lambda images: layer(images, training=False), num_moving)


def test_hub_keras_layer_leaves_a_frozen_one_alone(hub, hub_keras, embedding_path):
    layer = hub.KerasLayer(embedding_path)
    before = [v.numpy() for v in layer.variables]
    network = hub_keras.Sequential([hub_keras.Input((32, 32, 3)), layer, hub_keras.layers.Dense(2)])
    network.compile("sgd", hub_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(*bright_or_dark(), batch_size=16, verbose=0)
    for variable, old in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_tfsm_layer_fine_tunes_it(model, path):
    if not compat.KERAS_3:
        pytest.skip("keras.layers.TFSMLayer is in Keras 3 only")
    layer = keras.layers.TFSMLayer(
        path, call_endpoint="embed", call_training_endpoint="embed_in_training"
    )
    num_moving = sum(
        path.startswith("base_model/") and "moving" in path for path in model.variables_by_path()
    )
    assert_fine_tunes(keras, layer, lambda images: layer(images, training=False), num_moving)


def test_a_loop_of_ones_own_fine_tunes_it(loaded):
    """With tf.saved_model.load and a GradientTape, on either Keras."""
    images, labels = bright_or_dark()
    kernel = tf.Variable(tf.zeros((loaded.embed(images).shape[-1], 2)))
    averages = [v for v in loaded.variables if not v.trainable]
    before = [v.numpy() for v in averages]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = loaded(images, trainable=True)["final_avg_pool"] @ kernel
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        variables = [*loaded.trainable_variables, kernel]
        for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True):
            if gradient is not None:  # the heads are not used
                variable.assign_sub(0.1 * gradient)
        return loss

    losses = [float(step()) for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0], losses
    assert all(np.abs(v - old).max() > 0 for v, old in zip(averages, before, strict=True))


@pytest.fixture
def quick(monkeypatch):
    """Exports a function that takes no time to trace."""

    def exportable(model, about):
        module = tf.train.Checkpoint()
        images = tf.TensorSpec((None,), tf.float32, name="images")
        function = tf.function(lambda images: {"images": images}, input_signature=[images])
        return saved_model.Exportable(module, {"serving_default": function})

    monkeypatch.setattr(saved_model, "exportable", exportable)


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_keeps_the_newest_by_number(quick, tmp_path):
    (tmp_path / "notes").mkdir()
    for step in (8, 9, 10, 100):
        saved_model.export(None, str(tmp_path), step, keep=2)
    assert names(tmp_path) == ["10", "100", "notes"]
    saved_model.export(None, str(tmp_path), 100, keep=2)  # again: it is replaced
    assert names(tmp_path) == ["10", "100", "notes"]


def test_half_an_export_never_bears_the_name(quick, tmp_path, monkeypatch):
    save = tf.saved_model.save

    def full(module, path, **kwargs):
        save(module, path, **kwargs)
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.saved_model, "save", full)
        with pytest.raises(OSError, match="no space"):
            saved_model.export(None, str(tmp_path), 5, keep=1)
    assert "5" not in names(tmp_path)
    (tmp_path / "5.unfinished").mkdir(exist_ok=True)
    (tmp_path / "5.unfinished" / "leftover").touch()
    saved_model.export(None, str(tmp_path), 5, keep=1)
    assert names(tmp_path) == ["5"] and "leftover" not in names(tmp_path / "5")
