"""Runs mode=train and mode=train_then_eval: from the settings to a trained, exported run."""

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tf_simclr import files, run_state
from tf_simclr.checkpoints import about_file, run_lock, weights
from tf_simclr.config import Config, saved_settings
from tf_simclr.data.sources.opening import limit_labels
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import strategies, workers
from tf_simclr.errors import ConfigError
from tf_simclr.modes import best_checkpoint, prepare, run_history, run_hooks, start_views
from tf_simclr.modes.evaluate import RunEvaluator, summary
from tf_simclr.modes.export import Exporter
from tf_simclr.optim import policy
from tf_simclr.run_state import RunState
from tf_simclr.training import device_loop, hooks, kept_images, loop, notes, run_input
from tf_simclr.training.plan import previous_settings_and_plan

if TYPE_CHECKING:
    from tf_simclr.modes.probe_summary import ProbeSummary


def run(config: Config) -> dict:
    """Trains and exports. If asked for, it evaluates and probes the encoder.

    Every worker runs all of this, but only the chief writes.

    During training a stop signal (Ctrl-C, SIGTERM, SIGUSR1) does not interrupt the device. When the
    device returns after its current steps, the hook Checkpoints saves a checkpoint and raises
    Stopped (training/loop.py, training/hooks.py).

    Args:
      config: checked settings; the seed must be set.

    Returns:
      On the chief: step, checkpoint and saved_model (paths), the results of evaluations and probes,
      and the best checkpoint's step, accuracy and SavedModel. On other workers: an empty dict.

    Raises:
      ConfigError: a setting does not fit the data, the devices or the files.
      Stopped, NotFinite, NotSaved, WorkerLost: see experiment.py.
    """
    # 1. Join the cluster, if there is one, before TensorFlow does anything else.
    cluster = strategies.join_cluster(config)
    with workers.raise_worker_lost(cluster):
        # 2. Open the data set; check data and files.
        opened = prepare.open_source(config, cluster)
        source, class_names = prepare.match_classes(config, opened, cluster)
        source = limit_labels(config, source)  # after match_classes: selects by the head's classes
        plan = prepare.check_and_plan(config, source)
        # 3. Build the model on its devices, the optimizer and the checkpointers.
        strategy = cluster or strategies.from_config(config)
        state = run_state.build(config, source, plan, strategy, class_names=class_names)
        # 4. Lock model_dir. Nothing has been written to it so far.
        with run_lock.lock(state.model_dir) if state.is_chief else contextlib.nullcontext():
            with run_history.end_recorded(state):
                return _train_and_evaluate(state, opened)


def _train_and_evaluate(state: RunState, opened: Source) -> dict:
    """Trains the run to its last step, exports, evaluates and, with probe_summary, probes.

    Args:
      state: the run.
      opened: the data set before its classes were matched.
    """
    config = state.config
    evaluator, exporter = RunEvaluator(state), Exporter(state)

    # Before the first step, write about.json, config.json, config.gin, flags.json, history.json,
    # and for a folder of images pictures.jsonl. Meanwhile, write views.png.
    _restore(state)
    _write_settings(state)
    run_history.record_start(state)
    if state.is_chief and (problem := opened.keep_listing()):
        state.say(problem)

    # During training, write ckpt-STEP, summaries and metrics.jsonl; with eval_every_epochs also
    # result.json and eval/, and with that or best_metric also best/.
    _train(state, evaluator)

    # At the end, write saved_model/STEP and, if asked for, result.json, best/,
    # saved_model_best/STEP and neighbours.png; then MODEL_CARD.md into the SavedModels, and
    # report.html.
    exported = exporter.export_latest()
    evaluates = config.runtime.mode == "train_then_eval" or config.training.eval_every_epochs > 0
    results: dict[str, Any] = dict(evaluator()) if evaluates else {}
    results |= exporter.export_best()
    probed = None
    if config.training.probe_summary and config.runtime.mode == "train_then_eval":
        probed = _probe(state, exporter)
    results |= probed.results if probed else {}
    exporter.write_cards(results)
    run_history.record_finish(state, results)
    if probed:
        results |= run_history.write_report(state, probed.images, probed.notes)
    workers.wait_for_all(state.strategy)  # the chief may still be probing
    return summary(state, results, exported) if state.is_chief else {}


