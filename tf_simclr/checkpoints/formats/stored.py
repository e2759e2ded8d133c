"""Describes the variables of one model in a file. Every reader of a format returns this."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SUPERVISED_HEAD = "head_supervised/"  # prefix of the paths of its variables
# A note that does not matter to a run that trains: there, the selector is a choice of the user.
SELECTOR_IS_HIDDEN = (
    "The file does not show which layer its supervised head reads. The backbone's output is "
    "assumed. Give --ft_proj_selector=1 for SimCLRv2's weights that were fine-tuned with 1% or 10% "
    "of the labels."
)


@dataclasses.dataclass(frozen=True)
class Stored:
    """The variables of a model in a file, under our paths. Values are read on demand.

    A file may claim any shape, so compare `shapes` with the model before reading a value.

    Attributes:
      kind: what the file is, for messages: "a TF1 checkpoint of the official code".
      shapes: {our path: shape}; our paths are the keys of `SimCLR.variables_by_path`.
      read: function from our path to the variable's value, in our layout.
      settings: settings of the model that the format implies and no shape shows, {name: value}.
      notes: sentences for the user: what the file lacks, or how its network differs.
    """

    kind: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """Returns the number of classes of the supervised head; None if there is no head."""
        bias = self.shapes.get(f"{SUPERVISED_HEAD}dense/bias")
        return bias[0] if bias else None
