"""The entry point: takes the settings of a run, and returns its results.

    run(config)          here: the seed, the checks of the settings, the mode
      modes/train.py     train, train_then_eval
      modes/evaluate.py  eval: evaluates the checkpoints of a run that another process trains
      modes/probe.py     probe: classifiers on frozen features
      modes/predict.py   predict: class probabilities or embeddings of images

config/rules.py checks the settings, and preflight.py checks data, files and devices, before the run
writes to model_dir.
"""

import random
from collections.abc import Collection

from tf_simclr import preflight
from tf_simclr.checkpoints.recognition import adopt as adopt_checkpoint
from tf_simclr.checkpoints.run_checkpoints import NotSaved
from tf_simclr.config import Config, check, saved_settings
from tf_simclr.data import errors
from tf_simclr.devices import strategies
from tf_simclr.devices.workers import WorkerLost
from tf_simclr.errors import ConfigError
from tf_simclr.modes import evaluate, predict, train
from tf_simclr.training.hooks import NotFinite, Stopped

__all__ = ["FAILURES", "Stopped", "WorkerLost", "adopt_checkpoint", "run"]

# Expected failures. Their messages are complete, so no traceback is shown.
FAILURES = (NotFinite, NotSaved, errors.UndecodableError)


@errors.in_one_line()
def run(config: Config, *, fixed: Collection[str] = ()) -> dict:
    """Runs the mode in config.runtime.mode, like `python run.py`.

    Example:
      >>> import tf_simclr
      >>> config = tf_simclr.Config().replace(
      ...     dataset="shapes",
      ...     data_dir="data",
      ...     image_size=32,
      ...     resnet_depth=18,
      ...     width_multiplier=0.125,
      ...     train_batch_size=32,
      ...     train_steps=2,
      ...     mode="train",
      ...     model_dir="runs/first",
      ... )
      >>> results = tf_simclr.run(config)

    Args:
      config: the settings. If the seed is unset, it is the seed of the run in model_dir, so that
        the same command resumes the run. A new run draws a random seed and saves it.
      fixed: names of the settings that the weights of mode=predict must not change.

    Returns:
      The results of the mode: see `train.run`, `evaluate.run`, `probe.run` and `predict.run`.

    Raises:
      ConfigError: a setting is wrong, or does not fit the data, the devices or a checkpoint.
      Stopped: during training a signal asked the run to stop. It has saved a checkpoint; run again
        with the same settings to resume.
      WorkerLost: another worker was lost; restart all workers to resume.
      NotFinite: the loss became NaN or infinite.
      NotSaved: a checkpoint could not be written.
      UndecodableError: an example could not be decoded with strict_data, or too many without it.
    """
    check(config)
    if config.runtime.seed is None:
        config = config.replace(seed=_choose_seed(config))
    preflight.check_settings(config)
    strategies.configure_cpu_replicas(config.runtime.cpu_replicas)
    if config.runtime.mode == "predict":
        return predict.run(config, fixed=fixed)
    if config.runtime.mode == "probe":
        from tf_simclr.modes import probe  # importing scikit-learn takes seconds

        return probe.run(config)
    if not config.runtime.model_dir:
        raise ConfigError(
            "model_dir must be given: choose a directory for the run, e.g. --model_dir=runs/first"
        )
    if config.runtime.mode == "eval":
        return evaluate.run(config)
    return train.run(config)


def _choose_seed(config: Config) -> int:
    """Returns the seed of the run in model_dir, or a random seed for a new run."""
    model_dir = config.runtime.model_dir
    saved = saved_settings.read_of_run(model_dir).get("seed") if model_dir else None
    return random.randrange(2**31) if saved is None else saved
