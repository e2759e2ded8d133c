"""The sheet of views: each original belongs to its views; names from data; the command; the run."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import small
from hostile_pictures import noise, saved, write
from tf_simclr.checkpoints.weights import read_weights
from tf_simclr.cli.show import main as show
from tf_simclr.config import Config
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.pipeline import first_batches
from tf_simclr.data.sources.folder import FolderSource
from tf_simclr.data.sources.tfds_source import open_source
from tf_simclr.report import picture_file
from tf_simclr.report.views import tiles, views_sheet
from tf_simclr.training import run_input

CLASSES = ("<script>", "日本語", "$x$ {y}", "two_" * 20)


def write_folder(root, *, count=4, side=120):
    """Writes JPEGs of different sizes, each of one color, in classes with unusual names."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, name in enumerate(CLASSES):
            files = {}
            for i in range(count):
                color = tuple(int(c) for c in rng.integers(0, 256, 3))
                size = (side + 31 * i, side + 17 * number)
                files[f"{number}{i}.jpg"] = saved(Image.new("RGB", size, color), format="JPEG")
            write(root / split / name, files)
    return str(root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"))


def settings(folder, **changes):
    base = dict(dataset="folder", data_dir=folder, seed=1, image_size=24)
    return Config().replace(**(base | changes))


@pytest.mark.parametrize("where", ["host", "device"])
def test_originals_belong_to_their_views(folder, where):
    """Without color distortion, the views of an image of one color have its color."""
    config = settings(folder, train_mode="finetune")
    source = FolderSource(folder, unlabelled=False)
    first = views_sheet.read(config, source, count=8, where=where)
    [views] = views_sheet.views_of(config, first)
    assert len(first.images) == 8
    for image, view, label, name in zip(first.images, views, first.labels, first.ids, strict=True):
        np.testing.assert_allclose(
            view, np.broadcast_to(image[:1, :1] / 255, view.shape), atol=0.02
        )
        number, i = map(int, os.path.basename(name.decode()).split(".")[0])
        assert image.shape[:2] == (120 + 17 * number, 120 + 31 * i)
        assert source.class_names[label] == CLASSES[number]


@pytest.mark.parametrize("num_images", [10, 8, 3])
def test_originals_of_a_small_split_and_of_small_images(shapes_dir, num_images):
    """Also if the order of an epoch depends on all earlier ones, and if the device crops."""
    source = open_source("shapes", str(shapes_dir))
    config = Config().replace(
        dataset="shapes", image_size=32, seed=1, train_split=f"train[:{num_images}]"
    )
    first = run_input.first_batch(config, source, count=8, on_device=True)
    np.testing.assert_array_equal(np.stack(first.images), first.batch.images)
    np.testing.assert_array_equal(np.argmax(first.batch.labels, axis=1), first.labels)
    assert len(first.images) == min(8, num_images)


def test_a_stand_in_is_the_next_image_that_can_be_decoded(tmp_path):
    whole = saved(noise(), format="PNG")
    files = {
        f"{i}.png": saved(Image.new("RGB", (20, 20), (i * 30, 0, 0)), format="PNG")
        for i in range(6)
    }
    files |= {f"half_{i}.png": whole[: len(whole) // 2] for i in range(4)}
    write(tmp_path / "images", files)
    config = settings(
        str(tmp_path / "images"), unlabelled=True, train_mode="finetune", image_size=16
    )
    source = FolderSource(config.data.data_dir, unlabelled=True)
    first = views_sheet.read(config, source, count=10, where="host")
    assert first.batch.skipped.numpy().sum() == 4
    [views] = views_sheet.views_of(config, first)
    for i, image in enumerate(first.images):
        np.testing.assert_allclose(
            views[i], np.broadcast_to(image[:1, :1] / 255, (16, 16, 3)), atol=0.01
        )
        stands_in = "stand-in for one that" in views_sheet.row_names(config, source, first, i)
        assert stands_in == bool(first.batch.skipped[i])
    np.testing.assert_array_equal(
        first_batches.stand_ins(np.array([True, False, True, False, True])), [1, 1, 3, 3, 1]
    )


@pytest.mark.long
def test_the_sheet_shows_the_views_and_names(folder):
    config = settings(folder)
    source = FolderSource(folder, unlabelled=False)
    first = views_sheet.read(config, source, count=5, where="host")
    figure = views_sheet.figure(config, source, first, where="host")
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 5 * 3
    views = DeviceViews(config).views(first.batch, step=0, part=0)
    for i in range(5):
        np.testing.assert_array_equal(shown[3 * i], first.images[i])
        np.testing.assert_allclose(shown[3 * i + 1], views[0][i], atol=1e-6)
        np.testing.assert_allclose(shown[3 * i + 2], views[1][i], atol=1e-6)
    texts = [text.get_text() for text in figure.texts]
    assert any("image_size 24" in text and "augmented on the host" in text for text in texts)
    assert "<script>" in texts or "日本語" in texts or "$x$ {y}" in texts
    for suffix in picture_file.FORMATS:
        content = picture_file.encode(figure, suffix, is_cropped=False)
        assert b"<script>" not in content
    figure.canvas.draw()
    box = figure.bbox
    for text in figure.texts:  # nothing is cut off
        extent = text.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= box.x1 and extent.y0 >= 0 and extent.y1 <= box.y1


def test_names_from_data_are_printable_and_short():
    assert tiles.printable("a\nb\x00", 10) == "a?b?"
    assert tiles.printable("abcdefghij", 5) == "ab…ij"


def command(capsys, *words) -> str:
    show.main(["views", *words], program="show.py")
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (("--output=views.jpg",), "output must end in .png, .svg, .pdf, got 'views.jpg'"),
        (("--output=no/such/folder/a.png",), "'no/such/folder' is not a writable folder"),
        (("--images=0",), "images must be a number from 1 to 64"),
        (("--image=2",), "image must be unset without --explain"),
        (("--explain", "--image=9"), "image must be from 1 to 8"),
        (("--explain", "--image=no.png"), "image 'no.png' is not a file"),
        (("--model_dir=no_run",), "holds no run"),
        (("--dataset=shapes", "--unlabelled"), "unlabelled must be False"),
        (("--gin_file=no_such_preset",), "no_such_preset"),
        (("--dataset=folder", "--data_dir=no_folder"), "no_folder"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        show.main(["views", *words], program="show.py")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not os.listdir(tmp_path)


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.parametrize("program", ["run.py show", "tools/show.py"])
def test_the_command_draws_a_folder_of_jpegs_at_default_settings(folder, tmp_path, program):
    for name, words in {
        "sheet.png": (),
        "steps.svg": ("--explain", "--image=2"),
        "own.pdf": ("--explain", f"--image={folder}/train/<script>/00.jpg"),
    }.items():
        done = subprocess.run(
            [
                *(sys.executable, *(f"{small.ROOT}/{program}").split(), "views"),
                *("--dataset=folder", f"--data_dir={folder}", f"--output={tmp_path / name}"),
                *words,
            ],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout == f"Wrote {tmp_path / name}.\n"
    assert Image.open(tmp_path / "sheet.png").size[0] > 1000
    assert sorted(os.listdir(tmp_path)) == ["own.pdf", "sheet.png", "steps.svg"]


@pytest.mark.long
def test_the_command_draws_shapes(shapes_dir, tmp_path, capsys):
    output = tmp_path / "views.png"
    words = ("--dataset=shapes", f"--data_dir={shapes_dir}", "--image_size=32", "--nouse_blur")
    assert command(capsys, *words, f"--output={output}") == f"Wrote {output}.\n"
    first = output.read_bytes()
    command(capsys, *words, f"--output={output}")
    assert output.read_bytes() == first  # the seed is 0
    command(capsys, *words, f"--output={output}", "--explain", "--image=8")
    assert output.read_bytes() != first


RUN = (
    *small.RUN,
    "--dataset=shapes",
    "--train_split=train[:48]",
    "--mode=train",
    "--train_steps=2",
)


@pytest.mark.long
@pytest.mark.parametrize("where", ["host", "device"])
def test_drawing_views_does_not_change_a_run(shapes_dir, tmp_path, monkeypatch, capsys, where):
    weights = {}
    with small.one_block_a_group():
        for name in ("drawn", "fails"):
            if name == "fails":
                monkeypatch.setattr(
                    views_sheet, "draw", lambda *_, **__: (_ for _ in ()).throw(OSError("no\nfont"))
                )
            small.run(
                *RUN,
                f"--data_dir={shapes_dir}",
                f"--augment_on={where}",
                f"--model_dir={tmp_path / name}",
            )
            weights[name] = read_weights(str(tmp_path / name / "ckpt-2"))
    assert "views.png is not drawn: no font\n" in capsys.readouterr().err
    assert Image.open(tmp_path / "drawn" / "views.png").size[0] > 600
    assert not (tmp_path / "fails" / "views.png").exists()
    assert weights["drawn"].keys() == weights["fails"].keys()
    for key, value in weights["drawn"].items():
        np.testing.assert_array_equal(value, weights["fails"][key], err_msg=key)


@pytest.mark.long
def test_a_resumed_run_draws_only_if_the_picture_is_missing(shapes_dir, tmp_path, monkeypatch):
    draws = []
    monkeypatch.setattr(
        views_sheet, "draw", lambda *_, **__: draws.append(None) or b"picture %d" % len(draws)
    )
    words = (*RUN[:-1], f"--data_dir={shapes_dir}", f"--model_dir={tmp_path / 'run'}")
    picture = tmp_path / "run" / "views.png"
    with small.one_block_a_group():
        small.run(*words, "--train_steps=1")
        small.run(*words, "--train_steps=2")
        assert picture.read_bytes() == b"picture 1"
        picture.unlink()
        small.run(*words, "--train_steps=3")
        small.run(*words, "--train_steps=3")  # trained already
    assert picture.read_bytes() == b"picture 2" and len(draws) == 2


@pytest.mark.long
def test_views_of_a_run_have_its_settings(shapes_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    with small.one_block_a_group():
        small.run(*RUN, f"--data_dir={shapes_dir}", f"--model_dir={run_dir}")
    command(capsys, f"--model_dir={run_dir}", f"--output={tmp_path / 'same.png'}")
    assert (tmp_path / "same.png").read_bytes() == (run_dir / "views.png").read_bytes()
