"""What happens to a run: settings in, results out.

    run(config)          here: the seed, the checks of the settings, the mode
      modes/train.py     train, train_then_eval
      modes/evaluate.py  eval: follows the checkpoints of a run that another process trains
      modes/probe.py     probe: classifiers on frozen features
      modes/predict.py   predict: class probabilities or embeddings of pictures

All that can be wrong is found before anything is written: settings by config/rules.py, data, files
and devices by preflight.py.
"""

import random

from tf_simclr import preflight
from tf_simclr.checkpoints.run_checkpoints import NotSaved
from tf_simclr.config import Config, check
from tf_simclr.data import errors
from tf_simclr.devices import strategies
from tf_simclr.devices.workers import WorkerLost
from tf_simclr.errors import ConfigError
from tf_simclr.modes import evaluate, predict, train
from tf_simclr.training.hooks import NotFinite, Stopped

__all__ = ["FAILURES", "Stopped", "WorkerLost", "run"]

# Their text says all there is to say.
FAILURES = (NotFinite, NotSaved, errors.UndecodableError)


@errors.in_one_line()
def run(config: Config) -> dict:
    """Does what config.runtime.mode says, as `python run.py` does.

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
      config: the settings. Where it has no seed, one is drawn and saved with the run.

    Returns:
      What the mode returns: `train.run`, `evaluate.run`, `probe.run` or `predict.run`.

    Raises:
      ConfigError: a setting is wrong, or does not fit the data, the devices or a checkpoint.
      Stopped: the run was asked to stop, and can be started again.
      WorkerLost: another worker is gone; all can be started again.
      FAILURES: the loss is not finite any more; a checkpoint cannot be written; examples cannot be
        decoded, with strict_data or too many.
    """
    check(config)
    if config.runtime.seed is None:
        config = config.replace(seed=random.randrange(2**31))
    preflight.check_settings(config)
    strategies.configure_cpu_replicas(config.runtime.cpu_replicas)
    if config.runtime.mode == "predict":
        return predict.run(config)
    if config.runtime.mode == "probe":
        from tf_simclr.modes import probe  # scikit-learn takes seconds, and most runs do without

        return probe.run(config)
    if not config.runtime.model_dir:
        raise ConfigError(
            "model_dir must be given: say where the run goes, e.g. --model_dir=runs/first"
        )
    if config.runtime.mode == "eval":
        return evaluate.run(config)
    return train.run(config)
