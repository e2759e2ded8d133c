"""Runs mode=eval, and the evaluations of a training run."""

import time
from collections.abc import Iterable

import tensorflow as tf

from tf_simclr import preflight, run_state
from tf_simclr.checkpoints import result_files, waiting, weights
from tf_simclr.config import Config
from tf_simclr.data.batch import EvalBatch
from tf_simclr.data.sources.opening import limit_labels
from tf_simclr.devices import distributed_data, strategies, workers
from tf_simclr.errors import one_line
from tf_simclr.modes import best_checkpoint, prepare
from tf_simclr.modes.export import Exporter
from tf_simclr.run_state import RunState
from tf_simclr.training import metrics_file, run_input
from tf_simclr.training.evaluator import Evaluator
from tf_simclr.training.summaries import EvalSummaries


def run(config: Config) -> dict:
    """Evaluates and exports each new checkpoint in model_dir, up to the one of the last step.

    It runs on one machine, even if several machines train the run.

    Returns:
      The results of the last checkpoint (`summary`).

    Raises:
      ConfigError: a setting does not fit the data, the devices or the files; or no readable
        checkpoint appeared within eval_timeout seconds.
    """
    # The data set and the checks come first, because the wait below may take hours. Here
    # label_fraction only changes the number of examples in the plan, so it may come first.
    source = limit_labels(config, prepare.open_source(config))
    plan = prepare.check_and_plan(config, source)
    strategy = _await_checkpoint(config)
    # The names of the head's classes are in about.json beside the checkpoint.
    source, class_names = prepare.match_classes(config, source)
    strategy = strategy or strategies.from_config(config)
    state = run_state.build(config, source, plan, strategy, class_names=class_names)
    return _follow(state)


def _await_checkpoint(config: Config) -> tf.distribute.Strategy | None:
    """Waits for the first checkpoint in model_dir, after checking the devices.

    Returns:
      The strategy, or None if a checkpoint was already there.

    Raises:
      ConfigError: the settings do not fit the devices, or no checkpoint appeared in time.
    """
    directory = config.runtime.model_dir
    assert directory is not None, "experiment.run requires it"
    if tf.train.latest_checkpoint(directory):
        return None
    strategy = strategies.from_config(config)
    preflight.check_devices(config, strategy)
    waiting.wait_for_first(directory, timeout=config.training.eval_timeout or None)
    return strategy


def _follow(state: RunState) -> dict:
    """Evaluates and exports checkpoints as they appear; returns the results of the last one."""
    evaluator, exporter = RunEvaluator(state), Exporter(state)
    timeout = state.config.training.eval_timeout or None
    results, exported, began = None, None, time.monotonic()
    for prefix in tf.train.checkpoints_iterator(
        state.model_dir, min_interval_secs=1, timeout=timeout
    ):
        try:
            state.checkpointer.restore(prefix, weights_only=True)
        except weights.READ_ERRORS as error:
            state.say(f"{prefix} cannot be read ({one_line(error)}): waiting for the next")
            continue
        results = evaluator()
        exported = exporter.export_latest()
        exporter.write_cards(results)
        line = ", ".join(f"{name} {value:.4f}" for name, value in results.items())
        print(f"{prefix}: {line}", flush=True)  # visible at once, also in a log file
        if state.step >= state.plan.total_steps:
            break
    if results is None:
        raise waiting.no_checkpoint_error(state.model_dir, time.monotonic() - began)
    return summary(state, results, exported)


def summary(state: RunState, results: dict, exported: str | None) -> dict:
    """Returns a run's return value: results, step, and the paths of checkpoint and SavedModel."""
    num_evaluated = state.plan.num_evaluated_if_partial(state.config.training.eval_batch_size)
    if result_files.TOP_1 in results and num_evaluated:
        results = results | {"evaluated": (num_evaluated, state.plan.num_eval)}
    return results | {
        "step": state.step,
        "checkpoint": state.checkpointer.latest,
        "saved_model": exported,
    }


class RunEvaluator:
    """Evaluates a run. Model and input are traced only once, however often it is called."""

    def __init__(self, state: RunState):
        """Prepares the evaluation. The first call makes the input and traces the model."""
        config = state.config
        self._state = state
        self._evaluator = Evaluator(state.strategy, state.model)
        self._batches: Iterable[EvalBatch] | None = None
        directory = result_files.eval_directory(state.model_dir, config.training.eval_name)
        self._summaries = EvalSummaries(directory)
        self._metrics = metrics_file.Writer(directory)
        self._reported_skipped = False

    def __call__(self) -> dict[str, float]:
        """Evaluates the current weights; the chief writes result.json.

        Returns:
          Results under the names of the official code. Empty if there is nothing to evaluate, with
          a message on stderr.
        """
        state = self._state
        if reason := _nothing_to_evaluate(state):
            state.say(reason)
            return {}
        # Each replica may have its own statistics; a checkpoint holds their mean.
        workers.average_over_replicas(state.strategy, state.model.per_replica_statistics())
        results = {"eval/regularization_loss": float(state.task.weight_decay.loss())}
        if self._batches is None:
            self._batches = distributed_data.distribute(
                state.strategy,
                lambda context: run_input.eval_batches(
                    state.config, state.source, state.config.data.eval_split, context
                ),
            )
        results |= self._evaluator(self._batches, num_batches=state.plan.eval_batches)
        self._report_skipped(results)
        if state.is_chief:
            name = state.config.training.eval_name
            result_files.write_results(state.model_dir, results, step=state.step, name=name)
            self._summaries.write(results, step=state.step)
            self._metrics.write(state.record(metrics_file.EVAL, state.step, results))
        best_checkpoint.keep_if_best(state, results)
        return results

    def _report_skipped(self, results: dict[str, float]):
        """Prints, in the first evaluation only, how many examples were left out."""
        if self._reported_skipped:
            return
        self._reported_skipped = True
        split = self._state.config.data.eval_split
        total = self._state.source.num_examples(split)
        if count := results.get("eval/skipped_examples"):
            self._state.say(
                f"{count:.0f} of {total} examples of split {split} could not be decoded and "
                "were left out (--strict_data makes this an error)"
            )
        if count := results.get("eval/unlabelled_examples"):
            self._state.say(
                f"{count:.0f} of {total} examples of split {split} have no label and were left out"
            )


def _nothing_to_evaluate(state: RunState) -> str | None:
    """Returns why the model cannot be evaluated on this data; None if it can."""
    if state.num_classes is None:
        return (
            "No labels or no supervised head (lineareval_while_pretraining=False): "
            "nothing to evaluate. Fine-tune to evaluate the features."
        )
    source = state.source
    # A teacher may have the same number of classes but different ones.
    names_differ = state.class_names is not None and state.class_names != source.class_names
    if state.num_classes != source.num_classes or names_differ:
        return (
            f"{source.name} has no labels of the teacher's {state.num_classes} "
            "classes: nothing to evaluate."
        )
    return None
