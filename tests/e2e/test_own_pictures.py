"""Your own pictures: pretrain on a folder, fine-tune on a labeled one, export, classify."""

import csv
import io
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import hostile_pictures
import small
from tf_simclr.cli import summary
from tf_simclr.data import errors
from tf_simclr.data.augment import views
from tf_simclr.data.sources import folder, image_files
from tf_simclr.data.sources.tfds_source import open_source
from tf_simclr.errors import ConfigError
from tf_simclr.modes import pictures as picture_batches
from tf_simclr.modes import tables

pytestmark = pytest.mark.long

TINY = (
    *small.RUN,
    "--dataset=folder",
    "--train_batch_size=8",
    "--train_steps=1",
)
CLASSES = ("circle", "cross")
BATCH = "--eval_batch_size=8"


def run(*arguments) -> dict:
    results = small.run(*arguments)
    assert summary.format_results(small.parse(*arguments), results)
    return results


@pytest.fixture(scope="module")
def pictures(shapes_dir, tmp_path_factory):
    """Folder with pile/ (unlabelled, some no pictures) and sorted/{train,test}/{2 classes}/."""
    root = tmp_path_factory.mktemp("pictures")
    source = open_source("shapes", str(shapes_dir))
    for number, example in enumerate(source.examples("train[:48]")):
        image = Image.fromarray(example["image"].numpy())
        content = hostile_pictures.saved(image, format="PNG" if number % 2 else "WEBP")
        folder = f"sorted/{'test' if number >= 36 else 'train'}/{CLASSES[number % 2]}"
        hostile_pictures.write(root / "pile" / str(number % 3), {f"{number:02}.img": content})
        if number >= 24:
            hostile_pictures.write(root / folder, {f"{number:02}.img": content})
    broken = hostile_pictures.broken()
    hostile_pictures.write(
        root / "pile",
        {
            "half.jpg": broken["half.jpg"],
            "notes.txt": b"none",
            'a, "b"\n.png': content,
        },
    )
    return root


@pytest.fixture(scope="module")
def finetuned(pictures, tmp_path_factory) -> str:
    """model_dir of a run fine-tuned from one that was pretrained on the pile."""
    runs = tmp_path_factory.mktemp("runs")
    pretrained, model_dir = str(runs / "pretrained"), str(runs / "finetuned")
    results = run(
        *TINY,
        f"--data_dir={pictures / 'pile'}",
        "--unlabelled",
        f"--model_dir={pretrained}",
        "--mode=train_then_eval",
    )
    assert os.path.isdir(results["saved_model"])
    results = run(
        *TINY,
        f"--data_dir={pictures / 'sorted'}",
        "--train_mode=finetune",
        "--learning_rate=3",
        "--eval_split=test",
        f"--checkpoint={pretrained}",
        f"--model_dir={model_dir}",
        BATCH,
        "--zero_init_logits_layer",
        "--mode=train_then_eval",
        "--optimizer=momentum",
    )
    assert 12 * results["eval/label_top_1_accuracy"] == pytest.approx(
        round(12 * results["eval/label_top_1_accuracy"])
    )
    return model_dir


