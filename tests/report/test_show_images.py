"""tf-simclr show map, neighbours and projector: by their commands, on runs of two data sets."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import small
from tf_simclr.checkpoints import weights, weights_file
from tf_simclr.cli.show.main import main
from tf_simclr.data.sources.shapes_drawing import CLASS_NAMES
from tf_simclr.errors import ConfigError
from tf_simclr.models import from_config
from tf_simclr.report.images import run_images, trained_encoder

pytestmark = [pytest.mark.long, pytest.mark.shared]

SCRIPT = "<script>"


@pytest.fixture(scope="module")
def trained(shapes_dir, tmp_path_factory) -> str:
    """A fine-tuned run of two steps on shapes, at 32 pixels."""
    model_dir = str(tmp_path_factory.mktemp("runs") / "trained")
    flags = (f"--data_dir={shapes_dir}", f"--model_dir={model_dir}", "--train_steps=2")
    small.run(*small.FINETUNE, *flags, "--checkpoint_steps=1")
    return model_dir


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> str:
    """A folder of images of 240 pixels in two classes, one of them called <script>."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 12)):
        for name in (SCRIPT, "grass"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                cells = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
                cells[..., 1 if name == "grass" else 0] //= 4
                picture = Image.fromarray(cells).resize((320, 240), Image.Resampling.BICUBIC)
                picture.save(root / split / name / f"{name.strip('<>')}_{split}_{i}.jpg")
    return str(root)


@pytest.fixture(scope="module")
def pretrained(photographs, tmp_path_factory) -> str:
    """A run of one step on the folder, at 224 pixels."""
    model_dir = str(tmp_path_factory.mktemp("runs") / "pretrained")
    small.run(
        *small.RUN,
        "--image_size=224",
        "--dataset=folder",
        f"--data_dir={photographs}",
        f"--model_dir={model_dir}",
        "--train_steps=1",
    )
    return model_dir


def files(folder) -> dict[str, bytes]:
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                found[os.path.join(parent, name)] = file.read()
    return found


def refused(*words: str) -> str:
    with pytest.raises(SystemExit) as error:
        main(words)
    message = str(error.value.code)
    assert "\n" not in message
    return message


def colors(path) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()))


def test_pictures_of_a_run_leave_the_run_alone(trained, tmp_path, capsys):
    before = files(trained)
    path = str(tmp_path / "map.png")
    main(["map", trained, f"--output={path}"])
    assert "shapes, split test[:200], 200 images, t-SNE of" in capsys.readouterr().out
    assert {(0, 114, 178), (230, 159, 0)} <= colors(path)
    main(["map", trained, "--output=" + path, "--thumbnails", "--method=pca", "--max_images=50"])
    assert "50 of 200 images, two principal components" in capsys.readouterr().out
    svg = str(tmp_path / "neighbours.svg")
    main(["neighbours", trained, f"--output={svg}", "--query=test[:200] 3", "--queries=2"])
    printed = capsys.readouterr().out
    assert "3 images of shapes" in printed and "among 64 training images" in printed
    assert [line.split(":")[0].strip() for line in printed.splitlines()[1:]] == [
        "raw pixels",
        "before training",
        "after training",
    ]
    with open(svg) as file:
        assert "after training: " in file.read()
    assert files(trained) == before
    main(["projector", trained])
    assert f"tensorboard --logdir={trained}/projector" in capsys.readouterr().out
    new = {os.path.relpath(path, trained) for path in files(trained).keys() - before.keys()}
    assert {os.path.dirname(path) for path in new} == {"projector"} and len(new) == 4


def test_the_summary_of_a_run_has_its_head_and_its_first_weights(trained):
    config = small.parse(f"--model_dir={trained}")
    images, notes = run_images.summarize(trained, config)
    assert notes == [] and images.checkpoint.endswith("ckpt-2")
    assert images.neighbors.encoders == ("raw pixels", "before training", "after training")
    assert images.confusion.classifier == "supervised head"
    assert images.confusion.class_names == CLASS_NAMES and images.confusion.counts.sum() == 200
    assert set(images.map.group_names) <= set(CLASS_NAMES)
    with open(os.path.join(trained, "config.json")) as file:
        assert '"seed": 3' in file.read()
    expected = from_config.make_model(config, len(CLASS_NAMES)).variables_by_path()
    opened = trained_encoder.open_encoder(trained, config)
    for path, variable in opened.before.variables_by_path().items():
        np.testing.assert_array_equal(*map(tf.convert_to_tensor, (variable, expected[path])))
    kernel = "base_model/stem/conv/kernel"
    final = weights.read_weights(trained)[kernel]
    np.testing.assert_array_equal(opened.model.variables_by_path()[kernel], final)
    assert np.abs(final - np.array(tf.convert_to_tensor(expected[kernel]))).max() > 0


