"""Opens a run and its data set, and encodes images with its encoder."""

import dataclasses
from collections.abc import Collection, Sequence

from tf_simclr.config import Config
from tf_simclr.data.sources import opening
from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.relabel import RelabeledSource, UnknownClasses
from tf_simclr.errors import ConfigError
from tf_simclr.probes.features import PRETRAINED, UNTRAINED
from tf_simclr.report.content import Images
from tf_simclr.report.images import encoded_images, image_sets, trained_encoder
from tf_simclr.report.images.encoded_images import Options
from tf_simclr.report.images.image_sets import MAX_IMAGES, ImageSet
from tf_simclr.report.images.trained_encoder import TrainedEncoder

# Splits to show if the run has not evaluated on one.
TEST_SPLITS = ("validation", "test", "val", "valid", "testing", "dev")


@dataclasses.dataclass(frozen=True)
class RunImages:
    """Encoded images of a run's data set.

    Attributes:
      encoder: the encoder.
      dataset: name of the data set.
      class_names: names of the classes that the labels index; None without labels.
      train: the training images; None if they are not wanted, or overlap with the test images.
      test: the test images.
      notes: what was left out, and why.
    """

    encoder: TrainedEncoder
    dataset: str
    class_names: tuple[str, ...] | None
    train: ImageSet | None
    test: ImageSet
    notes: tuple[str, ...]


def summarize(
    path: str, config: Config, *, fixed: Collection[str] = (), options: Options | None = None
) -> tuple[Images, list[str]]:
    """Shows on images what the encoder of a run has learned (`encoded_images.summarize`).

    It reads only, so the run may go on meanwhile.

    Args:
      path: a model_dir, or weights in any format that docs/formats.md lists.
      config: checked settings, with those of the run and its data.
      fixed: names of the settings that the weights must not change: those given as flags.
      options: what to show; None for the defaults.

    Returns:
      The content of the report, and notes: texts that say what was left out, and why.

    Raises:
      ConfigError: there are no weights, no such data set or split, or no such query.
      UndecodableError: no image of a split can be decoded.
    """
    options = options or encoded_images.DEFAULTS
    opened = open_and_encode(path, config, fixed=fixed, queries=options.queries)
    queries = tuple(image_sets.full_names(opened.test, options.queries))
    images, notes = encoded_images.summarize(
        opened.train,
        opened.test,
        opened.class_names,
        checkpoint=opened.encoder.checkpoint,
        dataset=opened.dataset,
        options=dataclasses.replace(options, queries=queries),
    )
    return images, [*opened.notes, *notes]


def open_and_encode(
    path: str,
    config: Config,
    *,
    fixed: Collection[str] = (),
    with_train: bool = True,
    count: int = MAX_IMAGES,
    queries: Sequence[str] = (),
) -> RunImages:
    """Opens an encoder and its data, and encodes images of its splits.

    Args:
      path: a model_dir, or weights in any format that docs/formats.md lists.
      config: checked settings, with those of the run and its data.
      fixed: names of the settings that the weights must not change: those given as flags.
      with_train: whether to encode training images also, and with the encoder before training.
      count: largest number of images of each split.
      queries: names of test images to encode in any case.

    Raises:
      ConfigError: there are no weights, no such data set or split, or no such query.
      UndecodableError: no image of a split can be decoded.
    """
    trained_encoder.check(path)
    source = opening.open_data(config)
    config, notes = _with_splits(config, source, fixed)
    train_split, eval_split = config.data.train_split, config.data.eval_split
    wanted = image_sets.find_positions(source, eval_split, queries)
    if with_train and train_split != eval_split:
        source.num_examples(train_split, flag="train_split")
        if note := image_sets.overlap_note(source, train_split, eval_split):
            notes.append(note)
            with_train = False
    encoder = trained_encoder.open_encoder(path, config, fixed=fixed, with_before=with_train)
    source, has_head = _match_head(source, encoder)
    encoders = {UNTRAINED: encoder.before} if encoder.before else {}
    encoders[PRETRAINED] = encoder.model
    test = image_sets.encode(
        encoder.config,
        source,
        encoders,
        eval_split,
        count=count,
        wanted=wanted,
        predictions_of=PRETRAINED if has_head else None,
    )
    train = None
    if with_train:
        train = test
        if train_split != eval_split:
            train = image_sets.encode(encoder.config, source, encoders, train_split, count=count)
    return RunImages(
        encoder, source.name, source.class_names, train, test, (*encoder.notes, *notes)
    )


def _with_splits(
    config: Config, source: Source, fixed: Collection[str]
) -> tuple[Config, list[str]]:
    """Checks the splits. A run that never evaluates may name a split that does not exist.

    Returns:
      The settings with another split instead, and a note: a split for tests or, if there is none,
      the training split.

    Raises:
      ConfigError: the training split does not exist, or the flag eval_split names none.
    """
    try:
        source.num_examples(config.data.eval_split, flag="eval_split")
        return config, []
    except ConfigError:
        if "eval_split" in fixed:
            raise
    train_split = config.data.train_split
    source.num_examples(train_split, flag="train_split")
    note = f"{source.name} has no split {config.data.eval_split}: the images are those of split "
    for split in TEST_SPLITS:
        if split in source.splits and not image_sets.overlap(source, split, train_split):
            return config.replace(eval_split=split), [f"{note}{split}."]
    note += f"{train_split}, which the encoder was trained on."
    return config.replace(eval_split=train_split), [note]


def _match_head(source: Source, encoder: TrainedEncoder) -> tuple[Source, bool]:
    """Returns the data set, and whether the supervised head was trained on its classes.

    A head that knows all of its classes, and more, gives the labels their indices.
    """
    names, head_names = source.class_names, encoder.class_names
    if not names or not head_names:
        return source, False
    if tuple(names) == tuple(head_names):
        return source, True
    try:
        return RelabeledSource(source, head_names), True
    except UnknownClasses:
        return source, False
