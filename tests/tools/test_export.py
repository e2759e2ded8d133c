"""tools/export.py: every format gives the model's embeddings, and the card says how closely."""

import configparser
import csv
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import export
import small
from tf_simclr.checkpoints import exports, recognized_model, weights, weights_file
from tf_simclr.checkpoints.formats import optional
from tf_simclr.config import Config
from tf_simclr.data.sources.shapes_drawing import CLASS_NAMES
from tf_simclr.errors import ConfigError
from tf_simclr.modes import sample_images

NEEDS = {
    "saved_model": (),
    "keras": (),
    "torch": ("safetensors", "torch"),
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "tflite": ("ai_edge_litert",),
}
READABLE = ("saved_model", "keras", "torch")  # as weights; the others only run


@pytest.fixture(scope="module")
def run(shapes_dir, tmp_path_factory) -> str:
    """A fine-tuned run of two steps."""
    folder = str(tmp_path_factory.mktemp("run") / "trained")
    small.run(
        *small.FINETUNE,
        f"--data_dir={shapes_dir}",
        f"--model_dir={folder}",
        "--mode=train_then_eval",
        "--train_steps=2",
    )
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> str:
    """Five images of different sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(0, 256, (4 + i, 6, 3), np.uint8)
        image = Image.fromarray(pixels).resize((70 + 10 * i, 60), Image.Resampling.BICUBIC)
        image.save(folder / f"{i}.png")
    return str(folder)


@pytest.fixture(scope="module")
def exported(run):
    """Function: a format -> the directory of its export, checked by the command."""
    done: dict[str, str] = {}

    def make(name: str) -> str:
        for package in NEEDS[name]:
            pytest.importorskip(package, reason=f"the export to {name} needs it")
        if name not in done:
            export.main([f"--checkpoint={run}", f"--format={name}", "--check"])
            done[name] = f"{run}_{name}"
        return done[name]

    return make


def predictions(checkpoint: str, pictures: str, output) -> np.ndarray:
    """The class probabilities of the pictures, by the command."""
    words = (f"--checkpoint={checkpoint}", f"--images={pictures}", f"--output={output}")
    small.run("--mode=predict", *words)
    with open(output) as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0][-10:]) == CLASS_NAMES
    return np.array([row[-10:] for row in rows[1:]], float)


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        export.main([str(argument) for argument in arguments])
    message = stopped.value.code
    assert isinstance(message, str) and message.startswith("export.py: ") and "\n" not in message
    assert capsys.readouterr().out == ""
    return message


@pytest.mark.parametrize("name", exports.FORMATS)
def test_an_export_gives_the_embeddings_of_the_model(exported, run, name):
    """--check has compared them, or the command had failed."""
    folder = exported(name)
    card = open(os.path.join(folder, "MODEL_CARD.md")).read()
    assert "Checked on 64 images: a value of an embedding differs from the model's by at" in card
    assert f"from `{run}`" in card and "up to step 2." in card and "--train_mode=finetune" in card
    result = json.load(open(os.path.join(run, "result.json")))
    accuracy = result["eval/label_top_1_accuracy"]
    assert f"| supervised head, top-1 | {100 * accuracy:.2f}% |" in card
    assert exports.FORMATS[name].loading.strip() in card
    about = json.load(open(os.path.join(folder, "about.json")))
    assert about["image_size"] == 32 and len(about["class_names"]) == 10
    assert not [other for other in os.listdir(os.path.dirname(folder)) if "unfinished" in other]


@pytest.mark.parametrize("name", exports.FORMATS)
def test_mode_predict_takes_every_export(exported, run, pictures, tmp_path, name):
    path = os.path.join(exported(name), exports.FORMATS[name].file).rstrip("/")
    expected = predictions(run, pictures, tmp_path / "run.csv")
    again = predictions(path, pictures, tmp_path / "export.csv")
    assert again.shape == expected.shape == (5, 10)
    np.testing.assert_allclose(again, expected, atol=2e-5)


@pytest.mark.parametrize("name", READABLE)
def test_the_weights_come_back_as_they_were(exported, run, name):
    before, again = weights.read_weights(run), weights.read_weights(exported(name))
    assert set(again) == set(before)
    for path, value in before.items():
        np.testing.assert_array_equal(again[path], value)


def test_eight_bits_need_real_images_and_are_close(run, pictures, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert", reason="TFLite's runtime")
    output = tmp_path / "int8"
    words = (f"--checkpoint={run}", "--format=tflite", "--quantize=int8", f"--output={output}")
    export.main([*words, f"--images={pictures}", "--check"])
    text = capsys.readouterr().out
    cosine = float(text.split("cosine similarity is ")[1].split()[0].rstrip("."))
    assert 0.98 < cosine <= 1 and "Checked on 5 images" in text
    small_size = os.path.getsize(output / "model.tflite")
    weights_size = sum(value.nbytes for value in weights.read_weights(run).values())
    assert small_size < 0.6 * weights_size


def test_a_single_tensor(run, tmp_path):
    export.main(
        [f"--checkpoint={run}", "--format=saved_model", "--embedding_only", "--check"]
        + [f"--output={tmp_path}/one"]
    )
    loaded = tf.saved_model.load(str(tmp_path / "one"))
    assert loaded(tf.zeros((2, 32, 32, 3))).shape == (2, 32)
    card = (tmp_path / "one" / "MODEL_CARD.md").read_text()
    assert "| final_avg_pool | 32 |" in card and "logits_sup" not in card


def test_an_official_checkpoint_names_no_data_and_no_training(golden, pictures, tmp_path, capsys):
    source = golden("models/r18_cifar")
    words = (f"--checkpoint={source}", "--format=keras", f"--output={tmp_path}/official")
    message = refused(capsys, *words, "--check")
    assert "--check needs real images" in message and "--images" in message
    export.main([*words, "--check", f"--images={pictures}"])
    assert capsys.readouterr().out.startswith(
        "Recognized a TF2 checkpoint of the official code; ResNet-18 0.125x, small stem"
    )
    card = (tmp_path / "official" / "MODEL_CARD.md").read_text()
    assert "The training is not recorded." in card and "No evaluation of these weights" in card


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (("--format=keras", "--quantize=int8"), "quantize must be float32 with format=keras"),
        (("--format=onnx", "--embedding_only"), "embedding_only is for format=saved_model"),
        (("--format=keras", "--image_size=64"), "image_size must be 32 or less, got 64"),
        (("--format=keras", "--check", "--images={tmp_path}/no"), "matches no file"),
        (("--format=keras", "--check", "--eval_split=no"), "eval_split"),
    ],
)
def test_refused_before_anything_is_written(run, tmp_path, capsys, arguments, reason):
    words = [argument.format(tmp_path=tmp_path) for argument in arguments]
    message = refused(capsys, f"--checkpoint={run}", f"--output={tmp_path}/new", *words)
    assert reason in message
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept(run, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    message = refused(capsys, f"--checkpoint={run}", "--format=keras", f"--output={tmp_path}")
    assert "exists and is not an empty directory" in message
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_an_export_with_other_embeddings_is_not_written(run, tmp_path, capsys, monkeypatch):
    keras_format = exports.FORMATS["keras"]
    wrong = keras_format._replace(load=lambda _: lambda images: np.ones((len(images), 32)))
    monkeypatch.setitem(exports.FORMATS, "keras", wrong)
    message = refused(
        capsys, f"--checkpoint={run}", "--format=keras", "--check", f"--output={tmp_path}/new"
    )
    assert "does not give the embeddings" in message and "so nothing was written" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name, package", [("torch", "safetensors"), ("onnx", "tf2onnx")])
def test_a_missing_package_is_named_with_its_install_line(
    run, tmp_path, capsys, monkeypatch, name, package
):
    def fail(module):
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(optional.importlib, "import_module", fail)
    message = refused(capsys, f"--checkpoint={run}", f"--format={name}", f"--output={tmp_path}/new")
    assert f"needs the package {package}" in message and f"pip install '.[{name}]'" in message
    assert list(tmp_path.iterdir()) == []


def test_a_package_has_an_extra_that_pins_it(repo_root):
    parser = configparser.ConfigParser()
    parser.read(repo_root / "setup.cfg")
    extras = parser["options.extras_require"]
    pinned = " ".join(extras[name] for name in ("torch", "onnx", "tflite"))
    for package in optional.EXTRAS:
        assert package.replace("_", "-") in pinned, package
    with pytest.raises(ConfigError, match=r"pip install '.\[torch\]'"):
        optional.require("safetensors.no_such_module", reason="a test")


def test_what_about_json_says_of_images_is_used_and_flags_win(run, tmp_path):
    """A SavedModel that was copied away from its run knows its image size."""
    shutil.copytree(f"{run}/saved_model/2", tmp_path / "alone")
    about = json.loads((tmp_path / "alone" / "assets" / "about.json").read_text())
    about["image_size"], about["preparation"]["image_range"] = 24, [0, 4095]
    (tmp_path / "alone" / "assets" / "about.json").write_text(json.dumps(about))
    stored = weights_file.open_weights(str(tmp_path / "alone"))
    config = Config().replace(seed=0, precision="bfloat16")
    built = recognized_model.build(stored, str(tmp_path / "alone"), config)
    assert (built.config.data.image_size, built.config.data.image_range) == (24, "0,4095")
    assert built.config.training.precision == "float32"  # exports are
    fixed = config.replace(image_size=32)
    built = recognized_model.build(stored, str(tmp_path / "alone"), fixed, fixed=["image_size"])
    assert built.config.data.image_size == 32


def test_a_flag_that_changes_the_network_takes_the_accuracy_away(run, tmp_path):
    export.main(
        [f"--checkpoint={run}", "--format=keras", f"--output={tmp_path}/other"]
        + ["--input_normalization=cifar10"]
    )
    card = (tmp_path / "other" / "MODEL_CARD.md").read_text()
    assert "No evaluation of these weights is recorded." in card and "cifar10" in card
    again = small.parse(
        "--mode=predict", f"--checkpoint={tmp_path}/other/model.keras", "--images=x"
    )
    assert again.model.input_normalization == "cifar10"


def test_images_that_nothing_reads_are_refused(run, pictures, tmp_path, capsys):
    words = (f"--checkpoint={run}", "--format=keras", f"--output={tmp_path}/new")
    assert "images must be unset without --check" in refused(capsys, *words, f"--images={pictures}")


def test_a_converter_that_fails_is_an_error_of_one_line(run, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise NotImplementedError("no such layer")

    broken = exports.FORMATS["keras"]._replace(write=fail)
    monkeypatch.setitem(exports.FORMATS, "keras", broken)
    message = refused(capsys, f"--checkpoint={run}", "--format=keras", f"--output={tmp_path}/new")
    assert "format=keras cannot express" in message and list(tmp_path.iterdir()) == []


def test_a_torch_export_holds_no_bytecode(exported):
    assert sorted(os.listdir(exported("torch"))) == [
        "MODEL_CARD.md",
        "about.json",
        "config.json",
        "model.py",
        "model.safetensors",
    ]


def test_sample_images_are_spread_over_a_folder(tmp_path):
    for name in range(10):
        Image.new("RGB", (8, 8), (25 * name, 0, 0)).save(tmp_path / f"{name}.png")
    config = Config().replace(image_size=8)
    images = sample_images.from_files(config, str(tmp_path), 5)
    reds = np.rint(255 * images[:, 0, 0, 0] / 25)
    assert reds.tolist() == [0, 2, 4, 6, 8]
