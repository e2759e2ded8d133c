"""From a Config to a finished run: data, devices, model, then the mode asked for.

The order matters: all that can be wrong with the settings is found before the first step, and
model_dir is not touched until then.

With several workers all of this runs on each of them; what only the chief does says so. A variable
of a distributed model may be read and written by all workers at once only.
"""

import contextlib
import functools
import os
import sys
import time
import zlib

import tensorflow as tf

from tf_simclr import bounds, build, objective
from tf_simclr.checkpoints import class_names, run_checkpoints, run_dir, teacher, weights
from tf_simclr.checkpoints.examples_seen import ExamplesSeen
from tf_simclr.checkpoints.formats import saved_model
from tf_simclr.config import Config, saved_settings, settings
from tf_simclr.data import errors
from tf_simclr.data.augment import views
from tf_simclr.data.batch import TrainBatch
from tf_simclr.data.pipeline import service
from tf_simclr.data.sources import image_range, label_subset, labels
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import same_data, strategies, workers
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR
from tf_simclr.modes import predict
from tf_simclr.optim import policy
from tf_simclr.optim.loss_scale import LossScale
from tf_simclr.training import evaluate, loop, notes, steps, summaries
from tf_simclr.training.plan import Plan, make_plan, make_schedule, plan_before

Stopped = loop.Stopped
WorkerLost = workers.WorkerLost
# Their text says all there is to say.
FAILURES = (loop.NotFinite, run_checkpoints.NotSaved, errors.UndecodableError)
TOP_1 = run_dir.TOP_1


@errors.in_one_line()
def run(config: Config, *, config_gin: str) -> dict:
    """Does what config.runtime.mode says.

    Args:
      config: checked settings (`config.check`), the seed among them.
      config_gin: their text, to be left in model_dir.

    Returns:
      step, the path of the latest checkpoint, that of the SavedModel, and the evaluation's results
      under the names of the official code. Nothing on workers other than the chief. mode=probe and
      mode=predict return what `probe.run` and `predict.run` do.

    Raises:
      ConfigError: a setting does not fit the data, the devices or the checkpoint.
      Stopped: the run was asked to stop and can be started again.
      WorkerLost: another worker is gone; all can be started again.
      FAILURES: the loss is not finite any more; a checkpoint cannot be written; examples cannot be
        decoded, with strict_data or too many.
    """
    mode = config.runtime.mode
    bounds.check_size(config)
    strategies.divide_cpu(config.runtime.cpu_replicas)
    if mode == "probe":
        from tf_simclr.modes import probe  # scikit-learn takes seconds, and most runs do without

        return probe.run(config)
    if mode == "predict":
        return predict.run(config)
    if not config.runtime.model_dir:
        raise ConfigError(
            "model_dir must be given: say where the run goes, e.g. --model_dir=runs/first"
        )
    # A cluster must be joined before TensorFlow does anything else. All other devices come last.
    cluster = build.make_strategy(config) if config.runtime.strategy == "multi_worker" else None
    with workers.lost_workers_named(cluster):
        source = same_data.open_on_all(cluster, functools.partial(build.open_data, config))
        opened = source
        has_head = _has_supervised_head(config, source)
        if mode != "eval":  # label_fraction chooses by the head's class numbers
            source, names = _match_classes(config, source, cluster, has_head=has_head)
        source = _with_few_labels(config, source)
        early = config.training.eval_every_epochs > 0
        evaluates = (mode != "train" or early) and source.num_classes is not None
        evaluates = evaluates and (has_head or config.training.probe_summary)
        plan = make_plan(config, source, evaluates=evaluates)
        if evaluates:
            way_out = "evaluate on another split, or train by --mode=train"
            labels.require(source, config.data.eval_split, flag="eval_split", way_out=way_out)
        if config.runtime.data_service:
            service.check(config.runtime.data_service)
        if config.training.checkpoint:
            weights.find(config.training.checkpoint)
        elif (
            mode != "eval"
            and config.training.train_mode == "finetune"
            and (not config.training.from_scratch)
        ):
            _require_own_checkpoint(config)
        if config.distill.teacher:
            teacher.find(config.distill.teacher)
        strategy = cluster
        if mode == "eval":  # only a checkpoint's about.json tells the classes of its head
            strategy = _await_checkpoint(config, cluster)
            source, names = _match_classes(config, source, cluster, has_head=has_head)
        experiment = Experiment(
            config,
            source,
            plan,
            strategy or build.make_strategy(config),
            has_head=has_head,
            names=names,
        )
        if mode == "eval":
            return experiment.follow()
        with experiment.lock():
            experiment.restore()
            experiment.write_settings(config_gin)
            experiment.keep_listing(opened)
            experiment.train()
            experiment.export()
            results = experiment.evaluate() if mode == "train_then_eval" or early else {}
            results |= experiment.export_best()
            if config.training.probe_summary and mode == "train_then_eval":
                results |= experiment.probe()
            experiment.wait_for_all()
            return experiment.summary(results) if experiment.is_chief else {}


