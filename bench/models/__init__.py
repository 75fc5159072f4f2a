"""The variants: `zoo` holds MODELS, the other files one family of networks each.

A model of your own needs these names, which are imported on first use:

    from bench.models import Autoencoder, Choice, FloatRange, Hyperparameter, IntRange
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.core.spec import Choice, FloatRange, IntRange
    from bench.models.base import Autoencoder, Classifier, ClosedFormAutoencoder, Embedding
    from bench.models.rows import Hyperparameter

__all__ = [
    "Autoencoder",
    "Choice",
    "Classifier",
    "ClosedFormAutoencoder",
    "Embedding",
    "FloatRange",
    "Hyperparameter",
    "IntRange",
]

_HOMES = {
    **dict.fromkeys(("Choice", "FloatRange", "IntRange"), "core.spec"),
    **dict.fromkeys(
        ("Autoencoder", "Classifier", "ClosedFormAutoencoder", "Embedding"), "models.base"
    ),
    "Hyperparameter": "models.rows",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
