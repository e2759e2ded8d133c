"""What mode=predict reads and writes, by the paths and the models that it is given."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.formats.runtimes import onnx_file, tflite_file
from tf_simclr.checkpoints.formats.tensorflow import saved_model
from tf_simclr.checkpoints.formats.tensorflow.object_graph import variable_tree
from tf_simclr.data.augment import views
from tf_simclr.errors import ConfigError
from tf_simclr.modes import pictures, tables

CLASSES = ["ant", "bee", "cat", "dog", "eel"]
ABOUT = {"image_size": 32, "class_names": CLASSES}
NUM_IMAGES = 5


def test_pictures_are_named_by_a_file_a_folder_or_a_pattern(tmp_path):
    folder = tmp_path / "holiday [2019]"
    folder.mkdir()
    files = [str(folder / name) for name in ("a [1].png", "a [2].png")]
    for file in files:
        open(file, "w").close()
    assert pictures.find(files[0]) == files[:1]  # as a pattern it would match "a 1.png"
    assert pictures.find(str(folder)) == files
    assert pictures.find(f"{tmp_path}/*/a*.png") == files


def test_an_output_that_cannot_be_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(ConfigError, match="output .*x.csv' is a directory: give a file name"):
        tables.check(str(tmp_path / "x.csv"))
    with pytest.raises(ConfigError, match="output .*cannot be written .*: use another"):
        tables.check(str(tmp_path / (251 * "x" + ".csv")))
    tables.check(str(tmp_path / "y.csv"))


# --- The formats of a model.


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A folder with images/, and with one network in each format."""
    return str(tmp_path_factory.mktemp("formats"))


@pytest.fixture(scope="module")
def images(folder) -> str:
    os.makedirs(f"{folder}/images")
    rng = np.random.default_rng(0)
    for i in range(NUM_IMAGES):
        # Few colors in large areas, so that resizing leaves the images different.
        pixels = rng.integers(0, 256, (2, 2, 3), np.uint8).repeat(20, 0).repeat(24, 1)
        tf.io.write_file(f"{folder}/images/{i}.png", tf.io.encode_png(pixels))
    with open(f"{folder}/images/notes.txt", "w") as file:
        file.write("not an image")
    return f"{folder}/images"


@pytest.fixture(scope="module")
def model(tiny_model, randomize):
    model = tiny_model()
    randomize(model)
    # Logits of a few units, so that no probability is near one.
    logits = model(np.random.default_rng(0).uniform(size=(8, 32, 32, 3)))["logits_sup"]
    model.supervised_head.layers[-1].kernel.assign(
        model.supervised_head.layers[-1].kernel / tf.math.reduce_std(logits)
    )
    return model


@pytest.fixture(scope="module")
def checkpoint(folder, model) -> str:
    directory = f"{folder}/run"
    os.makedirs(directory)
    about_file.write_about(directory, ABOUT)
    tree = variable_tree(model.variables_by_path())
    return tf.train.Checkpoint(model=tf.train.Checkpoint(**tree)).write(f"{directory}/ckpt-1")


def predict(checkpoint, images, output, *arguments) -> dict:
    return small.run(
        "--mode=predict",
        f"--checkpoint={checkpoint}",
        f"--images={images}",
        f"--output={output}",
        "--eval_batch_size=2",  # three batches, of which the last is padded
        *arguments,
    )


# What a checkpoint needs, and an export tells.
NETWORK = ("--image_size=32", "--resnet_depth=18", "--width_multiplier=0.0625", "--proj_out_dim=8")


def rows_of(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def expected(folder, checkpoint, images):
    """The rows of a table, and embeddings, from the checkpoint."""
    for name in ("rows.csv", "embeddings.npy"):
        predict(checkpoint, images, f"{folder}/{name}", *NETWORK)
    rows = rows_of(f"{folder}/rows.csv")
    assert len({row["ant"] for row in rows}) == NUM_IMAGES, "the images differ"
    return rows, np.load(f"{folder}/embeddings.npy")


def check_same(found, expected, tolerance):
    """Compares rows; probabilities differ by at most the tolerance."""
    assert [row["file"] for row in found] == [row["file"] for row in expected]
    for row, wanted in zip(found, expected, strict=True):
        assert list(row) == ["file", "prediction", "probability", *CLASSES]
        for name in ("probability", *CLASSES):
            assert float(row[name]) == pytest.approx(float(wanted[name]), abs=tolerance)
        if tolerance < 1e-4:
            assert row["prediction"] == wanted["prediction"]


def representative(n=16):
    return np.random.default_rng(1).uniform(size=(n, 32, 32, 3)).astype(np.float32)


def export(model, name, folder) -> str:
    """Writes a model in a format, with its metadata, in a folder of its own."""
    os.makedirs(f"{folder}/exports/{name}", exist_ok=True)
    path = f"{folder}/exports/{name}/model"
    if name == "saved_model":
        return saved_model.export(model, path, 1, keep=1, about=ABOUT)
    if name == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        onnx_file.write(model, f"{path}.onnx", about=ABOUT)
        return f"{path}.onnx"
    pytest.importorskip("ai_edge_litert", reason="the extra tflite is not installed")
    tflite_file.write(
        model, f"{path}.tflite", image_size=32, quantize=name, images=representative(), about=ABOUT
    )
    return f"{path}.tflite"


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("saved_model", 2e-6),
        ("onnx", 1e-5),
        ("float32", 1e-5),
        ("float16", 1e-2),
        ("int8", 0.2),
    ],
)
def test_each_format_gives_what_the_checkpoint_gives(
    model, folder, images, expected, tmp_path, capsys, name, tolerance
):
    path = export(model, name, folder)
    rows, embeddings = expected
    found = predict(path, images, tmp_path / "rows.csv")
    assert found == {"path": f"{tmp_path}/rows.csv", "written": NUM_IMAGES, "left_out": 1}
    check_same(rows_of(tmp_path / "rows.csv"), rows, tolerance)
    predict(path, images, tmp_path / "embeddings.npy")
    difference = np.abs(np.load(tmp_path / "embeddings.npy") - embeddings).max()
    assert difference <= 10 * tolerance * np.abs(embeddings).max()
    assert "graph" not in capsys.readouterr().err  # no SavedModel was run


