"""mode=train and mode=train_then_eval: from the settings to a trained, exported run."""

import contextlib
import os
from collections.abc import Callable

import tensorflow as tf

from tf_simclr import files, run_state
from tf_simclr.checkpoints import about_file, run_lock, weights
from tf_simclr.config import Config, saved_settings
from tf_simclr.data.sources.opening import with_few_labels
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import strategies, workers
from tf_simclr.errors import ConfigError
from tf_simclr.modes import prepare
from tf_simclr.modes.evaluate import Evaluation, summary
from tf_simclr.modes.export import Exporter
from tf_simclr.run_state import RunState
from tf_simclr.training import device_loop, hooks, loop, notes, reports, run_input, summaries
from tf_simclr.training.plan import previous_settings_and_plan


def run(config: Config) -> dict:
    """Trains, exports and, as the mode says, evaluates.

    With several workers all of this runs on each of them, and only the chief writes.

    A signal to stop (training/loop.py) takes effect after the steps that the device is taking: the
    hook that saves checkpoints saves one more and raises Stopped (training/hooks.py).

    Args:
      config: checked settings, the seed among them.

    Returns:
      On the chief: step, the path of the latest checkpoint, that of the SavedModel, and the results
      of the evaluation under the names of the official code. On other workers: nothing.

    Raises:
      ConfigError: a setting does not fit the data, the devices or the files.
      Stopped, NotFinite, NotSaved, WorkerLost: see experiment.py.
    """
    # 1. A cluster must be joined before TensorFlow does anything else. Other devices come later.
    cluster = strategies.join_cluster(config)
    with workers.raise_worker_lost(cluster):
        # 2. The data set, and everything that can be wrong with it or with the files.
        opened = prepare.open_source(config, cluster)
        source, class_names = prepare.match_classes(config, opened, cluster)
        source = with_few_labels(config, source)  # chooses by the head's class numbers
        plan = prepare.check_and_plan(config, source)
        # 3. The devices, the model, its optimizer and its checkpoints.
        strategy = cluster or strategies.from_config(config)
        state = run_state.build(config, source, plan, strategy, class_names=class_names)
        # 4. From here on model_dir is written to, and belongs to this run.
        with run_lock.lock(state.model_dir) if state.is_chief else contextlib.nullcontext():
            return _train_and_evaluate(state, opened)


def _train_and_evaluate(state: RunState, opened: Source) -> dict:
    """Trains the run to its end, and leaves its files in model_dir.

    Args:
      state: the run.
      opened: the data set as it was opened, before classes were matched.
    """
    config = state.config
    evaluation, exporter = Evaluation(state), Exporter(state)

    # Before the first step: the settings, the class names, and what the files of a folder are.
    _restore(state)
    _write_settings(state)
    if state.is_chief and (problem := opened.keep_listing()):
        state.say(problem)

    # While it trains: ckpt-STEP and summaries; with eval_every_epochs best/ and result.json.
    _train(state, evaluation)

    # At the end: saved_model/STEP, result.json, saved_model_best/STEP, neighbours.png.
    exported = exporter.export_latest()
    evaluates = config.runtime.mode == "train_then_eval" or config.training.eval_every_epochs > 0
    results = evaluation() if evaluates else {}
    results |= exporter.export_best()
    if config.training.probe_summary and config.runtime.mode == "train_then_eval":
        results |= _probe(state, exporter)
    workers.wait_for_all(state.strategy)  # the chief may still be probing
    return summary(state, results, exported) if state.is_chief else {}


def _restore(state: RunState):
    """Goes on from the latest checkpoint, or starts from --checkpoint (checkpoints/ has the order).

    Raises:
      ConfigError: a checkpoint cannot be used; the workers see different ones.
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
            f"model_dir {state.model_dir!r} is at step {state.step} here and at "
            "another on another worker: with strategy=multi_worker it must be one directory "
            "that all of them see"
        )


def _write_settings(state: RunState):
    """Leaves about.json, config.json, config.gin and flags.json in model_dir."""
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


def _train(state: RunState, evaluate: Callable[[], object]):
    """Trains from the restored step to the last."""
    config, step, total = state.config, state.step, state.plan.total_steps
    if step >= total:
        state.say(
            f"{state.model_dir} is trained already: step {step} of {total}. For a new "
            "run name another --model_dir."
        )
        return
    examples = state.examples_seen.count_at(step)
    _announce(state, examples)
    batches = run_input.train_batches(config, state.source, state.strategy, examples_seen=examples)
    train_step = state.train_step
    if config.training.jit_compile:
        train_step = tf.function(train_step, jit_compile=True, autograph=False)
    run_steps = device_loop.make_run_steps(
        state.strategy,
        train_step,
        state.metric_names,
        image_size=config.data.image_size,
        preview=state.preview,
    )
    loop.train(
        run_steps,
        iter(batches),
        make_hooks(state, evaluate),
        strategy=state.strategy,
        first_step=step,
        total_steps=total,
    )


def make_hooks(state: RunState, evaluate: Callable[[], object]) -> list[hooks.Hook]:
    """Returns what happens between steps. The order matters (training/hooks.py)."""
    training, plan = state.config.training, state.plan
    names, step, chief = state.metric_names, state.step, state.is_chief
    writer = tf.summary.create_noop_writer()
    if chief:
        # A run that was killed may have written summaries after its last checkpoint.
        summaries.drop_training_after(state.model_dir, step)
        writer = tf.summary.create_file_writer(state.model_dir)
    metrics = reports.Metrics(names, first_step=step, is_chief=chief)
    progress = reports.Progress(
        training.train_mode,
        metrics,
        first_step=step,
        total_steps=plan.total_steps,
        batch_size=training.train_batch_size,
        is_chief=chief,
    )
    written = reports.Summaries(
        writer, metrics, state.learning_rate, every_steps=training.train_summary_steps
    )
    result: list[hooks.Hook] = [
        hooks.RequireFinite(names, state.checkpointer, state.learning_rate),
        metrics,
        progress,
        written,
    ]
    if training.profile_steps:
        first, last = map(int, training.profile_steps.split(","))
        result.append(hooks.Trace(state.model_dir, first, last, writes=chief))
    if state.best_checkpointer is not None:
        result.append(hooks.Evaluations(evaluate, every_steps=plan.eval_every_steps))
    result.append(
        hooks.Checkpoints(state.checkpointer, written.flush, every_steps=plan.checkpoint_steps)
    )
    return result


def _announce(state: RunState, examples: int):
    """Says what is going to be trained, and what is odd about it (`notes`)."""
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
            "sees one at a time, whatever global_bn says."
        )
    if step:
        before = previous_settings_and_plan(state.saved_settings, config, state.source)
        now = config, state.plan
        if changes := notes.resume_note(before, now, step=step, examples=examples):
            state.say(changes)
    for note in notes.start_notes(config, state.plan, step=step, replicas=replicas):
        state.say(note)


def _probe(state: RunState, exporter: Exporter) -> dict:
    """Returns the chief's summary of what the encoder has learned (`probe_summary.summarize`)."""
    if not state.is_chief:
        return {}
    from tf_simclr.modes import probe_summary  # importing scikit-learn takes seconds

    return probe_summary.summarize(
        state.config, state.source, exporter.local_model(), num_classes=state.num_classes
    )
