"""Examples without a label, which data sets mark by -1: STL-10's unlabelled, ImageNet's test."""

from tf_simclr.data.sources.tfds_source import Source
from tf_simclr.errors import ConfigError


def has_any(source: Source, split: str) -> bool:
    """Whether an example of a split has a label. Reads up to the first that has one."""
    labels = source.encoded_examples(split).map(lambda example: example["label"])
    return any(True for _ in labels.filter(lambda label: label >= 0).take(1))


def require(source: Source, split: str, *, flag: str, way_out: str):
    """Raises ConfigError where all labels of a split are missing, or the split itself is.

    Args:
      source: a data set with classes.
      flag: name of the setting that holds the split.
      way_out: what to do then, for the message.
    """
    source.num_examples(split, flag=flag)
    if not has_any(source, split):
        raise ConfigError(
            f"{flag} {split!r} of {source.name} has no labels, all of them are -1: {way_out}"
        )