def _require_own_checkpoint(config: Config):
    """Raises ConfigError where fine-tuning would start from nothing, as if by mistake."""
    if not tf.train.latest_checkpoint(config.runtime.model_dir):
        raise ConfigError(
            "checkpoint must be given with train_mode=finetune, got None: name the pretrained run "
            "by --checkpoint=DIR, or train the supervised baseline by --from_scratch"
        )


def _match_classes(
    config: Config, source: Source, cluster: tf.distribute.Strategy | None, *, has_head: bool
) -> tuple[Source, tuple[str, ...] | None]:
    """The data set with the class numbers of the head, and the head's class names.

    Raises:
      ConfigError: they do not fit (`class_names.match`).
    """
    matched = class_names.match(config, source, has_head=has_head)
    if matched.note and (cluster is None or workers.is_chief(cluster)):
        print(matched.note, file=sys.stderr)
    return matched.source, matched.names


def _await_checkpoint(
    config: Config, cluster: tf.distribute.Strategy | None
) -> tf.distribute.Strategy | None:
    """Waits for the first checkpoint in model_dir.

    The wait may take hours, so that the devices are checked before it.

    Returns:
      The strategy, unless nobody has made it yet.

    Raises:
      ConfigError: the settings do not fit the devices, or not one checkpoint came in time.
    """
    directory = config.runtime.model_dir
    if tf.train.latest_checkpoint(directory):
        return cluster
    strategy = cluster or build.make_strategy(config)
    build.check_devices(config, strategy)
    run_checkpoints.wait_for_first(directory, timeout=config.training.eval_timeout or None)
    return strategy


def _with_few_labels(config: Config, source: Source) -> Source:
    """The data set with label_fraction of its training split."""
    data = config.data
    if data.label_fraction == 1:
        return source
    return label_subset.ClassBalancedSubset(
        source,
        split=data.train_split,
        fraction=data.label_fraction,
        seed=data.label_seed,
        flag="train_split",
    )


def _has_supervised_head(config: Config, source: Source) -> bool:
    """True where there is a supervised head to train; then there are the labels that it needs.

    Raises:
      ConfigError: there are not.
    """
    train_mode = config.training.train_mode
    wanted = train_mode != "pretrain" or (
        config.model.lineareval_while_pretraining and not config.data.unlabelled
    )
    ways_out = {
        "pretrain": "pretrain without them by --lineareval_while_pretraining=False",
        "finetune": "fine-tuning needs a data set with labels",
        "distill": "distill without them by --distill_label_weight=0",
    }
    needs_labels = wanted and (train_mode != "distill" or config.distill.distill_label_weight > 0)
    if needs_labels and source.num_classes is None:
        why = f" ({source.label_note})" if source.label_note else ""
        raise ConfigError(f"dataset {source.name} has no class labels{why}: {ways_out[train_mode]}")
    if needs_labels and config.runtime.mode != "eval":
        labels.require(
            source, config.data.train_split, flag="train_split", way_out=ways_out[train_mode]
        )
    if config.training.eval_every_epochs and not (wanted and source.num_classes):
        raise ConfigError(
            "eval_every_epochs must be 0 without labels or without a supervised head (dataset "
            f"{source.name}, lineareval_while_pretraining={wanted}), got "
            f"{config.training.eval_every_epochs}: there is nothing to evaluate"
        )
    if config.training.probe_summary and source.num_classes is None:
        raise ConfigError(
            f"probe_summary must be False with dataset {source.name}, which has no "
            "class labels to probe with"
        )
    return wanted