def test_two_replicas_leave_the_host_to_itself(model, folder, images, expected, tmp_path):
    path = export(model, "onnx", folder)
    predict(path, images, tmp_path / "rows.csv", "--cpu_replicas=2")
    check_same(rows_of(tmp_path / "rows.csv"), expected[0], 1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", ["onnx", "float32"])
def test_the_command_line(model, folder, images, expected, tmp_path, name):
    done = small.run_alone(
        "--mode=predict",
        f"--checkpoint={export(model, name, folder)}",
        f"--images={images}",
        f"--output={tmp_path}/rows.csv",
    )
    assert "Recognized" not in done.stderr
    check_same(rows_of(tmp_path / "rows.csv"), expected[0], 1e-5)


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_damaged_file_leaves_no_output(images, tmp_path, name, content):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("ai_edge_litert", reason="the extra tflite is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}' cannot be used as an? ") as error:
        predict(tmp_path / name, images, tmp_path / "rows.csv")
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("mode", ["train", "probe"])
@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_other_modes_say_that_they_need_weights(shapes_dir, tmp_path, mode, name):
    (tmp_path / name).touch()
    message = small.refused(
        *small.RUN,
        f"--mode={mode}",
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        f"--checkpoint={tmp_path / name}",
        f"--model_dir={tmp_path / 'run'}",
        *(["--train_steps=1"] if mode == "train" else []),
    )
    assert f"{name}' is a" in message and "only --mode=predict can use" in message
    assert not (tmp_path / "run").exists()


def test_the_graph_of_a_recognized_saved_model_is_not_run(
    model, folder, images, expected, tmp_path, loaded_graphs
):
    copy = shutil.copytree(export(model, "saved_model", folder), tmp_path / "a/b/c/copy")
    predict(copy, images, tmp_path / "rows.csv")
    assert loaded_graphs == []
    check_same(rows_of(tmp_path / "rows.csv"), expected[0], 2e-6)


def test_an_assumption_about_the_supervised_head_is_said(
    model, folder, images, expected, tmp_path, capsys
):
    """The features and two layers of the projection head have the width of its input."""
    about = {"image_size": 32, "class_names": CLASSES}
    path = saved_model.export(model, str(tmp_path / "a/b/c"), 1, keep=1, about=about)
    for settings, is_said in ((None, True), ({"ft_proj_selector": 0}, False)):
        with open(f"{path}/assets/about.json", "w") as file:
            json.dump(about | {"network": settings}, file)
        predict(path, images, tmp_path / "rows.csv")
        message = capsys.readouterr().err
        assert (
            "several layers have the right width. ft_proj_selector=0 is assumed" in message
        ) == is_said
        check_same(rows_of(tmp_path / "rows.csv"), expected[0], 2e-6)
        predict(path, images, tmp_path / "embeddings.npy")
        assert "assumed" not in capsys.readouterr().err  # they do not pass the head


@pytest.mark.parametrize("has_variable", [True, False])
def test_the_graph_of_another_saved_model_runs_after_a_warning(
    images, tmp_path, loaded_graphs, capsys, has_variable
):
    module = tf.Module()
    if has_variable:
        module.scale = tf.Variable(2.0)

    def call(images, trainable=False):
        scale = module.scale if has_variable else 2.0
        return {"final_avg_pool": scale * tf.reduce_mean(images, axis=[1, 2])}

    module.__call__ = tf.function(call, autograph=False)
    module.__call__.get_concrete_function(tf.TensorSpec((None, None, None, 3)), trainable=False)
    path = str(tmp_path / "other")
    tf.saved_model.save(module, path)
    predict(path, images, tmp_path / "embeddings.npy", "--image_size=8")
    assert loaded_graphs == [path]
    message = capsys.readouterr().err
    assert "Its own graph will run and can read and write files" in message
    assert len([line for line in message.splitlines() if "graph" in line]) == 1
    embeddings = np.load(tmp_path / "embeddings.npy")
    assert embeddings.shape == (NUM_IMAGES, 3) and embeddings.max() > 1


def test_the_golden_saved_model_of_the_official_code(golden, images, tmp_path, loaded_graphs):
    """Its embeddings come from our own network, and are those of its graph."""
    path = golden("saved_model")
    predict(path, images, tmp_path / "embeddings.npy", "--image_size=32")
    assert loaded_graphs == []
    loaded, reader = tf.saved_model.load(str(path)), pictures.PictureReader(None, 100)
    for i, row in enumerate(np.load(tmp_path / "embeddings.npy")):
        pixels, _ = reader.read(f"{images}/{i}.png".encode())
        view = views.evaluation_view(tf.constant(pixels), image_size=32)
        wanted = loaded(view[None], trainable=False)["final_avg_pool"].numpy()[0]
        np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
