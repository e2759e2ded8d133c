"""Embeds encoded images: threads decode them, and one model computes batches of a fixed shape."""

import collections
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment import views
from tf_simclr.data.pipeline import groups
from tf_simclr.data.sources import image_decoding, image_files, image_range
from tf_simclr.embed import shard_readers, storage
from tf_simclr.embed.shard_files import Batch, LeftOut
from tf_simclr.embed.shard_readers import Item
from tf_simclr.errors import ConfigError
from tf_simclr.modes import trained_model
from tf_simclr.modes.predict import EMBEDDING

_MAX_LEFT_OUT = 4096  # names in a batch
_MAX_WAITING = 2**28  # bytes of encoded images that wait for a thread


class ModelSettings(NamedTuple):
    """What a worker needs to open the model.

    Attributes:
      config: checked settings of mode=predict; training.checkpoint names the model.
      found: what `trained_model.find` has found there.
      fixed: names of the settings that the weights must not change.
      fingerprint: changes with the weights.
    """

    config: Config
    found: str
    fixed: frozenset[str]
    fingerprint: str


_opened: list[tuple[ModelSettings, "Encoder"]] = []
_opening = threading.Lock()


def open_shared(settings: ModelSettings) -> "Encoder":
    """Opens a model once for all threads of a process, and keeps the last one.

    Raises:
      ConfigError: the weights are damaged, or are not those of a network.
    """
    with _opening:
        if not _opened or _opened[0][0] != settings:
            _opened[:] = []  # before the next one takes memory
            _opened[:] = [(settings, Encoder(settings))]
        return _opened[0][1]


class Encoder:
    """A model with the threads that decode its images. Several threads may share one.

    Attributes:
      image_size: side of the images, in pixels.
      width: width of an embedding.
    """

    def __init__(self, settings: ModelSettings):
        """Opens the model.

        Raises:
          ConfigError: the weights are damaged, or are not those of a network.
        """
        config = settings.config
        assert config.training.checkpoint, "the settings are checked"
        model = trained_model.open_model(
            config, config.training.checkpoint, settings.found, fixed=settings.fixed
        )
        width = model.width(EMBEDDING)
        assert width is not None, "each model has embeddings"
        self.image_size, self.width = model.image_size, width
        self._batch_size = config.training.eval_batch_size
        self._range = image_range.parse(config.data.image_range) or model.image_range
        self._limits = image_files.Limits(config.data.max_megapixels, self._range is not None)
        self._threads = ThreadPoolExecutor(groups.num_cores())
        self._lock = threading.Lock()
        shape = (self._batch_size, self.image_size, self.image_size, 3)
        self._compute = tf.function(
            lambda images: model.endpoints(images)[EMBEDDING],
            input_signature=[tf.TensorSpec(shape, tf.float32)],
            autograph=False,
        )
        self._view = tf.function(
            lambda image: views.evaluation_view(image, image_size=self.image_size),
            input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)],
            autograph=False,
        )

    def embed(self, items: Iterable[Item]) -> Iterator[Batch]:
        """Yields the embeddings of images in their order, and those that are left out."""
        good: list[tuple[Item, np.ndarray]] = []
        left_out: list[LeftOut] = []
        for item, view in self._decode(items):
            if isinstance(view, str):
                left_out.append(LeftOut(item.name, item.position, view))
            else:
                good.append((item, view))
            if len(good) == self._batch_size or len(left_out) == _MAX_LEFT_OUT:
                yield self._batch(good, left_out)
                good, left_out = [], []
        if good or left_out:
            yield self._batch(good, left_out)

    def _batch(self, good: list[tuple[Item, np.ndarray]], left_out: list[LeftOut]) -> Batch:
        images = np.zeros((self._batch_size, self.image_size, self.image_size, 3), np.float32)
        for row, (_, view) in enumerate(good):
            images[row] = view
        if good:
            with self._lock:  # batches of several threads would need memory at once
                embeddings = self._compute(images).numpy()[: len(good)].astype(np.float32)
        else:
            embeddings = np.zeros((0, self.width), np.float32)
        names = [item.name for item, _ in good]
        return Batch(names, [item.position for item, _ in good], embeddings, left_out)

    def _decode(self, items: Iterable[Item]) -> Iterator[tuple[Item, np.ndarray | str]]:
        """Yields each item, without its content, and its view or why it has none."""
        waiting: collections.deque[tuple[Item, Future, int]] = collections.deque()
        held = 0
        for item in items:
            size = len(item.content) if isinstance(item.content, bytes) else 0
            while waiting and (len(waiting) >= 2 * self._batch_size or held + size > _MAX_WAITING):
                first, future, first_size = waiting.popleft()
                held -= first_size
                yield first, future.result()
            future = self._threads.submit(self.view_or_complaint, item)
            waiting.append((item._replace(content=None), future, size))
            held += size
        for first, future, _ in waiting:
            yield first, future.result()

    def view_or_complaint(self, item: Item) -> np.ndarray | str:
        """Decodes an image.

        Returns:
          The view, float32 (s, s, 3) in [0, 1], or why there is none: a fixed text for each reason.

        Raises:
          OSError: the storage fails.
        """
        if item.content is None:
            return item.complaint or image_files.NOT_READABLE
        content = item.content
        if isinstance(content, str):
            try:
                loaded = storage.read_limited(content, shard_readers.MAX_CONTENT)
            except (FileNotFoundError, PermissionError, IsADirectoryError):
                return image_files.NOT_READABLE
            if loaded is None:
                return shard_readers.TOO_LARGE
            content = loaded
        suffix = os.path.splitext(item.name)[1]
        complaint = image_files.complaint_about(content, suffix, self._limits)
        if complaint:
            return complaint
        try:
            pixels = image_decoding.pixels(
                content, self._range, max_megapixels=self._limits.max_megapixels
            )
        except Exception:  # Pillow's decoders can raise any exception
            return image_decoding.DAMAGED
        with tf.device("CPU:0"):
            return self._view(pixels).numpy()

    def embed_file(self, path: str) -> np.ndarray:
        """Embeds one image file to float32 (width,).

        Raises:
          ConfigError: it cannot be read or decoded.
        """
        item = Item(path, 0, path)
        view = self.view_or_complaint(item)
        if isinstance(view, str):
            raise ConfigError(f"query {path!r} cannot be used ({view}): give another image")
        [embedding] = self._batch([(item, view)], []).embeddings
        return embedding
