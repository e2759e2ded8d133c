"""Matches the classes of a data set with the classes of a trained head, by name.

The class names belong to the weights. When training starts, they are stored beside checkpoints and
SavedModels (`about_file.write_about`). Anything that reuses a trained head (resuming, evaluation,
fine-tuning from --checkpoint, distillation from --teacher) compares the head's class names with the
data set's by one rule:

- The names are equal: labels stay as they are.
- The head has all names of the data set: labels are mapped by name, and the head keeps its classes.
  A message says so.
- The head lacks a name: an error. Fine-tuning could start a new head instead, but what a command
  trains must not depend on the names in its data. --zero_init_logits_layer asks for a new head, as
  with a different number of classes.
- The names of the head are not on record (old runs, converted checkpoints): we assume the names of
  the data set. A message says so. Only the number of classes is compared, when the weights are
  restored.
"""

import dataclasses
import os
import re
from collections.abc import Sequence

import tensorflow as tf

from tf_simclr.checkpoints import about_file, teacher, weights_file
from tf_simclr.checkpoints.formats.stored import SUPERVISED_HEAD
from tf_simclr.checkpoints.formats.tensorflow import saved_model
from tf_simclr.config import Config
from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.relabel import RelabeledSource, UnknownClasses
from tf_simclr.errors import ConfigError, listed


@dataclasses.dataclass(frozen=True)
class TrainedHead:
    """A trained supervised head that a run starts or resumes from.

    Attributes:
      owner: flag and value that the head comes from, for messages.
      names: names of its classes, in the order of its logits; None if they are not on record.
      way_out: what to do if it does not fit the data set.
    """

    owner: str
    names: tuple[str, ...] | None
    way_out: str


@dataclasses.dataclass(frozen=True)
class MatchedSource:
    """A data set whose labels are class indices of the run's head.

    Attributes:
      source: the data set. Its classes may differ only in distillation without labels.
      names: names of the head's classes; None for a run without a head, or if they are unknown.
      note: a line for the user; None if the names are equal or there is no trained head.
    """

    source: Source
    names: tuple[str, ...] | None
    note: str | None = None


def match(config: Config, source: Source, *, has_head: bool) -> MatchedSource:
    """Compares the data set's class names with those of the head that the run starts from.

    Args:
      config: checked settings.
      source: the data set.
      has_head: whether the model of this run has a supervised head.

    Raises:
      ConfigError: the head lacks a class of the data set; the teacher's classes differ from the
        student's; there is no such checkpoint or teacher; about.json is damaged.
    """
    if not has_head:
        return MatchedSource(source, None)
    head = _trained_head(config)
    if config.training.train_mode == "distill":
        return _match_teacher(config, source, head)
    if head is None:
        return MatchedSource(source, source.class_names)
    return _match_head(source, head)


def _trained_head(config: Config) -> TrainedHead | None:
    """Finds the head that will be restored.

    It is the head in model_dir, otherwise the one in --checkpoint unless zero_init_logits_layer.
    """
    training, directory = config.training, config.runtime.model_dir
    if latest := tf.train.latest_checkpoint(directory):
        way_out = "use a data set of its classes, or use another model_dir"
        return _head_in(latest, f"model_dir {directory!r}", way_out)
    if not training.checkpoint or config.model.zero_init_logits_layer:
        return None
    return _head_in(
        weights_file.find(training.checkpoint),
        f"checkpoint {training.checkpoint!r}",
        "start a new head with --zero_init_logits_layer, or use a data set of its classes",
        variable_schema=training.variable_schema,
    )


def _head_in(
    prefix: str, owner: str, way_out: str, *, variable_schema: str | None = None
) -> TrainedHead | None:
    """Describes the head of a checkpoint; None if it has no head or the schema leaves it out.

    Raises:
      ConfigError: about.json beside the checkpoint names more or fewer classes than the head has.
    """
    directory = weights_file.about_directory(prefix)
    names = about_file.read_about(directory).class_names
    try:
        shapes = weights_file.open_weights(prefix).shapes
    except ConfigError:
        # Restoring will use an earlier checkpoint of the same run, or report the problem.
        return TrainedHead(owner, names, way_out)
    head_shapes = [
        shape
        for path, shape in shapes.items()
        if path.startswith(SUPERVISED_HEAD) and re.match(variable_schema or "", path)
    ]
    if not head_shapes:
        return None
    num_classes = max(shape[-1] for shape in head_shapes)
    if names and len(names) != num_classes:
        raise ConfigError(
            f"{os.path.join(directory, about_file.ABOUT)!r} names {len(names)} classes, but the "
            f"head in {owner} has {num_classes}: restore it, or delete it to continue without names"
        )
    return TrainedHead(owner, names, way_out)


def _match_head(source: Source, head: TrainedHead) -> MatchedSource:
    if head.names is None:
        return MatchedSource(
            source,
            source.class_names,
            f"The class names of {head.owner} are not on record: its classes are assumed to be "
            f"those of dataset {source.name}, in the same order.",
        )
    source_names = tuple(source.class_names or ())
    if source_names == head.names:
        return MatchedSource(source, head.names)
    try:
        relabeled = RelabeledSource(source, head.names)
    except UnknownClasses as error:
        raise ConfigError(
            f"dataset {source.name} has classes that {head.owner} was not trained on: "
            f"{_listed(error.names)} (it knows {_listed(head.names)}); {head.way_out}"
        ) from None
    known = f"{len(source_names)} of its {len(head.names)} classes"
    note = f"Labels of dataset {source.name} are mapped by class name to those of {head.owner}"
    return MatchedSource(relabeled, head.names, f"{note} ({known}).")


def _match_teacher(config: Config, source: Source, student: TrainedHead | None) -> MatchedSource:
    """Matches a distillation. The student's head has the teacher's classes.

    The data set needs no labels.

    Args:
      config: checked settings.
      source: the data set.
      student: the trained head that the student starts from, or None.
    """
    distill = config.distill
    assert distill.teacher is not None, "the settings are checked"
    teacher_head = TrainedHead(
        f"teacher {distill.teacher!r}",
        saved_model.read_about(teacher.find(distill.teacher)).class_names,
        "use a data set of its classes, or --distill_label_weight=0 --eval_every_epochs=0",
    )
    if student and student.names and teacher_head.names and student.names != teacher_head.names:
        raise ConfigError(
            f"{student.owner} has a head for {_listed(student.names)}, {teacher_head.owner} "
            f"teaches {_listed(teacher_head.names)}, and both must be the same in the same order; "
            f"{student.way_out}"
        )
    head = student if teacher_head.names is None else teacher_head
    if source.class_names is None or head is None or head.names is None:
        names = head.names if head else None
        return MatchedSource(source, names or source.class_names)
    try:
        return _match_head(source, head)
    except ConfigError:
        if distill.distill_label_weight or config.training.eval_every_epochs:
            raise
        return MatchedSource(source, head.names)  # labels are not used


def _listed(names: Sequence[str]) -> str:
    """Lists the first names in one line: "'cat', 'dog', 'owl' and 7 more"."""
    return listed(repr(name[:60]) for name in names)
