"""Makes 200 images in folders, a tar, a TFRecord and a Parquet file, with bad ones among them."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import tensorflow as tf
from PIL import Image

import bad_images

# Names as an attacker would choose them. They must stay data.
HOSTILE = ("../escaped.jpg", "/absolute.jpg", "two\nlines.jpg", "<script>.jpg", "\x1b[31mred.jpg")
NUM_FILES, NUM_MEMBERS, NUM_RECORDS, NUM_ROWS = 100, 35, 30, 30  # and HOSTILE: 200 good images


def jpeg(index: int) -> bytes:
    """Encodes an image of few colors in large areas, another one for each index."""
    colors = np.random.default_rng(index).integers(0, 256, (6, 8, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(colors.repeat(40, 0).repeat(40, 1)).save(content, "JPEG", quality=90)
    return content.getvalue()


def example(**values: bytes | str | int) -> bytes:
    """Serializes a tf.train.Example."""
    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        if isinstance(value, int)
        else tf.train.Feature(
            bytes_list=tf.train.BytesList(
                value=[value.encode() if isinstance(value, str) else value]
            )
        )
        for name, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_tar(path: Path, files: dict[str, bytes], *, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_tfrecord(path: Path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def write_parquet(path: Path, images: list, names: list):
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "key": names}), path)


def make(root: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Writes photos/, a.tar, b.tfrecord and c.parquet.

    Returns:
      {name: encoded image} of the good ones, and {name: reason} of the bad ones. The names are
      those that a job in the folder `root` gives them.
    """
    images = iter(map(jpeg, range(1000)))
    good, bad = {}, {}
    for index in range(NUM_FILES):
        path = Path("photos", f"d{index % 3}", f"{index:03}.jpg")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(good.setdefault(str(path), next(images)))
    for kind in bad_images.KINDS:
        path = Path("photos", "d0", f"{kind.__name__}.jpg")
        (root / path).write_bytes(kind())
        bad[str(path)] = "damaged" if kind in DAMAGED else "not a picture"
    bad["photos/d0/jpeg_that_claims_to_be_huge.jpg"] = "larger than 256 megapixels"

    names = [*HOSTILE, *(f"{index}.jpg" for index in range(NUM_MEMBERS))]
    members = {name: good.setdefault(f"a.tar/{name}", next(images)) for name in names}
    # A name that is not UTF-8 cannot be written by this function; shard_readers has a test.
    write_tar(root / "a.tar", {**members, "0.json": b"{}", "half.jpg": jpeg(0)[:3000]})
    bad["a.tar/half.jpg"] = "damaged"

    records = [
        example(image=good.setdefault(f"b.tfrecord/k{i}", next(images)), key=f"k{i}")
        for i in range(NUM_RECORDS)
    ]
    write_tfrecord(root / "b.tfrecord", [*records, b"no example", example(key="none")])
    bad["b.tfrecord/30"] = "not a tf.train.Example"
    bad["b.tfrecord/none"] = "without the feature of --image_key"

    rows = [good.setdefault(f"c.parquet/r{i}", next(images)) for i in range(NUM_ROWS)]
    structs = [{"bytes": row, "path": "ignored"} for row in [*rows, b"no image"]] + [None]
    write_parquet(root / "c.parquet", structs, [f"r{i}" for i in range(NUM_ROWS + 2)])
    bad["c.parquet/r30"] = "not a picture"
    bad["c.parquet/r31"] = "without bytes in the column of --image_key"
    return good, bad


DAMAGED = (bad_images.truncated_jpeg, bad_images.png_with_wrong_checksum)
INPUTS = ("photos/**/*.jpg", "a.tar", "b.tfrecord", "c.parquet")


def arguments(checkpoint, output, *more) -> list[str]:
    """Returns the words after `tf-simclr` that embed them, from their folder."""
    inputs = [f"--input={text}" for text in INPUTS]
    words = [f"--checkpoint={checkpoint}", f"--output={output}", "--name_key=key"]
    return ["embed", *inputs, *words, *more]
