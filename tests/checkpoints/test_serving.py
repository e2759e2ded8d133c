"""The signatures of a SavedModel: they answer as --mode=predict does, also over HTTP."""

import base64
import contextlib
import io
import json
import struct
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import rest_server
from tf_simclr.checkpoints.formats.tensorflow import saved_model, serving
from tf_simclr.data.augment import views
from tf_simclr.data.sources import image_decoding
from tf_simclr.data.sources.image_range import ImageRange

SIZE = 40  # above 32, so that evaluation crops
NAMES = ["cat", "dog", "ñandú", "elk", "eel", "ant"]
ABOUT = {"class_names": NAMES, "preparation": {"image_range": [0, 4095]}}
ANSWERS = {"embedding", "probabilities", "classes", "scores"}


def picture(height, width, channels=3, seed=0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, channels), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def twelve_bits() -> bytes:
    values = np.linspace(0, 4095, 50 * 60).reshape(50, 60).astype(np.uint16)
    return encoded(Image.fromarray(values), "PNG")


def few_bits(bits: int) -> bytes:
    """A gray PNG of 1, 2 or 4 bits, without Pillow, which does not write all of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    values = np.asarray(picture(24, 32).convert("L")) >> (8 - bits)
    rows = np.packbits(((values[..., None] >> np.arange(bits)[::-1]) & 1).reshape(24, -1), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 24, bits, 0, 0, 0, 0))
    return serving._PNG + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


FILES = {
    "jpeg": encoded(picture(120, 251), "JPEG"),
    "progressive jpeg": encoded(picture(90, 61), "JPEG", progressive=True, subsampling=2),
    "gray jpeg": encoded(picture(50, 60).convert("L"), "JPEG"),
    "png": encoded(picture(33, 44), "PNG"),
    "transparent png": encoded(picture(60, 70, 4), "PNG"),
    "gray png with alpha": encoded(picture(30, 40).convert("LA"), "PNG"),
    "palette png": encoded(picture(50, 70).convert("P"), "PNG"),
    "palette with a transparent color": encoded(
        picture(50, 70).convert("P"), "PNG", transparency=3
    ),
    "1 bit": few_bits(1),
    "2 bits": few_bits(2),
    "4 bits": few_bits(4),
    "12 bits in 16": twelve_bits(),
}


@pytest.fixture(scope="module")
def model(short_model, randomize):
    created = short_model(num_classes=len(NAMES), image_size=SIZE)
    randomize(created)
    return created


@pytest.fixture(scope="module")
def path(model, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("served")
    return saved_model.export(model, str(folder), 7, keep=1, about=ABOUT)


@pytest.fixture(scope="module")
def served(path):
    return tf.saved_model.load(path).signatures


def expected_answers(model, pixels: list[np.ndarray]) -> dict[str, np.ndarray]:
    """What evaluation computes for images uint8 (h, w, 3)."""
    prepared = [views.evaluation_view(tf.constant(image), image_size=SIZE) for image in pixels]
    endpoints = model(tf.stack(prepared), training=False)
    probabilities = tf.nn.softmax(endpoints["logits_sup"]).numpy()
    best = np.argsort(-probabilities, axis=1)[:, :5]
    return {
        "embedding": endpoints["final_avg_pool"].numpy(),
        "probabilities": probabilities,
        "classes": np.array(NAMES)[best],
        "scores": np.take_along_axis(probabilities, best, axis=1),
    }


def assert_answers(found: dict, expected: dict, tolerance=1e-4):
    assert set(found) == set(expected)
    for name in set(expected) - {"classes"}:
        np.testing.assert_allclose(found[name], expected[name], tolerance, tolerance, err_msg=name)
    if "classes" in expected:
        classes = [[name.decode() for name in row] for row in np.asarray(found["classes"])]
        np.testing.assert_array_equal(classes, expected["classes"])


@pytest.mark.parametrize("size", [(40, 40), (75, 130), (131, 20)])
def test_serving_default_prepares_as_evaluation_does(model, served, size):
    pixels = [np.asarray(picture(*size, seed=seed)) for seed in range(3)]
    found = served["serving_default"](images=tf.constant(np.stack(pixels)))
    expected = expected_answers(model, pixels)
    assert np.ptp(expected["embedding"], axis=0).max() > 0.1, "the model must tell images apart"
    assert_answers(found, expected)


def test_float_images_are_bytes_over_255(model, served):
    pixels = [np.asarray(picture(75, 50, seed=seed)) for seed in range(2)]
    images = np.stack(pixels).astype(np.float32) / 255
    assert_answers(
        served["float_images"](images=tf.constant(images)), expected_answers(model, pixels)
    )


@pytest.mark.parametrize("value", [-0.1, 1.5, 255, np.nan])
def test_float_images_outside_the_range_are_an_error(served, value):
    images = np.full((1, 40, 40, 3), value, np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"takes values in \[0, 1\]"):
        served["float_images"](images=tf.constant(images))


def test_encoded_images_of_all_kinds_in_one_request(model, served):
    """They are decoded as in training, whatever their size."""
    pixels = [image_decoding.pixels(file, ImageRange(0, 4095)) for file in FILES.values()]
    found = served["encoded_images"](image_bytes=tf.constant(list(FILES.values())))
    assert_answers(found, expected_answers(model, pixels))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("image_range", [ImageRange(0, 4095), ImageRange(100, 60000)])
def test_decodes_as_in_training(name, image_range):
    """Within one level of 255."""
    found = serving._decode(tf.constant(0), tf.constant(FILES[name]), image_range)
    expected = image_decoding.pixels(FILES[name], image_range)
    np.testing.assert_allclose(np.int32(found), np.int32(expected), atol=1)
    assert np.mean(found != expected) < 0.01


def claims_huge(file: bytes, width_at: int, height_at: int, bytes_each: int) -> bytes:
    changed = bytearray(file)
    for position in (width_at, height_at):
        changed[position : position + bytes_each] = (60000).to_bytes(bytes_each, "big")
    return bytes(changed)


SIDES_OF_JPEG = FILES["jpeg"].find(b"\xff\xc0") + 5
BROKEN = {
    "text": (b"hello", "neither a JPEG nor a PNG"),
    "empty": (b"", "neither a JPEG nor a PNG"),
    "gif": (encoded(picture(9, 9), "GIF"), "neither a JPEG nor a PNG"),
    "start of a jpeg": (b"\xff\xd8\xff", "Invalid JPEG"),
    "start of a png": (b"\x89PNG\r\n\x1a\n", "Invalid PNG"),
    "half a jpeg": (FILES["jpeg"][: len(FILES["jpeg"]) // 2], "Invalid JPEG"),
    "half a png": (FILES["png"][: len(FILES["png"]) // 2], "Invalid PNG"),
    "huge png": (claims_huge(FILES["png"], 16, 20, 4), "more than 256 megapixels"),
    "huge jpeg": (
        claims_huge(FILES["jpeg"], SIDES_OF_JPEG, SIDES_OF_JPEG + 2, 2),
        "more than 256 megapixels",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_an_error_that_says_what_is_wrong(served, name):
    file, fault = BROKEN[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=fault) as error:
        served["encoded_images"](image_bytes=tf.constant([FILES["png"], file]))
    assert "image_bytes" in str(error.value)
    if "index in" in str(error.value):
        assert "index in image_bytes] [1]" in str(error.value)


def test_endpoints_takes_prepared_images(model, served):
    images = np.random.default_rng(0).uniform(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    found, expected = served["endpoints"](images=tf.constant(images)), model(images, training=False)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_small_images_are_not_cropped(short_model, randomize, tmp_path):
    """A model for at most 32 pixels sees the whole image. Without a head there are no classes."""
    model = short_model(num_classes=None)
    randomize(model)
    path = saved_model.export(model, str(tmp_path), 1, keep=1)
    image = np.asarray(picture(32, 32))
    found = tf.saved_model.load(path).signatures["serving_default"](images=image[None])
    assert set(found) == {"embedding"}
    expected = model(image[None] / np.float32(255), training=False)["final_avg_pool"]
    np.testing.assert_allclose(found["embedding"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("names", [None, ["too", "few"]])
def test_without_names_the_classes_are_indices(short_model, tmp_path, names):
    model = short_model(num_classes=4)
    path = saved_model.export(model, str(tmp_path), 1, keep=1, about={"class_names": names})
    found = tf.saved_model.load(path).signatures["serving_default"](
        images=np.asarray(picture(20, 20))[None]
    )
    order = np.argsort(-np.asarray(found["probabilities"][0]), kind="stable")
    assert [name.decode() for name in found["classes"].numpy()[0]] == [str(i) for i in order]
    assert found["scores"].shape == (1, 4), "five classes at most"


def test_class_names_that_utf8_cannot_encode(short_model, tmp_path):
    about = {"class_names": ["a\ud800", "b"]}
    path = saved_model.export(short_model(num_classes=2), str(tmp_path), 1, keep=1, about=about)
    images = np.zeros((1, 9, 9, 3), np.uint8)
    classes = tf.saved_model.load(path).signatures["serving_default"](images=images)["classes"]
    assert set(classes.numpy()[0]) == {rb"a\ud800", b"b"}


@pytest.fixture(scope="module")
def post(served):
    """Function: request -> (HTTP status, response) of the stand-in server."""

    def send(request: dict) -> tuple[int, dict]:
        body = json.dumps(request).encode()
        with contextlib.ExitStack() as stack:
            try:
                response = stack.enter_context(urllib.request.urlopen(url, body, timeout=60))
            except urllib.error.HTTPError as error:
                response = stack.enter_context(error)
            return response.status, json.loads(response.read())

    with rest_server.serve(served) as address:
        url = address + rest_server.PATH
        yield send


def b64(file: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(file).decode()}


def test_http_with_rows_of_files(model, post):
    files = [FILES["jpeg"], FILES["transparent png"]]
    expected = expected_answers(model, [image_decoding.pixels(file) for file in files])
    for rows in ([{"image_bytes": b64(f)} for f in files], [b64(f) for f in files]):
        status, response = post({"signature_name": "encoded_images", "instances": rows})
        assert status == 200 and len(response["predictions"]) == 2
        for i, row in enumerate(response["predictions"]):
            assert set(row) == ANSWERS
            assert row["classes"] == expected["classes"][i].tolist()
            for name in ANSWERS - {"classes"}:
                np.testing.assert_allclose(row[name], expected[name][i], rtol=1e-4, atol=1e-4)


def test_http_with_columns_of_pixels(model, post):
    image = np.asarray(picture(44, 60))
    status, response = post({"inputs": {"images": [image.tolist()]}})
    assert status == 200
    expected = expected_answers(model, [image])
    assert response["outputs"]["classes"] == expected["classes"].tolist()
    np.testing.assert_allclose(
        response["outputs"]["embedding"], expected["embedding"], rtol=1e-4, atol=1e-4
    )


def test_http_answers_a_broken_file_with_its_fault(post):
    rows = [b64(b"hello")]
    status, response = post({"signature_name": "encoded_images", "instances": rows})
    assert status == 400 and "neither a JPEG nor a PNG" in response["error"]
