"""Keras files: what is written loads without this package, and what is read is only data."""

import dataclasses
import io
import json
import os
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr.checkpoints import about_file, recognition, weights, weights_file
from tf_simclr.checkpoints.formats.keras import hdf5, keras_archive, keras_file
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError

SOURCE = Path(__file__).resolve().parents[2] / "tf_simclr" / "checkpoints" / "formats" / "keras"
IMAGES = np.random.default_rng(0).random((4, 35, 32, 3), dtype=np.float32)
NETWORKS = {
    "18": {},
    "large stem": dict(image_size=64, num_classes=None),
    "50": dict(resnet_depth=50),
    "sk": dict(resnet_depth=50, sk_ratio=0.0625, image_size=64, ft_proj_selector=1),
    "sk basic": dict(sk_ratio=0.0625, image_size=64),
    "se": dict(se_ratio=0.25, proj_head_mode="none"),
    "as PyTorch": dict(
        image_size=64,
        max_pool_padding="symmetric",
        input_normalization="imagenet",
        first_shortcut="identity",
    ),
    "sk se": dict(resnet_depth=50, sk_ratio=0.0625, se_ratio=0.25, proj_head_mode="linear"),
}


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request, short_model, randomize):
    model = short_model(**NETWORKS[request.param])
    randomize(model)
    return model


@pytest.fixture(scope="module")
def model(tiny_model, randomize):
    """A ResNet-18 with all its blocks."""
    model = tiny_model()
    randomize(model)
    return model


@pytest.fixture(scope="module")
def written(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("written") / "model.keras"
    keras_file.write(model, str(path))
    return path


def assert_same_endpoints(actual, expected):
    assert set(actual) == set(expected)
    for name, value in expected.items():
        value = np.array(value)
        tolerance = 1e-5 * np.abs(value).max()
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=tolerance, err_msg=name)


def assert_restores(model, path, values, empty):
    report = weights.restore_weights(empty, str(path))
    assert not report.missing and not report.skipped
    restored, expected = values(empty), values(model)
    for name, value in expected.items():
        np.testing.assert_array_equal(restored[name], value, err_msg=name)


# --- The functional model, and the file of it.


def test_a_functional_model_has_the_same_endpoints_by_stock_layers(network):
    functional = keras_file.functional(network)
    assert_same_endpoints(functional(IMAGES), network(IMAGES))
    assert_same_endpoints(functional(IMAGES[:, :20]), network(IMAGES[:, :20]))
    for layer in functional.layers:
        assert type(layer) is getattr(keras.layers, type(layer).__name__)


def test_a_file_loads_with_the_same_endpoints_and_reads_back(
    network, tmp_path, values, short_model
):
    path = tmp_path / "model.keras"
    keras_file.write(network, str(path))
    assert os.listdir(tmp_path) == ["model.keras"]
    loaded = keras.saving.load_model(str(path), safe_mode=True)
    assert_same_endpoints(loaded(IMAGES), network(IMAGES))
    empty = short_model(
        num_classes=network.num_classes,
        image_size=network.image_size,
        **dataclasses.asdict(network.network),
    )
    assert_restores(network, path, values, empty)
    assert weights.open_weights(str(path)).settings == hidden_settings(network)
    # This Keras describes the same graph in its own way.
    loaded.save(str(tmp_path / "again.keras"))
    assert_restores(network, tmp_path / "again.keras", values, empty)
    again = weights.open_weights(str(tmp_path / "again.keras"))
    assert again.settings == hidden_settings(network)


def hidden_settings(model) -> dict:
    """The settings that no shape shows; without a supervised head, its input is none of them."""
    found = {name: getattr(model.network, name) for name in about_file.HIDDEN_SETTINGS}
    if model.num_classes is None:
        del found["ft_proj_selector"]
    return found


@pytest.mark.long
@pytest.mark.both_stacks
def test_a_deep_network_with_everything_reads_back(tiny_model, randomize, values, tmp_path):
    settings = dict(resnet_depth=50, sk_ratio=0.0625, se_ratio=0.25, image_size=64)
    model, empty = tiny_model(**settings), tiny_model(**settings, seed=1)
    randomize(model)
    keras_file.write(model, str(tmp_path / "model.keras"))
    loaded = keras.saving.load_model(str(tmp_path / "model.keras"))
    assert_same_endpoints(loaded(IMAGES), model(IMAGES))
    assert_restores(model, tmp_path / "model.keras", values, empty)
    model.save_weights(str(tmp_path / "model.weights.h5"))
    assert_restores(model, tmp_path / "model.weights.h5", values, tiny_model(**settings, seed=2))