def expected(pictures, saved_model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{file: class probabilities, embedding}, one file after the other."""
    model = tf.saved_model.load(saved_model)
    found = {}
    for parent, _, names in os.walk(pictures / "pile"):
        for name in names:
            if name in ("half.jpg", "notes.txt"):
                continue
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                image = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
            outputs = model(image[None].astype(np.float32) / 255, trainable=False)
            logits = outputs["logits_sup"].numpy()[0].astype(np.float64)
            embedding = outputs["final_avg_pool"].numpy()[0]
            found[path] = np.exp(logits) / np.exp(logits).sum(), embedding
    return found


def read_csv(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("which", ["saved_model/1", "", "ckpt-1"])
def test_class_probabilities(pictures, finetuned, tmp_path, which, capsys):
    output = tmp_path / "out.csv"
    found = run(
        "--mode=predict",
        f"--checkpoint={finetuned}/{which}".rstrip("/"),
        BATCH,
        f"--images={pictures / 'pile'}",
        f"--output={output}",
    )
    wanted = expected(pictures, f"{finetuned}/saved_model/1")
    assert found == {"path": str(output), "written": len(wanted), "left_out": 2}
    assert "2 of 51 files cannot be decoded and were left out (1 damaged, 1 not a picture): " in (
        capsys.readouterr().err
    )
    rows = read_csv(output)
    assert [row["file"] for row in rows] == [p for p in sorted_walk(pictures) if p in wanted]
    for row in rows:
        assert list(row) == ["file", "prediction", "probability", *CLASSES]
        probabilities = wanted[row["file"]][0]
        assert [float(row[name]) for name in CLASSES] == pytest.approx(probabilities, rel=1e-3)
        assert row["prediction"] == CLASSES[int(probabilities.argmax())]
        assert float(row["probability"]) == pytest.approx(probabilities.max(), rel=1e-3)
    assert os.listdir(tmp_path) == ["out.csv"]


def sorted_walk(pictures) -> list[str]:
    from tf_simclr.data.sources import file_tree

    return list(file_tree.walk(str(pictures / "pile")))


def test_embeddings_and_the_files_they_are_of(pictures, finetuned, tmp_path):
    output = tmp_path / "out.npy"
    run(
        "--mode=predict",
        f"--checkpoint={finetuned}/saved_model/1",
        BATCH,
        "--cpu_replicas=1",
        f"--images={pictures / 'pile' / '**' / '*.*'}",
        f"--output={output}",
    )
    found = np.load(output)
    files = [row["file"] for row in read_csv(f"{output}.files.csv")]
    wanted = expected(pictures, f"{finetuned}/saved_model/1")
    assert sorted(files) == sorted(wanted) and found.dtype == np.float32
    for file, row in zip(files, found, strict=True):
        np.testing.assert_allclose(row, wanted[file][1], rtol=1e-3, atol=1e-5)
    assert sorted(os.listdir(tmp_path)) == ["out.npy", "out.npy.files.csv"]


def test_parquet_holds_what_csv_holds(pictures, finetuned, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    common = (
        "--mode=predict",
        f"--checkpoint={finetuned}/saved_model/1",
        BATCH,
        f"--images={pictures / 'pile' / '0'}",
    )
    for suffix in ("csv", "parquet"):
        run(*common, f"--output={tmp_path / 'out'}.{suffix}")
    table = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    rows = read_csv(tmp_path / "out.csv")
    assert list(table) == list(rows[0]) and len(rows) == 16
    for name, column in table.items():
        texts = [row[name] for row in rows]
        if name in ("file", "prediction"):
            assert column == texts
        else:
            assert column == pytest.approx([float(text) for text in texts], rel=1e-5)


def test_about_is_told_by_the_run_and_its_export(finetuned):
    preparation = views.evaluation_preparation(32)
    assert preparation["crop_proportion"] is None and preparation["image_size"] == 32
    network = json.load(open(f"{finetuned}/config.json"))["settings"]["Model"]
    about = {
        "image_size": 32,
        "class_names": list(CLASSES),
        "preparation": preparation,
        "network": network,
        "source": None,
    }
    for path in ("about.json", "saved_model/1/assets/about.json"):
        with open(f"{finetuned}/{path}") as file:
            assert json.load(file) == about


def test_a_later_start_looks_at_no_file_again(pictures, finetuned, monkeypatch):
    assert os.path.isfile(f"{finetuned}/pictures.jsonl")
    monkeypatch.setattr(image_files, "inspect", None)
    source = folder.open_folder(str(pictures / "sorted"), unlabelled=False, model_dir=finetuned)
    assert source.num_examples("train") == 12


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--images={pictures}/none/*"], "matches no file"),
        (
            ["--images={pictures}/pile", "--checkpoint=nowhere"],
            "checkpoint 'nowhere' does not exist",
        ),
        (["--images={pictures}/pile", "--output={tmp}/no/such/out.csv"], "cannot be written"),
        (["--images={pictures}/pile", "--checkpoint={pretrained}"], "has no classes: fine-tune it"),
        (["--images={pictures}/pile/notes.txt"], "not one of 1 files is an image"),
        (["--images={pictures}/pile", "--strict_data"], "half.jpg' cannot be decoded (damaged);"),
    ],
)
def test_what_is_refused_leaves_nothing(pictures, finetuned, tmp_path, arguments, message):
    pretrained = finetuned.replace("finetuned", "pretrained")
    filled = [a.format(pictures=pictures, tmp=tmp_path, pretrained=pretrained) for a in arguments]
    with pytest.raises((ConfigError, errors.UndecodableError)) as error:
        run(
            "--mode=predict",
            f"--checkpoint={finetuned}",
            BATCH,
            f"--output={tmp_path}/out.csv",
            *filled,
        )
    assert message in str(error.value) and "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".parquet"])
def test_an_interrupted_table_leaves_the_one_before(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = str(tmp_path / f"out{suffix}")
    names = None if suffix == ".npy" else ["a", "b"]
    with tables.open_table(path, names, 2) as table:
        table.write(["x"], np.array([[0.25, 0.75]], np.float32))
        table.write([], np.zeros((0, 2), np.float32))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert f"out{suffix}" in before
    with pytest.raises(KeyboardInterrupt), tables.open_table(path, names, 2) as table:
        table.write(["y"], np.array([[0.5, 0.5]], np.float32))
        raise KeyboardInterrupt
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_two_replicas_say_the_same(pictures, replicas):
    """Batches are divided among the replicas and put together again in order."""
    paths = sorted_walk(pictures)[:11]
    found = []
    for number in (1, 2):
        strategy = replicas(number)
        batches = picture_batches.compute_batches(
            strategy,
            lambda images: tf.reduce_mean(images, axis=[1, 2]),
            paths,
            picture_batches.PictureReader(None, 256),
            image_size=32,
            batch_size=4,
        )
        files, good, values = zip(*batches, strict=True)
        assert sum(files, []) == paths
        found.append((np.concatenate(good), np.concatenate(values)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)
