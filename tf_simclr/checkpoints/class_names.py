"""Class names of a trained head, and data sets that number their classes otherwise.

The class names belong to the weights. They are stored beside every checkpoint and SavedModel when
training starts (`run_dir.write_about`). Whoever goes on with a trained head compares them with
those of the data set; there is one rule for all of them (resume, evaluation, fine-tuning from
--checkpoint, distillation from --teacher):

- The names are equal: there is nothing to do.
- The head knows all names of the data set: labels are mapped by name, and the head keeps its
  classes. A line says so.
- The head lacks a name: the run is refused. In fine-tuning, too, where a fresh head in place of the
  restored one would do: as with another number of classes, the user asks for it by
  --zero_init_logits_layer, so that what a command trains does not depend on the names in its data.
- The names of the head are not on record (old runs, converted checkpoints): only the number of
  classes is compared, where the weights are restored. The names are then those of the data set, and
  a line says so.
"""

import dataclasses
import os
import re
from collections.abc import Sequence

import tensorflow as tf

from tf_simclr.checkpoints import run_dir, teacher, weights
from tf_simclr.checkpoints.formats import saved_model
from tf_simclr.config import Config
from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.relabel import RelabelledSource, UnknownClasses
from tf_simclr.errors import ConfigError

SHOWN = 3  # names in a message


@dataclasses.dataclass(frozen=True)
class Head:
    """A trained supervised head that a run goes on with.

    Attributes:
      owner: what it belongs to, for messages: flag and value.
      names: of its classes, in the order of its logits; None where they are not on record.
      way_out: what to do where it does not fit.
    """

    owner: str
    names: tuple[str, ...] | None
    way_out: str


@dataclasses.dataclass(frozen=True)
class Matched:
    """A data set that has the class numbers of the run's head.

    Attributes:
      source: the data set. Only in a distillation without labels it may have other classes.
      names: of the head's classes; None for a run without a head or where nobody knows them.
      note: a line for the user; None where the names are equal or there is no trained head.
    """

    source: Source
    names: tuple[str, ...] | None
    note: str | None = None


def match(config: Config, source: Source, *, has_head: bool) -> Matched:
    """Compares the data set's class names with those of the head that the run goes on with.

    Raises:
      ConfigError: the head does not know all classes of the data set; the teacher's classes are
        not those of the student's head; no such checkpoint or teacher; a damaged about.json.
    """
    if not has_head:
        return Matched(source, None)
    head = _trained_head(config)
    if config.training.train_mode == "distill":
        return _match_teacher(config, source, head)
    if head is None:
        return Matched(source, source.class_names)
    return _match_head(source, head)


def _trained_head(config: Config) -> Head | None:
    """The head that will be restored: model_dir's, else --checkpoint's, unless it is left out."""
    training, directory = config.training, config.runtime.model_dir
    if latest := tf.train.latest_checkpoint(directory):
        way_out = "use a data set of its classes, or name another model_dir"
        return _head(latest, f"model_dir {directory!r}", way_out)
    if not training.checkpoint or config.model.zero_init_logits_layer:
        return None
    return _head(
        weights.find(training.checkpoint),
        f"checkpoint {training.checkpoint!r}",
        "start a new head by --zero_init_logits_layer, or use a data set of its classes",
        variable_schema=training.variable_schema,
    )


def _head(
    prefix: str, owner: str, way_out: str, *, variable_schema: str | None = None
) -> Head | None:
    """The head of a checkpoint; None where it has none or the schema leaves it out.

    Raises:
      ConfigError: the names beside the checkpoint are not as many as its classes.
    """
    directory = _about_directory(prefix)
    names = run_dir.read_about(directory)["class_names"]
    try:
        shapes = weights.read_shapes(prefix)
    except weights.READ_ERRORS:
        # Restoring takes an earlier checkpoint of the same run, or says what is wrong.
        return Head(owner, tuple(names) if names else None, way_out)
    restored = {
        path: shape
        for path, shape in shapes.items()
        if path.startswith(weights.SUPERVISED_HEAD) and re.match(variable_schema or "", path)
    }
    if not restored:
        return None
    num_classes = max(shape[-1] for shape in restored.values())
    if names and len(names) != num_classes:
        raise ConfigError(
            f"{os.path.join(directory, run_dir.ABOUT)!r} names {len(names)} classes, but the "
            f"head in {owner} has {num_classes}: restore it, or delete it to go on without names"
        )
    return Head(owner, tuple(names) if names else None, way_out)


def _about_directory(prefix: str) -> str:
    """Where about.json lies for a checkpoint's prefix: beside it, or in a SavedModel's assets."""
    directory = os.path.dirname(prefix)
    parent = os.path.dirname(directory)
    return (
        os.path.join(parent, saved_model.ASSETS)
        if saved_model.is_saved_model(parent)
        else directory
    )


def _match_head(source: Source, head: Head) -> Matched:
    if head.names is None:
        return Matched(
            source,
            source.class_names,
            f"The class names of {head.owner} are not on record: its classes are taken to be those "
            f"of dataset {source.name}, in the same order.",
        )
    if tuple(source.class_names) == head.names:
        return Matched(source, head.names)
    try:
        relabelled = RelabelledSource(source, head.names)
    except UnknownClasses as error:
        raise ConfigError(
            f"dataset {source.name} has classes that {head.owner} was not trained on: "
            f"{_shown(error.names)} (it knows {_shown(head.names)}); {head.way_out}"
        ) from None
    known = f"{len(source.class_names)} of its {len(head.names)} classes"
    note = f"Labels of dataset {source.name} are mapped by class name to those of {head.owner}"
    return Matched(relabelled, head.names, f"{note} ({known}).")


def _match_teacher(config: Config, source: Source, student: Head | None) -> Matched:
    """Distillation: the head has the teacher's classes; the data set need not have labels at all.

    Args:
      student: the trained head that the student starts from.
    """
    distill = config.distill
    names = saved_model.read_about(teacher.find(distill.teacher))["class_names"]
    head = Head(
        f"teacher {distill.teacher!r}",
        tuple(names) if names else None,
        "use a data set of its classes, or --distill_label_weight=0 --eval_every_epochs=0",
    )
    if student and student.names and head.names and student.names != head.names:
        raise ConfigError(
            f"{student.owner} has a head for {_shown(student.names)}, {head.owner} teaches "
            f"{_shown(head.names)}, and both must be the same in the same order; {student.way_out}"
        )
    if head.names is None:
        head = student
    if source.class_names is None or head is None or head.names is None:
        names = head.names if head else None
        return Matched(source, names or source.class_names)
    try:
        return _match_head(source, head)
    except ConfigError:
        if distill.distill_label_weight or config.training.eval_every_epochs:
            raise
        return Matched(source, head.names)  # labels are not used


def _shown(names: Sequence[str]) -> str:
    """The first names in one line: "'cat', 'dog', 'owl' and 7 more"."""
    first = ", ".join(repr(name[:60]) for name in names[:SHOWN])
    more = len(names) - SHOWN
    return f"{first} and {more} more" if more > 0 else first