def test_in_training_the_statistics_are_those_of_our_layers(short_model, randomize):
    ours = short_model()
    randomize(ours)
    functional = keras_file.functional(ours)
    images = np.random.default_rng(1).random((16, 32, 32, 3), dtype=np.float32)
    expected, actual = ours(images, training=True), functional(images, training=True)
    for name in ("block_group1", "block_group4", "final_avg_pool", "proj_head_output"):
        value = np.array(expected[name])
        tolerance = 1e-3 * np.abs(value).max()
        np.testing.assert_allclose(actual[name], value, atol=tolerance, err_msg=name)
    for path, layer in ours.named_layers():
        if path.startswith("base_model/") and path.endswith("/bn"):
            new = functional.get_layer(path.replace("/", "."))
            # Keras 2 averages the unbiased variance: at most 1 + 1/255 times ours here.
            for name in ("moving_mean", "moving_variance"):
                moved, own = np.array(getattr(new, name)), np.array(getattr(layer, name))
                np.testing.assert_allclose(moved, own, rtol=1 / 255, atol=1e-3, err_msg=path)


def test_half_precision_gives_a_float32_file(short_model, randomize):
    half = short_model(precision="bfloat16")
    randomize(half)
    functional = keras_file.functional(half)
    float32 = short_model()
    randomize(float32)
    assert_same_endpoints(functional(IMAGES), float32(IMAGES))


def test_the_same_weights_give_the_same_bytes(model, written, tmp_path):
    keras_file.write(model, str(tmp_path / "again.keras"))
    assert (tmp_path / "again.keras").read_bytes() == written.read_bytes()


