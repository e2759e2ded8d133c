"""Defines Config, which holds a value for every setting."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from tf_simclr.config.sections import (
    Augment,
    Data,
    Distill,
    Loss,
    Model,
    Optimizer,
    Predict,
    Probe,
    Runtime,
    Training,
    settings,
)
from tf_simclr.errors import ConfigError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Config:
    """Holds a value for every setting, by section: `config.loss.temperature`.

    Example:
        >>> config = Config().replace(dataset="cifar10", image_size=32, temperature=0.5)
        >>> config.loss.temperature
        0.5
    """

    data: Data = Data()
    augment: Augment = Augment()
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    distill: Distill = Distill()
    probe: Probe = Probe()
    predict: Predict = Predict()
    runtime: Runtime = Runtime()

    def items(self) -> Iterator[tuple[str, str, Any]]:
        """Yields (section, name, value) of every setting, such as ('Loss', 'temperature', 0.1)."""
        for name, spec in settings().items():
            yield spec.section, name, getattr(getattr(self, spec.section.lower()), name)

    def to_dict(self) -> dict[str, Any]:
        """Returns {name: value} of every setting."""
        return {name: value for _, name, value in self.items()}

    def to_json(self) -> str:
        """Returns the text of flags.json: {name: value} of every setting."""
        return json.dumps(self.to_dict(), indent=2)

    def replace(self, **values: Any) -> "Config":
        """Returns a copy with other values, given by name: `config.replace(temperature=0.5)`.

        Raises:
          ConfigError: there is no setting of that name.
        """
        sections: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in settings():
                raise ConfigError(f"unknown setting {name}{did_you_mean(name, settings())}")
            sections.setdefault(settings()[name].section.lower(), {})[name] = value
        return dataclasses.replace(
            self,
            **{
                section: dataclasses.replace(getattr(self, section), **changes)
                for section, changes in sections.items()
            },
        )
