"""Traces the signatures of a SavedModel: what a server such as TensorFlow Serving answers.

| signature | input | output |
|---|---|---|
| serving_default | images: uint8 (n, h, w, 3) | the answers |
| float_images | images: float32 (n, h, w, 3) in [0, 1] | the answers |
| encoded_images | image_bytes: string (n,), JPEG and PNG files | the answers |
| endpoints | images: float32 (n, s, s, 3) in [0, 1], prepared by the caller | all endpoints |

All but `endpoints` prepare the images as evaluation does. The answers are:

- embedding: float32 (n, width), the endpoint final_avg_pool,

and if the model has a supervised head:

- probabilities: float32 (n, k), in the order of the logits,
- classes: string (n, min(5, k)), the names of the most probable classes, the best first,
- scores: float32 (n, min(5, k)), the probabilities of `classes`.

`classes` and `scores` have the names and meanings of TensorFlow Serving's classification API.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_simclr.config.config import Data
from tf_simclr.data.augment import views
from tf_simclr.data.sources import image_range as ranges
from tf_simclr.data.sources.image_range import ImageRange

PREPARED = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
_BYTES = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
# A server that speaks TensorFlow Serving's REST protocol takes base64 where a name ends in _bytes.
_FILES = tf.TensorSpec((None,), tf.string, name="image_bytes")
_NUM_CLASSES = 5  # of `classes` and `scores`
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_SIZE = 26  # signature, length and type of the first chunk, width, height, bits, color

Endpoints = dict[str, tf.Tensor]


def signatures(
    inference: Callable[[tf.Tensor], Endpoints],
    *,
    image_size: int,
    class_names: Sequence[str] | None = None,
    image_range: ImageRange | None = None,
) -> dict[str, Callable]:
    """Traces the signatures.

    Args:
      inference: the traced model in inference mode. All signatures call it, so its graph is stored
        only once.
      image_size: side of the view of evaluation, in pixels.
      class_names: names of the classes, in the order of the logits. Without them, or if their
        number is not the head's, the index of a class is its name.
      image_range: values of 16-bit PNGs that become black and white.

    Returns:
      {name of the signature: concrete function}.
    """

    def answers(images: tf.Tensor) -> Endpoints:
        return _answers(inference(images), class_names)

    @tf.function(autograph=False, input_signature=[_BYTES])
    def serving_default(images):
        return answers(views.evaluation_view(images, image_size=image_size))

    @tf.function(autograph=False, input_signature=[PREPARED])
    def float_images(images):
        in_range = tf.reduce_all((images >= 0) & (images <= 1))
        message = "float_images takes values in [0, 1]; serving_default takes uint8, 0 to 255"
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message])]):
            images = images * 255
        return answers(views.evaluation_view(images, image_size=image_size))

    @tf.function(autograph=False, input_signature=[_FILES])
    def encoded_images(image_bytes):
        def view(indexed: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image = _decode(*indexed, image_range or ImageRange(0, ranges.LARGEST))
            return views.evaluation_view(image, image_size=image_size)

        images = tf.map_fn(
            view,
            (tf.range(tf.size(image_bytes)), image_bytes),
            fn_output_signature=tf.TensorSpec((image_size, image_size, 3), tf.float32),
            name=_FILES.name,  # errors of the decoders show it
        )
        return answers(images)

    @tf.function(autograph=False, input_signature=[PREPARED])
    def endpoints(images):
        return inference(images)

    functions = (serving_default, float_images, encoded_images, endpoints)
    return {f.python_function.__name__: f.get_concrete_function() for f in functions}


def _answers(endpoints: Endpoints, class_names: Sequence[str] | None) -> Endpoints:
    """Selects and names what a server answers."""
    answers = {"embedding": tf.identity(endpoints["final_avg_pool"])}
    if "logits_sup" not in endpoints:
        return answers
    logits = endpoints["logits_sup"]
    num_classes = logits.shape[-1]
    if not class_names or len(class_names) != num_classes:
        class_names = [str(index) for index in range(num_classes)]
    # The names come with the data, so they may hold characters that UTF-8 cannot encode.
    names = tf.constant([name.encode("utf-8", "backslashreplace") for name in class_names])
    probabilities = tf.nn.softmax(logits)
    scores, indices = tf.math.top_k(probabilities, min(_NUM_CLASSES, num_classes))
    return answers | {
        "probabilities": probabilities,
        "classes": tf.gather(names, indices),
        "scores": scores,
    }


def _decode(index: tf.Tensor, content: tf.Tensor, image_range: ImageRange) -> tf.Tensor:
    """Decodes a JPEG or PNG to uint8 (h, w, 3), as `image_decoding.pixels` does.

    TensorFlow cannot turn an image by its EXIF orientation.

    Args:
      index: the position of the file in the request, for the error message.
      content: the file, string ().
      image_range: values of 16-bit PNGs that become black and white.
    """
    is_jpeg = tf.io.is_jpeg(content)
    is_png = tf.strings.substr(content, 0, len(_PNG)) == _PNG
    header = tf.io.decode_raw(content, tf.uint8, fixed_length=_PNG_HEADER_SIZE)
    checked = _check(is_jpeg | is_png, index, "is neither a JPEG nor a PNG")
    with tf.control_dependencies([checked]):
        content = tf.identity(content)
    num_pixels = tf.cond(
        is_jpeg,
        lambda: _product(tf.image.extract_jpeg_shape(content)[:2]),
        lambda: _product(tf.stack([_big_endian(header[16:20]), _big_endian(header[20:24])])),
    )
    limit = Data.max_megapixels
    checked = _check(num_pixels <= limit * 1e6, index, f"has more than {limit} megapixels")
    with tf.control_dependencies([checked]):
        content = tf.identity(content)
    return tf.cond(
        is_jpeg,
        # As accurate as Pillow, which decodes the images of training.
        lambda: tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE"),
        lambda: _decode_png(content, header[24], header[25], image_range),
    )


def _check(condition: tf.Tensor, index: tf.Tensor, fault: str) -> tf.Operation:
    return tf.debugging.Assert(condition, [f"image {fault}: index in image_bytes", index])


def _product(sides: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.cast(sides, tf.float32))


def _big_endian(four_bytes: tf.Tensor) -> tf.Tensor:
    places = tf.constant([2.0**24, 2.0**16, 2.0**8, 1.0])
    return tf.reduce_sum(tf.cast(four_bytes, tf.float32) * places)


def _decode_png(
    content: tf.Tensor, bits: tf.Tensor, color_type: tf.Tensor, image_range: ImageRange
) -> tf.Tensor:
    """Decodes a PNG of any kind, composited on white.

    Args:
      content: the file, string ().
      bits: its number of bits per channel, uint8 ().
      color_type: 0 for gray images, uint8 ().
      image_range: values of 16-bit images that become black and white.
    """
    pixels = tf.cast(tf.io.decode_png(content, 4, tf.uint16), tf.float32)
    low, high = tf.unstack(
        tf.where(bits == 16, tf.constant(image_range, tf.float32), [0.0, float(ranges.LARGEST)])
    )
    colors = tf.round(tf.clip_by_value((pixels[..., :3] - low) * 255 / (high - low), 0, 255))
    # TensorFlow gives gray images of 1, 2 or 4 bits an opacity of 257 times 1, 3 or 15.
    gray_bits = tf.where(color_type == 0, tf.minimum(bits, 8), 8)
    opaque = 257 * (2 ** tf.cast(gray_bits, tf.float32) - 1)
    opacity = tf.minimum(pixels[..., 3:] / opaque, 1)
    return tf.cast(tf.round(colors * opacity + 255 * (1 - opacity)), tf.uint8)