def test_a_failed_write_leaves_the_old_file(model, written, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        keras_file.write(model, str(path))
    assert os.listdir(tmp_path) == ["model.keras"] and path.read_bytes() == b"old"


def test_plain_fit_trains_the_loaded_model_and_the_result_reads_back(
    written, tmp_path, values, tiny_model
):
    loaded = keras.saving.load_model(str(written))
    classifier = keras.Model(loaded.input, loaded.output["logits_sup"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.SGD(0.01), loss=loss, metrics=["accuracy"])
    images = np.random.default_rng(1).random((16, 32, 32, 3), dtype=np.float32)
    labels = np.arange(16) % 5
    history = classifier.fit(images, labels, batch_size=8, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"])) and history["loss"][1] < history["loss"][0]
    classifier.save(str(tmp_path / "trained.keras"))
    restored = tiny_model(proj_head_mode="none")
    assert not weights.restore_weights(restored, str(tmp_path / "trained.keras")).missing
    logits = classifier.predict(images, verbose=0)
    actual = restored(images)["logits_sup"]
    np.testing.assert_allclose(actual, logits, rtol=1e-4, atol=1e-4)


def test_plain_fit_trains_the_model_of_all_endpoints(written):
    loaded = keras.saving.load_model(str(written))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loaded.compile("sgd", loss={"logits_sup": loss})
    before = [np.array(v) for v in loaded.get_layer("head_supervised.dense").get_weights()]
    history = loaded.fit(IMAGES, {"logits_sup": np.arange(4)}, verbose=0).history
    assert np.isfinite(history["loss"][0])
    after = loaded.get_layer("head_supervised.dense").get_weights()
    assert all(np.abs(new - old).max() > 0 for new, old in zip(after, before, strict=True))


# --- Reading what model.save and save_weights have written.


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_saved_simclr_reads_back(network, tmp_path, values, name):
    path = str(tmp_path / name)
    if name.endswith(".keras"):
        network.save(path)
    else:
        network.save_weights(path)
    stored = weights.open_weights(path)
    expected = values(network)
    assert set(stored.shapes) == set(expected)
    for variable, value in expected.items():
        np.testing.assert_array_equal(stored.read(variable), value, err_msg=variable)
    assert stored.num_classes == network.num_classes
    if name.endswith(".keras"):
        assert stored.settings.items() >= hidden_settings(network).items()
    else:
        assert "does not show ft_proj_selector" in stored.notes[0]


def test_the_network_is_recognized(written):
    stored = weights_file.open_weights(str(written))
    config = recognition.fit(Config().replace(mode="predict"), stored, path=str(written))
    assert recognition.describe(stored, config) == (
        "a Keras file of a functional model; ResNet-18 0.0625x, small stem, projection head of 3 "
        "layers to 8, 5 classes"
    )


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_a_file_of_another_precision_reads_back_too(tmp_path, written, dtype):
    config, root = keras_archive.read(str(written))
    path = with_weights(tmp_path / "x.keras", config, lambda file: copy(root, file, dtype))
    assert weights_file.open_weights(path).read("base_model/stem/conv/kernel").dtype == dtype


def test_no_code_that_makes_objects_is_called():
    for name in ("hdf5.py", "keras_archive.py", "keras_layout.py", "keras_file.py"):
        source = (SOURCE / name).read_text()
        for word in (
            "load_model",
            "deserialize",
            "from_config",
            "import_module",
            "pickle",
            "eval(",
        ):
            assert word not in source, name


# --- Files that are no model, or half of one.


def copy(source: h5py.Group, target: h5py.Group, dtype: str = "float32"):
    """Copies all arrays of an HDF5 file."""

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            target[name] = item[()].astype(dtype)
        else:
            target.require_group(name)

    source.visititems(visit)


def archive(path: Path, members: dict[str, bytes], **arguments) -> str:
    with zipfile.ZipFile(path, "w", **arguments) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return str(path)


def hdf5_bytes(fill) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def with_weights(path: Path, config: dict, fill) -> str:
    members = {"config.json": json.dumps(config).encode(), "model.weights.h5": hdf5_bytes(fill)}
    return archive(path, members)


@pytest.fixture(scope="module")
def parts(written):
    """(config.json, the weights) of the file that is written."""
    return keras_archive.read(str(written))


def refused(path) -> str:
    with pytest.raises(ConfigError) as error:
        weights.read_weights(str(path))
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


def members_of(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize(
    "name, content",
    [
        ("empty.keras", b""),
        ("text.keras", b"no zip, but text"),
        ("empty.weights.h5", b""),
        ("text.weights.h5", b"no HDF5, but text"),
        ("signature.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(200)),
    ],
)
def test_a_file_that_is_something_else(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "cannot be read" in refused(tmp_path / name)


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.6, 0.95])
def test_a_truncated_file(tmp_path, written, fraction):
    content = written.read_bytes()
    (tmp_path / "x.keras").write_bytes(content[: int(len(content) * fraction)])
    assert "not an intact .keras file" in refused(tmp_path / "x.keras")
    weights_only = members_of(written)["model.weights.h5"]
    (tmp_path / "x.weights.h5").write_bytes(weights_only[: int(len(weights_only) * fraction)])
    assert "cannot be read" in refused(tmp_path / "x.weights.h5")


def test_a_changed_byte_is_noticed(tmp_path, written):
    content = bytearray(written.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.keras").write_bytes(content)
    assert "CRC" in refused(tmp_path / "x.keras")


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_a_zip_without_a_part(tmp_path, written, missing):
    members = members_of(written)
    del members[missing]
    message = refused(archive(tmp_path / "x.keras", members))
    assert f"it has 0 members {missing}, not one" in message


def test_a_config_that_unpacks_to_much_is_not_unpacked(tmp_path, written, monkeypatch):
    members = members_of(written)
    members["config.json"] = b" " * (2 * keras_archive.MAX_CONFIG_BYTES)
    path = archive(tmp_path / "x.keras", members, compression=zipfile.ZIP_DEFLATED)
    assert os.path.getsize(path) < 10**6
    assert "config.json has more than" in refused(path)


def test_weights_that_unpack_to_much_are_not_unpacked(tmp_path, written):
    members = members_of(written) | {"model.weights.h5": bytes(2**24)}
    path = archive(tmp_path / "x.keras", members, compression=zipfile.ZIP_DEFLATED)
    assert "its model.weights.h5 is compressed" in refused(path)


def test_two_parts_of_one_name_are_ambiguous(tmp_path, written):
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "x.keras", "w") as file,
    ):
        for name, content in members_of(written).items():
            file.writestr(name, content)
            file.writestr(name, content)
    assert "2 members config.json" in refused(tmp_path / "x.keras")


def test_names_in_the_zip_are_no_paths(tmp_path, written):
    outside = tmp_path / "outside"
    members = members_of(written)
    members |= {"../outside": b"x", str(outside): b"x", "assets/../../outside": b"x"}
    folder = tmp_path / "folder"
    folder.mkdir()
    weights.read_weights(archive(folder / "x.keras", members))
    assert not outside.exists() and os.listdir(folder) == ["x.keras"]


@pytest.mark.parametrize(
    "content, part",
    [
        (b"no json", "Expecting value"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[]", "not a JSON object"),
        (b"{}", "class 'None'"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"class_name": "Sequential", "config": {}}', "class 'Sequential'"),
        (b'{"class_name": ["SimCLR"], "config": {"layers": 1}}', "class"),
        (b'{"class_name": "SimCLR", "config": {"ft_proj_selector": "x"}}', "cannot be read"),
        (b'{"class_name": "Functional", "config": {"layers": [1]}}', "class 'None'"),
        (b'{"class_name": "Functional", "config": {"layers": []}}', "not a layer of a SimCLR"),
    ],
)
def test_another_config(tmp_path, written, content, part):
    members = members_of(written) | {"config.json": content}
    assert part in refused(archive(tmp_path / "x.keras", members))


def test_a_lambda_layer_is_refused_and_does_not_run(tmp_path, parts, evil):
    config, root = json.loads(json.dumps(parts[0])), parts[1]
    code = {"class_name": "__lambda__", "config": {"value": "exec('import evil_module')"}}
    config["config"]["layers"].append(
        {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {"name": "base_model.x", "function": code},
            "name": "base_model.x",
            "inbound_nodes": [],
        }
    )
    message = refused(with_weights(tmp_path / "x.keras", config, lambda f: copy(root, f)))
    assert "a layer 'base_model.x' of class 'Lambda'" in message and not evil.exists()


def test_a_module_of_a_custom_object_is_not_imported(tmp_path, parts, evil):
    config, root = dict(parts[0], module="evil_module", registered_name="evil>Evil"), parts[1]
    weights.read_weights(with_weights(tmp_path / "x.keras", config, lambda f: copy(root, f)))
    assert not evil.exists()


def test_another_normalization_is_refused(tmp_path, short_model):
    path = tmp_path / "x.keras"
    keras_file.write(short_model(input_normalization="cifar10"), str(path))
    config, root = keras_archive.read(str(path))
    (layer,) = (x for x in config["config"]["layers"] if x["class_name"] == "Rescaling")
    for scale in ([1.0, 1.0, 1.0], 3, "x", None, [[1]]):
        layer["config"]["scale"] = scale
        message = refused(with_weights(path, config, lambda f: copy(root, f)))
        assert "base_model.stem.normalize' has other values than imagenet and cifar10" in message


STEM = "layers/conv2d/vars/0"


def replace(root, change):
    """Returns a function that fills a file with the weights, the stem's kernel changed."""

    def fill(file):
        copy(root, file)
        del file[STEM]
        change(file)

    return fill


def external_link(file):
    file[STEM] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file):
    file[STEM] = h5py.SoftLink("/layers/conv2d_1/vars/0")


def soft_link_of_a_group(file):
    del file["layers/conv2d"]
    file["layers/conv2d"] = h5py.SoftLink("/layers/conv2d_1")


def external_values(file):
    file.create_dataset(STEM, (3, 3, 3, 4), "f4", external=[("/etc/passwd", 0, 432)])


def virtual_values(file):
    layout = h5py.VirtualLayout((3, 3, 3, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 3, 3, 4))
    file.create_virtual_dataset(STEM, layout)


def huge_claim(file):
    file.create_dataset(STEM, (2**40,), "f4")


def huge_chunks(file):
    file.create_dataset(STEM, (2**20, 2**20), "f4", chunks=(1024, 1024))


def compressed(file):
    file.create_dataset(STEM, data=np.zeros((3, 3, 3, 4), "f4"), compression="gzip")


def objects(file):
    file.create_dataset(STEM, (3,), h5py.string_dtype())


def references(file):
    file.create_dataset(STEM, (3,), h5py.ref_dtype)


def integers(file):
    file[STEM] = np.zeros((3, 3, 3, 4), np.int64)


def compound(file):
    file[STEM] = np.zeros(3, [("a", "f4"), ("b", "f4")])


def empty_value(file):
    file[STEM] = h5py.Empty("f4")


def group_for_array(file):
    file.create_group(STEM)


def array_for_group(file):
    del file["layers/conv2d"]
    file["layers/conv2d"] = np.zeros(3, "f4")


def too_many_variables(file):
    for i in range(3):
        file[f"layers/conv2d/vars/{i}"] = np.zeros(3, "f4")


def too_many_members(file):
    for i in range(hdf5.MAX_MEMBERS + 1):
        file.create_group(f"layers/x{i}")
    file[STEM] = np.zeros((3, 3, 3, 4), "f4")


def other_name(file):
    file[STEM] = np.zeros((3, 3, 3, 4), "f4")
    file["layers/mystery/vars/0"] = np.zeros(3, "f4")


@pytest.mark.parametrize(
    "change, part",
    [
        (external_link, "is a link to another place or file"),
        (soft_link, "is a link to another place or file"),
        (soft_link_of_a_group, "is a link to another place or file"),
        (external_values, "are in another file"),
        (virtual_values, "are in another file"),
        (huge_claim, "claims 4398046511104 bytes and stores 0"),
        (huge_chunks, "claims 4398046511104 bytes and stores 0"),
        (compressed, "is compressed"),
        (objects, "not floating-point numbers"),
        (references, "not floating-point numbers"),
        (integers, "holds int64, not floating-point numbers"),
        (compound, "not floating-point numbers"),
        (empty_value, "empty"),
        (group_for_array, "is not an array"),
        (array_for_group, "lacks /layers/conv2d/vars"),
        (too_many_variables, "has 3 variables"),
        (too_many_members, "more than 10000 members"),
        (other_name, "its /layers/mystery is not a layer of a SimCLR"),
        (lambda file: None, "has 0 variables"),
    ],
)
def test_an_array_that_is_none(tmp_path, parts, change, part):
    config, root = parts
    path = with_weights(tmp_path / "x.keras", config, replace(root, change))
    assert part in refused(path)


def test_half_of_the_variables(tmp_path, parts):
    config, root = parts

    def fill(file):
        copy(root, file)
        for i in range(8, 20):
            del file[f"layers/conv2d_{i}"]

    assert "lacks /layers/conv2d_8/vars" in refused(
        with_weights(tmp_path / "x.keras", config, fill)
    )


@pytest.mark.parametrize("damage", ["a layer", "a stage", "another name"])
def test_half_of_the_weights_of_a_simclr(tmp_path, model, damage):
    path = tmp_path / "x.weights.h5"
    model.save_weights(str(path))
    with h5py.File(path, "a") as file:
        stages = file["stages" if "stages" in file else "layers"]
        layers = stages["functional_2/layers"]
        if damage == "a layer":
            del layers["conv2d_3"]
        elif damage == "a stage":
            del stages["functional_2"]
        else:
            layers.move("conv2d_3", "dense_7")
    with pytest.raises(ConfigError) as error:
        weights.restore_weights(model, str(path))
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_weights_of_a_functional_model_have_no_names(tmp_path, model):
    path = tmp_path / "x.weights.h5"
    keras_file.functional(model).save_weights(str(path))
    assert "save the whole model as a .keras file" in refused(path)


def test_a_shape_of_another_network_is_refused_before_reading(tmp_path, parts, tiny_model):
    config, root = parts

    def change(file):
        file[STEM] = np.zeros((3, 3, 3, 5), "f4")

    path = with_weights(tmp_path / "x.keras", config, replace(root, change))
    with pytest.raises(ConfigError, match=r"has shape \(3, 3, 3, 5\) there and \(3, 3, 3, 4\)"):
        weights.restore_weights(tiny_model(), path)


def test_the_command_refuses_in_one_line(tmp_path, written):
    (tmp_path / "x.keras").write_bytes(written.read_bytes()[:1000])
    (tmp_path / "x.png").write_bytes(tf.io.encode_png(np.zeros((32, 32, 3), np.uint8)).numpy())
    message = small.refused(
        "--mode=predict", f"--checkpoint={tmp_path}/x.keras", f"--images={tmp_path}/x.png"
    )
    assert "not an intact .keras file" in message