class Experiment:
    """A model on its devices with its optimizer, data and files."""

    def __init__(
        self,
        config: Config,
        source: Source,
        plan: Plan,
        strategy: tf.distribute.Strategy,
        *,
        has_head: bool,
        names: tuple[str, ...] | None = None,
    ):
        """Builds the model and looks at the checkpoints that are there.

        Args:
          names: of the head's classes (`class_names.match`); None where nobody knows them.

        Raises:
          ConfigError: a batch is not divisible by the replicas; another model's checkpoint; the
            workers' settings or class names differ; there is no such teacher, or it knows other
            classes.
        """
        self.config, self.source, self.plan = config, source, plan
        training = config.training
        self.class_names = names
        self.model_dir = config.runtime.model_dir
        self.strategy = strategy
        self.is_chief = workers.is_chief(self.strategy)
        self.config = config = self._agreed(config)
        build.check_devices(config, strategy)
        self.learning_rate = make_schedule(config, plan)
        self.saved = saved_settings.read_of_run(self.model_dir)
        with self.strategy.scope():
            self.teacher = self._load_teacher()
            self.num_classes = source.num_classes if has_head else None
            if self.teacher:
                self.num_classes = self.teacher.num_classes
            self.model = build.make_model(config, self.num_classes)
            self.optimizer = policy.make_optimizer(
                self.model,
                config.optimizer.optimizer,
                self.learning_rate,
                momentum=config.optimizer.momentum,
                weight_decay=config.optimizer.weight_decay,
            )
            self.loss_scale = LossScale() if training.precision == "float16" else None
            self.seen = ExamplesSeen(
                training.train_batch_size, batch_size_before=self.saved.get("train_batch_size")
            )
            self.checkpointer = run_checkpoints.Checkpointer(
                self.model,
                self.optimizer,
                self.model_dir,
                max_to_keep=training.keep_checkpoint_max,
                strategy=self.strategy,
                loss_scale=self.loss_scale,
                seen=self.seen,
            )
            self.best_checkpointer = None
            if training.eval_every_epochs and config.runtime.mode != "eval":
                run_dir.read_best(self.model_dir)  # finds now what would end the run later
                self.best_checkpointer = run_checkpoints.Checkpointer(
                    self.model,
                    self.optimizer,
                    os.path.join(self.model_dir, run_dir.BEST),
                    max_to_keep=1,
                    strategy=self.strategy,
                    loss_scale=self.loss_scale,
                    seen=self.seen,
                )
        self.checkpointer.check_latest()
        self.trainable = policy.trainable_variables(self.model)
        self.objective = objective.make_objective(
            config,
            self.model,
            self.optimizer,
            teacher=self.teacher,
            compile_augmentation=build.on_cpu(self.strategy),
        )
        self.saved_model = None
        self.reported_splits = set()
        self._copies = {}  # by precision, of `_own_model`
        self._exportable = None  # of the copy in float32

    def _agreed(self, config: Config) -> Config:
        """The settings with the chief's seed, which it may have drawn.

        Raises:
          ConfigError: this worker's settings or class names are not the chief's.
        """
        seed = workers.from_chief(self.strategy, config.runtime.seed)
        config = config.replace(seed=seed)
        saved = [(n, v) for _, n, v in config.items() if settings()[n].saved]
        if not workers.all_same(self.strategy, zlib.crc32(repr(saved).encode())):
            raise ConfigError(
                "strategy is multi_worker, and its workers were started with "
                "different settings: give all of them the same"
            )
        if not workers.all_same(self.strategy, zlib.crc32(repr(self.class_names).encode())):
            raise ConfigError(
                "strategy is multi_worker, and its workers see different class names: give all of "
                "them the same data_dir, and a model_dir that all of them see"
            )
        return config

    def _load_teacher(self) -> teacher.Teacher | None:
        distill = self.config.distill
        if not distill.teacher:
            return None
        loaded = teacher.Teacher(distill.teacher, image_size=self.config.data.image_size)
        compared = distill.distill_label_weight or self.config.training.eval_every_epochs
        if compared and loaded.num_classes != self.source.num_classes:
            raise ConfigError(
                f"teacher {distill.teacher!r} knows {loaded.num_classes} classes, dataset "
                f"{self.source.name} has {self.source.num_classes}: choose data of the same "
                "classes, or --distill_label_weight=0 --eval_every_epochs=0"
            )
        return loaded

    def _say(self, text: str):
        """Prints to stderr, once for all workers."""
        if self.is_chief:
            print(text, file=sys.stderr)

    def lock(self):
        """The chief's hold on model_dir (`run_dir.lock`)."""
        return run_dir.lock(self.model_dir) if self.is_chief else contextlib.nullcontext()

    def wait_for_all(self):
        """Waits for the other workers; the chief may still be at its probes."""
        workers.mean_over_workers(self.strategy, [0.0])

    def write_settings(self, config_gin: str):
        """The chief leaves config.json, config.gin and flags.json in model_dir."""
        if not self.is_chief:
            return
        tf.io.gfile.makedirs(self.model_dir)
        run_dir.write_about(self.model_dir, self._about())
        for name, content in (
            (saved_settings.JSON, saved_settings.to_json(self.config)),
            (saved_settings.GIN, config_gin),
            ("flags.json", self.config.to_json() + "\n"),
        ):
            run_dir.write_text(os.path.join(self.model_dir, name), content)

    def keep_listing(self, source: Source):
        """The chief keeps in model_dir what the files of a folder were found to be.

        Args:
          source: the data set as it was opened.
        """
        if self.is_chief and (problem := source.keep_listing()):
            self._say(problem)

    def _about(self) -> dict:
        """What about.json tells of the model."""
        names = self.class_names
        known = names is not None and len(names) == self.num_classes
        data = self.config.data
        return {
            "image_size": data.image_size,
            "class_names": list(names) if known else None,
            "preparation": views.evaluation_preparation(
                data.image_size, image_range.parse(data.image_range)
            ),
        }

    def restore(self):
        """Takes up the run, or starts from --checkpoint (run_checkpoints.py has the order)."""
        training = self.config.training
        if self.checkpointer.restore_latest() is None and training.checkpoint:
            report = weights.restore_weights(
                self.model,
                training.checkpoint,
                variable_schema=training.variable_schema,
                zero_init_logits_layer=self.config.model.zero_init_logits_layer,
            )
            self._say(f"From checkpoint {training.checkpoint}:\n{report}")
        if not workers.all_same(self.strategy, self.checkpointer.step):
            raise ConfigError(
                f"model_dir {self.model_dir!r} is at step {self.checkpointer.step} here and at "
                "another on another worker: with strategy=multi_worker it must be one directory "
                "that all of them see"
            )

    def train(self):
        """Trains from the restored step to the last."""
        config, training = self.config, self.config.training
        step, total = self.checkpointer.step, self.plan.total_steps
        examples = self.seen.at(step)
        if step >= total:
            self._say(
                f"{self.model_dir} is trained already: step {step} of {total}. For a new "
                "run name another --model_dir."
            )
            return
        self._announce(step, examples)
        batches = build.train_batches(config, self.source, self.strategy, examples_seen=examples)
        metrics = self.objective.metrics
        step_fn = self._step
        if training.jit_compile:
            step_fn = tf.function(step_fn, jit_compile=True, autograph=False)
        run_steps = loop.make_run_steps(
            self.strategy,
            step_fn,
            metrics,
            config.data.image_size,
            preview=self.objective.preview,
        )
        writer = tf.summary.create_noop_writer()
        if self.is_chief:
            summaries.drop_training_after(self.model_dir, step)
            writer = tf.summary.create_file_writer(self.model_dir)
        try:
            loop.train(
                run_steps,
                iter(batches),
                metric_names=metrics,
                strategy=self.strategy,
                checkpointer=self.checkpointer,
                total_steps=total,
                checkpoint_steps=self.plan.checkpoint_steps,
                summary_steps=training.train_summary_steps,
                batch_size=training.train_batch_size,
                learning_rate=self.learning_rate,
                writer=writer,
                description=training.train_mode,
                evaluate=self.evaluate if self.best_checkpointer else None,
                eval_every_steps=self.plan.eval_every_steps,
                trace=self._trace(),
            )
        finally:
            writer.close()

    def _announce(self, step: int, examples: int):
        """Says what is going to be trained, and what is odd about it (`notes`)."""
        config, training = self.config, self.config.training
        self._say(
            f"{training.train_mode}: {self.source.name}, {self.plan.num_train} images, steps "
            f"{step} to {self.plan.total_steps} of {training.train_batch_size} images on "
            f"{strategies.describe(self.strategy)}, seed {config.runtime.seed}"
        )
        if build.num_microbatches(config, self.strategy) > 1:
            self._say(
                f"Micro-batches of {training.microbatch_size} images: batch normalisation "
                "sees one at a time, whatever global_bn says."
            )
        now = config, self.plan
        if step:
            before = plan_before(self.saved, config, self.source)
            if changes := notes.resume_note(before, now, step=step, examples=examples):
                self._say(changes)
        replicas = self.strategy.num_replicas_in_sync
        for note in notes.start_notes(*now, step=step, replicas=replicas):
            self._say(note)

    def _trace(self) -> loop.Trace | None:
        """The trace that profile_steps asks for, written by the chief."""
        steps_asked = self.config.training.profile_steps
        if not steps_asked:
            return None
        first, last = map(int, steps_asked.split(","))
        return loop.Trace(self.model_dir, first, last, writes=self.is_chief)

    def _step(self, batch: TrainBatch) -> dict[str, tf.Tensor]:
        """One training step on one replica."""
        differentiate = functools.partial(self.objective.differentiate, batch)
        return steps.train_step(differentiate, self.optimizer, self.trainable, self.loss_scale)

    def evaluate(self) -> dict[str, float]:
        """Evaluates the weights as they are; the chief writes result.json."""
        config = self.config
        if self.num_classes is None:
            self._say(
                "No labels or no supervised head (lineareval_while_pretraining=False): "
                "nothing to evaluate. Fine-tune to learn what the features are worth."
            )
            return {}
        source = self.source
        # As many classes may still be others: the teacher's, among images without use for labels.
        other_names = self.class_names is not None and self.class_names != source.class_names
        if self.num_classes != source.num_classes or other_names:
            self._say(
                f"{source.name} has no labels of the teacher's {self.num_classes} "
                "classes: nothing to evaluate."
            )
            return {}
        # As a checkpoint has them.
        workers.average_over_replicas(self.strategy, self.model.own_statistics())
        decayed = policy.loss_decay_variables(self.model, config.optimizer.optimizer)
        decay = steps.weight_decay_loss(decayed, config.optimizer.weight_decay)
        results = {"eval/regularization_loss": float(decay)}
        results |= self._evaluator(self._eval_batches, num_batches=self.plan.eval_batches)
        self._report_left_out(config.data.eval_split, results)
        if self.is_chief:
            step, name = self.checkpointer.step, config.training.eval_name
            run_dir.write_results(self.model_dir, results, step=step, name=name)
            self._eval_summaries.write(results, step=step)
        if self.best_checkpointer:
            self._keep_if_best(results)
        return results

    # What all evaluations of a run share, so that the model and the input are traced once.

    @functools.cached_property
    def _evaluator(self):
        return evaluate.Evaluator(self.strategy, self.model)

    @functools.cached_property
    def _eval_batches(self) -> tf.distribute.DistributedDataset:
        return self.strategy.distribute_datasets_from_function(
            lambda context: build.eval_batches(
                self.config, self.source, self.config.data.eval_split, context
            )
        )

    @functools.cached_property
    def _eval_summaries(self) -> summaries.EvalSummaries:
        name = self.config.training.eval_name
        return summaries.EvalSummaries(run_dir.eval_directory(self.model_dir, name))

    def _keep_if_best(self, results: dict[str, float]):
        """Saves the weights as they are in model_dir/best, if no evaluation was better so far."""
        best = run_dir.read_best(self.model_dir)
        if best and results[TOP_1] <= best[TOP_1]:
            return
        workers.mean_over_workers(self.strategy, [0.0])  # all have read it, before it is written
        if self.is_chief:
            tf.io.gfile.makedirs(self.best_checkpointer.directory)
            run_dir.write_about(self.best_checkpointer.directory, self._about())
        self.best_checkpointer.save()
        if self.is_chief:
            run_dir.write_best(self.model_dir, results, step=self.checkpointer.step)

    def _report_left_out(self, split: str, results: dict[str, float]):
        """Says, once for each split, how many examples an evaluation of it left out."""
        if split in self.reported_splits:
            return
        self.reported_splits.add(split)
        total = self.source.num_examples(split)
        if count := results.get("eval/skipped_examples"):
            self._say(
                f"{count:.0f} of {total} examples of split {split} could not be decoded and "
                "were left out (--strict_data makes this an error)"
            )
        if count := results.get("eval/unlabelled_examples"):
            self._say(
                f"{count:.0f} of {total} examples of split {split} have no label and were left out"
            )

    def _own_model(self, precision: str | None = None) -> SimCLR:
        """The model as this worker can use it alone: the model itself where that will do.

        Args:
          precision: another than the run's.
        """
        config = self.config.replace(precision=precision) if precision else self.config
        if workers.num_workers(self.strategy) == 1 and config == self.config:
            return self.model
        if config.training.precision not in self._copies:
            made = build.make_model(config, self.num_classes)
            self._copies[config.training.precision] = made
        own = self._copies[config.training.precision]
        values = self.model.variables_by_path()
        for path, variable in own.variables_by_path().items():
            variable.assign(workers.local_variable(values[path]))
        return own

    def export(self):
        """The chief writes saved_model/STEP, which computes in float32 wherever it is loaded."""
        if not self.is_chief:
            return
        self.saved_model = self._export(
            "saved_model", self.checkpointer.step, keep=self.config.training.keep_hub_module_max
        )

    def _export(self, name: str, step: int, *, keep: int) -> str:
        """Writes the weights as they are to model_dir/NAME/STEP, in float32; returns its path."""
        model = self._own_model(precision="float32")
        if self._exportable is None:
            self._exportable = saved_model.exportable(model)
        return saved_model.write(
            self._exportable,
            os.path.join(self.model_dir, name),
            step,
            keep=keep,
            about=self._about(),
        )

    def export_best(self) -> dict:
        """With eval_every_epochs the chief writes saved_model_best/STEP.

        Returns:
          best_step, best_top_1 and best_saved_model; nothing without eval_every_epochs.
        """
        if not self.best_checkpointer:
            return {}
        best = run_dir.read_best(self.model_dir)
        prefix = os.path.join(self.model_dir, run_dir.BEST, f"ckpt-{best['global_step']}")
        self.best_checkpointer.restore(prefix, weights_only=True)
        path = None
        if self.is_chief:
            path = self._export("saved_model_best", best["global_step"], keep=1)
        self.checkpointer.restore(self.checkpointer.latest)
        return {
            "best_step": best["global_step"],
            "best_top_1": best[TOP_1],
            "best_saved_model": path,
        }

    def follow(self) -> dict:
        """mode=eval: evaluates and exports each new checkpoint until the last step's.

        Raises:
          ConfigError: not one checkpoint that can be read came in eval_timeout seconds.
        """
        timeout = self.config.training.eval_timeout or None
        results, began = None, time.monotonic()
        for prefix in tf.train.checkpoints_iterator(
            self.model_dir, min_interval_secs=1, timeout=timeout
        ):
            try:
                self.checkpointer.restore(prefix, weights_only=True)
            except weights.READ_ERRORS as error:
                self._say(f"{prefix} cannot be read ({one_line(error)}): waiting for the next")
                continue
            results = self.evaluate()
            self.export()
            line = ", ".join(f"{name} {value:.4f}" for name, value in results.items())
            print(f"{prefix}: {line}", flush=True)  # into a file, too, while the run goes on
            if self.checkpointer.step >= self.plan.total_steps:
                break
        if results is None:
            raise run_checkpoints.none_came(self.model_dir, time.monotonic() - began)
        return self.summary(results)

    def probe(self) -> dict:
        """The chief's summary of what the encoder has learned (`probe.summarise`)."""
        if not self.is_chief:
            return {}
        from tf_simclr.modes import probe

        return probe.summarise(
            self.config, self.source, self._own_model(), num_classes=self.num_classes
        )

    def summary(self, results: dict[str, float]) -> dict:
        """What run returns."""
        part = self.plan.evaluated_part(self.config.training.eval_batch_size)
        if TOP_1 in results and part:
            results = results | {"evaluated": (part, self.plan.num_eval)}
        return results | {
            "step": self.checkpointer.step,
            "checkpoint": self.checkpointer.latest,
            "saved_model": self.saved_model,
        }