def _restore(state: RunState):
    """Resumes from the latest checkpoint in model_dir, otherwise starts from --checkpoint.

    The order is in checkpoints/run_checkpoints.py.

    Raises:
      ConfigError: a checkpoint cannot be used, or workers see different checkpoints.
    """
    training = state.config.training
    if state.checkpointer.restore_latest() is None and training.checkpoint:
        report = weights.restore_weights(
            state.model,
            training.checkpoint,
            variable_schema=training.variable_schema,
            zero_init_logits_layer=state.config.model.zero_init_logits_layer,
        )
        state.say(f"From checkpoint {training.checkpoint}:\n{report}")
    if not workers.all_same(state.strategy, state.step):
        raise ConfigError(
            f"model_dir {state.model_dir!r} is at step {state.step} on this worker and at another "
            "step on another worker: with strategy=multi_worker it must be one directory that all "
            "workers see"
        )


def _write_settings(state: RunState):
    """Writes about.json, config.json, config.gin and flags.json to model_dir."""
    if not state.is_chief:
        return
    tf.io.gfile.makedirs(state.model_dir)
    about_file.write_about(state.model_dir, state.about())
    for name, content in (
        (saved_settings.JSON, saved_settings.to_json(state.config)),
        (saved_settings.GIN, saved_settings.to_gin(state.config)),
        ("flags.json", state.config.to_json() + "\n"),
    ):
        files.write_text(os.path.join(state.model_dir, name), content)


def _train(state: RunState, evaluator: Callable[[], object]):
    """Trains from the restored step to the last step."""
    config, step, total = state.config, state.step, state.plan.total_steps
    if step >= total:
        state.say(
            f"{state.model_dir} is trained already: step {step} of {total}. Use another "
            "--model_dir for a new run."
        )
        return
    if reason := best_checkpoint.no_longer_improves(state):
        state.say(reason)
        return
    examples = state.examples_seen.count_at(step)
    _announce(state, examples)
    settled, note = kept_images.settle(config, state.source, state.strategy, num_steps=total - step)
    if note:
        state.say(note)
    batches = run_input.train_batches(settled, state.source, state.strategy, examples_seen=examples)
    draws = start_views.written_meanwhile(state) if state.is_chief else contextlib.nullcontext()
    try:
        with draws:
            loop.train(
                make_run_steps(state),
                iter(batches),
                run_hooks.make(state, evaluator),
                strategy=state.strategy,
                first_step=step,
                total_steps=total,
            )
    except hooks.NoLongerImproves as reason:
        state.say(str(reason))


def make_run_steps(state: RunState) -> Callable:
    """Makes the function that runs training steps on all replicas (device_loop.make_run_steps)."""
    train_step = state.train_step
    if state.config.training.jit_compile:
        train_step = tf.function(train_step, jit_compile=True, autograph=False)
    return device_loop.make_run_steps(
        state.strategy,
        train_step,
        state.metric_names,
        image_size=state.config.data.image_size,
        preview=state.preview,
        last_updated=policy.last_updated(state.model),
    )


def _announce(state: RunState, examples: int):
    """Prints what is going to be trained, and warnings about its settings (`notes`)."""
    config, training, step = state.config, state.config.training, state.step
    replicas = state.strategy.num_replicas_in_sync
    state.say(
        f"{training.train_mode}: {state.source.name}, {state.plan.num_train} images, steps "
        f"{step} to {state.plan.total_steps} of {training.train_batch_size} images on "
        f"{strategies.describe(state.strategy)}, seed {config.runtime.seed}"
    )
    if state.microbatch_size:
        state.say(
            f"Micro-batches of {state.microbatch_size} images: batch normalization "
            "sees one at a time, regardless of global_bn."
        )
    if step:
        before = previous_settings_and_plan(state.saved_settings, config, state.source)
        now = config, state.plan
        if changes := notes.resume_note(before, now, step=step, examples=examples):
            state.say(changes)
    if state.plan.monitor_every_steps:
        state.say(notes.monitor_note(config, state.plan))
    for note in notes.start_notes(config, state.plan, step=step, replicas=replicas):
        state.say(note)


def _probe(state: RunState, exporter: Exporter) -> "ProbeSummary | None":
    """Probes the encoder on the chief (`probe_summary.summarize`); None on other workers."""
    if not state.is_chief:
        return None
    from tf_simclr.modes import probe_summary  # importing scikit-learn takes seconds

    return probe_summary.summarize(
        state.config,
        state.source,
        exporter.local_model(),
        num_classes=state.num_classes,
        checkpoint=state.checkpointer.latest or "",
    )
