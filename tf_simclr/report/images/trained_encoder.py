"""Opens the encoder of a run, and the encoder that its training started from."""

import dataclasses
import os
from collections.abc import Collection

from tf_simclr import files
from tf_simclr.checkpoints import recognized_model, weights, weights_file
from tf_simclr.checkpoints.recognized_model import RecognizedModel
from tf_simclr.config import Config, saved_settings
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.from_config import make_model
from tf_simclr.models.simclr import SimCLR

TRIES = 3  # a run deletes old checkpoints while it writes new ones


@dataclasses.dataclass(frozen=True)
class TrainedEncoder:
    """The encoder of a run.

    Attributes:
      model: the trained model.
      config: the settings, with those of the network.
      checkpoint: the path of its weights.
      class_names: names of the supervised head's classes; None if there is no head, or if they are
        not on record.
      before: the model before training; None if it cannot be made.
      notes: why there is no model before training.
    """

    model: SimCLR
    config: Config
    checkpoint: str
    class_names: tuple[str, ...] | None
    before: SimCLR | None
    notes: tuple[str, ...] = ()


def check(path: str) -> str:
    """Finds the weights that a path names, before anything slow.

    Raises:
      ConfigError: there are none.
    """
    try:
        return weights_file.find(path)
    except ConfigError:
        if os.path.isdir(path) and saved_settings.find(path):
            raise ConfigError(
                f"model_dir {path!r} has no checkpoint yet: wait until the run saves one "
                "(--checkpoint_steps), or name another run"
            ) from None
        raise


def open_encoder(
    path: str, config: Config, *, fixed: Collection[str] = (), with_before: bool = True
) -> TrainedEncoder:
    """Opens the weights that a path names. Writes nothing, and takes no lock.

    Args:
      path: a model_dir, or weights in any format that docs/formats.md lists.
      config: checked settings, with those of the run.
      fixed: names of the settings that the weights must not change: those given as flags.
      with_before: whether to make the encoder before training also.

    Raises:
      ConfigError: there are no weights, or they cannot be read.
    """
    found, recognized = _build_newest(path, config, fixed)
    before, notes = None, []
    if with_before:
        try:
            before = _before_training(path, recognized)
        except ConfigError as error:
            notes.append(f"The encoder before training is left out: {error}.")
    class_names = recognized.about.class_names if recognized.stored.num_classes else None
    return TrainedEncoder(
        recognized.model, recognized.config, found, class_names, before, tuple(notes)
    )


def _build_newest(path: str, config: Config, fixed: Collection[str]) -> tuple[str, RecognizedModel]:
    """Builds the model of the newest checkpoint, or of a newer one if that has disappeared."""
    found = check(path)
    for attempt in range(TRIES):
        try:
            stored = weights_file.open_weights(found)
            return found, recognized_model.build(stored, found, config, fixed=fixed)
        except ConfigError:
            newest = check(path)
            if newest == found or attempt == TRIES - 1:
                raise
            found = newest
    raise AssertionError("the last try returns or raises")


def _before_training(path: str, recognized: RecognizedModel) -> SimCLR:
    """Makes the model with its weights before the first step.

    Raises:
      ConfigError: it cannot be made. The message says why.
    """
    settings_path = saved_settings.find_beside(path)
    if recognized.about.source or not settings_path:
        raise ConfigError("no settings of the run that has trained it are beside the checkpoint")
    saved = saved_settings.read(settings_path)
    if saved.get("seed") is None:
        raise ConfigError(f"{settings_path} has no seed")
    # The network is the recognized one, so that both have the same variables.
    config = recognized.config.replace(
        seed=saved["seed"], train_mode=saved.get("train_mode", "pretrain")
    )
    model = make_model(config, recognized.stored.num_classes)
    if source := saved.get("checkpoint"):
        if files.is_url(source):
            raise ConfigError(f"the run started from checkpoint {source!r}, a URL")
        try:
            weights.restore_weights(
                model,
                source,
                variable_schema=saved.get("variable_schema"),
                zero_init_logits_layer=bool(saved.get("zero_init_logits_layer")),
            )
        except ConfigError as error:
            raise ConfigError(f"the run started from it, and {one_line(error)}") from error
    return model