def test_a_run_that_started_from_a_checkpoint(trained, shapes_dir, tmp_path):
    start = str(tmp_path / "start")
    shutil.copytree(trained, start)
    model_dir = str(tmp_path / "run")
    words = (f"--data_dir={shapes_dir}", f"--checkpoint={start}", f"--model_dir={model_dir}")
    small.run(*(w for w in small.FINETUNE if w != "--from_scratch"), *words, "--train_steps=1")
    config = small.parse(f"--model_dir={model_dir}")
    kernel = "base_model/stem/conv/kernel"
    before = trained_encoder.open_encoder(model_dir, config).before
    np.testing.assert_array_equal(
        before.variables_by_path()[kernel], weights.read_weights(start)[kernel]
    )
    shutil.rmtree(start)
    opened = trained_encoder.open_encoder(model_dir, config)
    assert opened.before is None and "does not exist" in opened.notes[0]


def test_a_checkpoint_that_disappears_while_it_is_read(trained, tmp_path, monkeypatch):
    model_dir = str(tmp_path / "run")
    shutil.copytree(trained, model_dir)
    original, opened = weights_file.find, []

    def find(path):
        if path == model_dir and not opened:
            return os.path.join(model_dir, "ckpt-0")  # deleted meanwhile
        opened.append(path)
        return original(path)

    monkeypatch.setattr(weights_file, "find", find)
    config = small.parse(f"--model_dir={trained}")
    found = trained_encoder.open_encoder(model_dir, config, with_before=False)
    assert found.checkpoint == os.path.join(model_dir, "ckpt-2")


def test_a_folder_at_the_usual_size(pretrained, photographs, tmp_path, capsys):
    path = str(tmp_path / "map.pdf")
    main(["map", pretrained, f"--output={path}"])
    captured = capsys.readouterr()
    assert "folder, split test, 24 images" in captured.out
    assert "Note: folder has no split validation: the images are those of split test." in (
        captured.err
    )
    with open(path, "rb") as file:
        assert file.read(5) == b"%PDF-"
    picture = str(tmp_path / "neighbours.png")
    main(["neighbours", pretrained, f"--output={picture}", "--query=grass_test_3.jpg"])
    assert "1 image of folder" in capsys.readouterr().out
    images, _ = run_images.summarize(pretrained, small.parse(f"--model_dir={pretrained}"))
    assert images.map.group_names == (SCRIPT, "grass") == images.confusion.class_names
    assert f"test/{SCRIPT}/script_test_0.jpg" in images.map.names
    assert images.map.thumbnails.side == 32 and images.neighbors.thumbnails.side == 64
    # Without labels there is one split, in which an image is not its own neighbor.
    main(
        [
            "neighbours",
            f"{pretrained}/saved_model/1",
            f"--output={picture}",
            "--dataset=folder",
            f"--data_dir={photographs}/train",
            "--unlabelled",
        ]
    )
    captured = capsys.readouterr()
    assert "10 images of folder, split train" in captured.out and "%" not in captured.out
    assert "the other 47 images" in captured.out and "has no split validation" in captured.err


def test_what_cannot_be_shown_is_refused_before_a_model_is_built(
    trained, tmp_path, monkeypatch, shapes_dir
):
    def fail(*_, **__):
        raise AssertionError("a model was built")

    monkeypatch.setattr(trained_encoder, "make_model", fail)
    monkeypatch.setattr(trained_encoder.recognized_model, "build", fail)
    empty = str(tmp_path / "run")
    os.mkdir(empty)
    assert "without a checkpoint" in refused("map", empty)
    shutil.copy(os.path.join(trained, "config.json"), empty)
    assert "has no checkpoint yet" in refused("map", empty)
    assert "does not exist" in refused("map", str(tmp_path / "none"))
    output = f"--output={tmp_path}/x.png"
    for words, reason in (
        (("map", "--output=x.bmp"), "must end in .png"),
        (("map", "--output=none/x.png"), "not a writable folder"),
        (("map", "--method=mds"), "method must be one of"),
        (("map", output, "--eval_split=validation"), "not a split of shapes"),
        (("neighbours", output, "--query=test 3"), "query 'test 3' is not an image"),
        (("neighbours", output, "--train_split=none"), "--train_split=none is not a split"),
        (("map", output, f"--data_dir={tmp_path}/no", "--dataset=folder"), "data_dir"),
        (("projector", f"--output={trained}"), "not an empty directory"),
    ):
        assert reason in refused(words[0], trained, *words[1:])
    foreign = str(tmp_path / "elsewhere")
    os.mkdir(foreign)
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(os.path.join(trained, "ckpt-2" + suffix), foreign)
    assert "names no data set" in refused("map", foreign)
    assert not os.path.exists(tmp_path / "x.png")
    with pytest.raises(ConfigError):
        trained_encoder.check(empty)
