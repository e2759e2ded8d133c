"""Maps a data set's labels to a trained head's class indices, by class name."""

from collections.abc import Sequence

import tensorflow as tf

from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.wrapped import WrappedSource


class UnknownClasses(ValueError):
    """The data set has classes that the head was not trained on.

    Attributes:
      names: names of these classes, in the data set's order.
    """

    def __init__(self, names: Sequence[str]):
        super().__init__(f"unknown classes: {', '.join(map(repr, names))}")
        self.names = tuple(names)


def class_numbers(names: Sequence[str], head_names: Sequence[str]) -> list[int]:
    """Returns the head's index of each class of a data set.

    Args:
      names: names of the data set's classes, in the order of its labels.
      head_names: names of the head's classes, in the order of its logits.

    Raises:
      UnknownClasses: the head lacks some of the names.
    """
    numbers = {name: number for number, name in enumerate(head_names)}
    if unknown := [name for name in names if name not in numbers]:
        raise UnknownClasses(unknown)
    return [numbers[name] for name in names]


class RelabeledSource(WrappedSource):
    """A labeled source whose labels are the class indices of a trained head.

    Everything else is as in the wrapped source. Labels below 0 mean "unlabeled" and do not change.

    Attributes:
      class_names: the head's classes, in the order of its logits. The data set may lack some.
      num_classes: number of the head's classes.
    """

    def __init__(self, source: Source, head_names: Sequence[str]):
        """Maps the labels by class name.

        Raises:
          UnknownClasses: the source has classes that are not among head_names.
        """
        super().__init__(source)
        self._numbers = class_numbers(source.class_names or (), head_names)
        self.class_names = tuple(head_names)
        self.num_classes = len(self.class_names)

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Reads a split once, in the order of the wrapped source."""
        numbers = tf.constant(self._numbers, tf.int64)

        def relabel(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            label = example["label"]
            mapped = tf.gather(numbers, tf.maximum(label, 0))
            return {**example, "label": tf.where(label < 0, label, mapped)}

        dataset = super().encoded_examples(
            split, shuffle_files=shuffle_files, seed=seed, with_id=with_id
        )
        return dataset.map(tf.autograph.experimental.do_not_convert(relabel))
