"""SimCLR in TensorFlow and Keras: pretraining, fine-tuning, evaluation and export.

`import tf_simclr` imports no TensorFlow. Each public name is imported on its first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_simclr.config import Config
    from tf_simclr.data.augment.two_views import augmentation
    from tf_simclr.experiment import run
    from tf_simclr.losses.nt_xent import nt_xent
    from tf_simclr.models.simclr import SimCLR
    from tf_simclr.optim.lars import LARS
    from tf_simclr.optim.schedule import WarmUpAndCosineDecay

__version__ = "0.1.0"

__all__ = [
    "LARS",
    "Config",
    "SimCLR",
    "WarmUpAndCosineDecay",
    "__version__",
    "augmentation",
    "nt_xent",
    "run",
]

_MODULES = {
    "Config": "tf_simclr.config",
    "LARS": "tf_simclr.optim.lars",
    "SimCLR": "tf_simclr.models.simclr",
    "WarmUpAndCosineDecay": "tf_simclr.optim.schedule",
    "augmentation": "tf_simclr.data.augment.two_views",
    "nt_xent": "tf_simclr.losses.nt_xent",
    "run": "tf_simclr.experiment",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
