"""Checks for labels. -1 marks examples without one, as in STL-10's split unlabelled."""

from tf_simclr.data.sources.protocol import Source
from tf_simclr.errors import ConfigError


def has_any(source: Source, split: str) -> bool:
    """Returns whether any example of a split has a label. Reads up to the first that has one."""
    labels = source.encoded_examples(split).map(lambda example: example["label"])
    return any(True for _ in labels.filter(lambda label: label >= 0).take(1))


def require(source: Source, split: str, *, flag: str, way_out: str) -> None:
    """Checks that a split exists and has labels.

    Args:
      source: a data set with classes.
      split: TFDS split.
      flag: name of the setting that holds the split.
      way_out: what to do otherwise, for the message.

    Raises:
      ConfigError: the split does not exist, or none of its examples has a label.
    """
    source.num_examples(split, flag=flag)
    if not has_any(source, split):
        raise ConfigError(
            f"{flag} {split!r} of {source.name} has no labels (all are -1): {way_out}"
        )
