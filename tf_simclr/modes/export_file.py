"""Writes a trained model in the format of another library, and checks what it has written."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr import files
from tf_simclr.checkpoints import (
    about_file,
    exports,
    loading_code,
    model_card,
    new_directory,
    recognition,
    weights_file,
)
from tf_simclr.checkpoints.exports import FORMATS, Export
from tf_simclr.checkpoints.model_card import Card
from tf_simclr.checkpoints.recognized_model import RecognizedModel
from tf_simclr.config import Config, saved_settings
from tf_simclr.errors import ConfigError, one_line

# Largest difference of an embedding, relative to the largest value, that rounding explains. With
# int8 it depends on the network, so it is only reported.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2}


class Job(NamedTuple):
    """What to export, and how.

    Attributes:
      checkpoint: the path of the weights.
      recognized: the model.
      recipe: the settings of the run that has trained it; None if they are not recorded.
      format: a key of FORMATS.
      output: the new directory.
      embedding_only: leave the heads out of a SavedModel.
      quantize: one of `exports.QUANTIZATIONS`, for TFLite.
      checked_images: images whose embeddings are compared, float32 (n, s, s, 3) in [0, 1]; None to
        compare nothing.
      representative_images: images for int8; None for the other quantizations.
    """

    checkpoint: str
    recognized: RecognizedModel
    recipe: Config | None
    format: str
    output: str
    embedding_only: bool
    quantize: str
    checked_images: np.ndarray | None
    representative_images: np.ndarray | None


class Exported(NamedTuple):
    """Describes what was written.

    Attributes:
      path: what --checkpoint takes.
      num_bytes: size of the export, without card and settings.
      check: how far its embeddings are from the model's; "" if nothing was compared.
    """

    path: str
    num_bytes: int
    check: str


def run(job: Job) -> Exported:
    """Writes the export, about.json, config.json and MODEL_CARD.md. All appear at once.

    Raises:
      ConfigError: a package is missing, the files cannot be written, or the export's embeddings
        differ from the model's. Nothing is written then.
    """
    with new_directory.written(job.output) as unfinished:
        num_bytes, check = _write(job, unfinished)
    path = os.path.join(job.output, FORMATS[job.format].file).rstrip("/")
    return Exported(path, num_bytes, check)


def _write(job: Job, directory: str) -> tuple[int, str]:
    """Writes all files. Returns the size of the export in bytes, and the result of the check."""
    recognized = job.recognized
    about = about_file.content(
        recognized.config,
        recognized.about.class_names,
        source=None if job.recipe else recognized.about.source or recognized.stored.kind,
    )
    export = Export(
        recognized.model, about, job.embedding_only, job.quantize, job.representative_images
    )
    try:
        FORMATS[job.format].write(export, directory)
    except (ConfigError, tf.errors.OpError, OSError):
        raise
    except Exception as error:  # the converters raise errors of many types
        raise ConfigError(
            f"format={job.format} cannot express {job.checkpoint!r} ({one_line(error)}): use "
            "another format"
        ) from error
    num_bytes = _size(directory)
    check = "" if job.checked_images is None else _check(job, directory, job.checked_images)
    about_file.write_about(directory, about)
    config = job.recipe or recognized.config
    if _differs(job):
        config = config.replace(**_network(recognized.config))
    settings_text = saved_settings.to_json(config)
    files.write_text(os.path.join(directory, saved_settings.JSON), settings_text)
    model_card.write(directory, _card(job, about, check))
    return num_bytes, check


def _check(job: Job, directory: str, images: np.ndarray) -> str:
    """Compares the embeddings of the export and of the model.

    Returns:
      The largest difference, in words.

    Raises:
      ConfigError: the difference is larger than rounding explains.
    """
    embed = FORMATS[job.format].load(directory)
    expected = job.recognized.model(images, training=False)[exports.EMBEDDING].numpy()
    embeddings = np.asarray(embed(images), np.float32)
    largest = float(np.abs(embeddings - expected).max())
    relative = largest / max(float(np.abs(expected).max()), 1e-30)
    text = (
        f"Checked on {len(images)} images: a value of an embedding differs from the model's by at "
        f"most {largest:.2g} ({relative:.2g} of the largest value), and the smallest cosine "
        f"similarity is {_smallest_cosine(embeddings, expected):.6f}."
    )
    if not relative <= TOLERANCES.get(job.quantize, np.inf):
        raise ConfigError(
            f"format={job.format} does not give the embeddings of {job.checkpoint!r}, so nothing "
            f"was written. {text}"
        )
    return text


def _smallest_cosine(first: np.ndarray, second: np.ndarray) -> float:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.min(np.sum(first * second, axis=1) / np.maximum(norms, 1e-30)))


def _card(job: Job, about: Mapping[str, Any], check: str) -> Card:
    """Returns the content of MODEL_CARD.md."""
    recognized = job.recognized
    outputs = model_card.outputs_of(recognized.model)
    loading = FORMATS[job.format].loading
    if job.embedding_only:
        outputs = {exports.EMBEDDING: outputs[exports.EMBEDDING]}
        loading = loading_code.EMBEDDING_ONLY
    step, results = None, {}
    settings_file = saved_settings.find_beside(job.checkpoint)
    if job.recipe and settings_file and not _differs(job):
        step = weights_file.step_of(weights_file.find(job.checkpoint))
        results = model_card.results_of(os.path.dirname(settings_file), step)
    return Card(
        network=recognition.describe_network(recognized.stored.shapes, recognized.config),
        weights=job.checkpoint,
        step=step,
        recipe=job.recipe,
        results=results,
        evaluation=None,  # result.json does not name its data
        about=about,
        outputs=outputs,
        loading=loading,
        check=check,
        notes=recognized.stored.notes,
    )


def _differs(job: Job) -> bool:
    """Returns whether flags make another model than the one that the run has evaluated."""
    recipe = job.recipe
    return recipe is not None and _network(recipe) != _network(job.recognized.config)


def _network(config: Config) -> dict[str, Any]:
    """Returns the settings of the network and of its images."""
    return dataclasses.asdict(config.model) | {"image_size": config.data.image_size}


def _size(directory: str) -> int:
    """Returns the size of all files in a directory, in bytes."""
    return sum(
        tf.io.gfile.stat(os.path.join(folder, name)).length
        for folder, _, names in tf.io.gfile.walk(directory)
        for name in names
    )
