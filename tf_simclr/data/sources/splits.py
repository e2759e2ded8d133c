"""The common base of image sources: splits in TFDS's slicing syntax, and their parts."""

from collections.abc import Mapping, Sequence

import tensorflow_datasets as tfds

from tf_simclr.errors import ConfigError


class Splits:
    """Base class of the sources that read files.

    Attributes:
      name: name of the data set.
      splits: {name: tfds.core.SplitInfo}.
      label_note: explains why there are no labels although a feature looks like one; else "".
    """

    name: str
    label_note = ""

    @property
    def splits(self) -> Mapping[str, tfds.core.SplitInfo]:
        raise NotImplementedError

    def keep_listing(self) -> str | None:
        """Saves the results of the slow inspection for the next start; here there are none.

        Returns:
          Why they cannot be saved, in one line; None if they were saved or there are none.
        """
        return None

    def has_one_order(self, split: str) -> bool:
        """Returns False, because most sources shuffle their files (`protocol.Source`)."""
        return False

    def num_bytes(self, split: str) -> int:
        """Is not defined for splits whose order depends on the seed (`protocol.Source`)."""
        raise NotImplementedError

    def example_names(self, split: str, positions: Sequence[int]) -> list[str]:
        """Returns "SPLIT 17" for each position (`protocol.Source`)."""
        return [f"{split} {position}" for position in positions]

    def terms(self, split: str, *, flag: str = "split") -> list[tuple[str, int, int]]:
        """Returns a split's terms, each as (name, first example, one past its last).

        Raises:
          ConfigError: the split does not exist.
        """
        try:
            absolute = tfds.core.ReadInstruction.from_spec(split).to_absolute(self.splits)
        except (ValueError, KeyError, AssertionError) as error:
            if split in self.splits:
                raise ConfigError(
                    f"--{flag}={split} is a split of {self.name}, but its name is not valid in "
                    "TFDS: rename it to letters, digits, - and _"
                ) from error
            raise ConfigError(
                f"--{flag}={split} is not a split of {self.name}: use one of "
                f"{', '.join(self.splits)}, or a slice such as train[:10%]"
            ) from error
        return [
            (
                term.splitname,
                term.from_ or 0,
                self.splits[term.splitname].num_examples if term.to is None else term.to,
            )
            for term in absolute
        ]

    def num_examples(self, split: str, *, flag: str = "split") -> int:
        """Counts the examples in a split of TFDS's slicing syntax ("train[:1%]", "train+test").

        Args:
          split: the split.
          flag: name of the flag that holds it, for the message.

        Raises:
          ConfigError: the split does not exist or is empty.
        """
        count = sum(stop - start for _, start, stop in self.terms(split, flag=flag))
        if not count:
            raise ConfigError(
                f"--{flag}={split} is empty in {self.name}: use one of {', '.join(self.splits)}"
            )
        return count

    def part_of_split(self, split: str, num_parts: int, index: int, *, flag: str = "split") -> str:
        """Returns one of several equal parts of a split, as a split string.

        Reading a part opens only the files that contain its examples. The parts are contiguous and
        disjoint, and together they are the whole split. Their sizes differ by at most one, larger
        parts first. (tfds.even_splits divides each term of "train+test" separately: sizes then
        differ by more, and parts of small terms may be empty.)

        Args:
          split: TFDS split.
          num_parts: number of parts; 1 returns the split unchanged.
          index: index of the part, from 0.
          flag: name of the flag that holds the split, for the message.

        Raises:
          ConfigError: the split or the part does not exist, or there are fewer examples than parts.
        """
        total = self.num_examples(split, flag=flag)
        if not 0 <= index < num_parts:
            raise ConfigError(f"index must be in [0, {num_parts}), got {index}")
        if total < num_parts:
            raise ConfigError(
                f"--{flag}={split} has {total} examples for {num_parts} input pipelines: use a "
                "larger split or fewer workers"
            )
        if num_parts == 1:
            return split
        size, larger = divmod(total, num_parts)
        first = index * size + min(index, larger)
        last = first + size + (index < larger)
        parts, position = [], 0
        for name, start, stop in self.terms(split, flag=flag):
            low, high = max(first - position, 0), min(last - position, stop - start)
            if low < high:
                parts.append(f"{name}[{start + low}:{start + high}]")
            position += stop - start
        return "+".join(parts)
