"""Settings of a search: keys of the recipe (TrainConfig) or of a variant's hyperparameters."""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from bench.core.protocol import Scalar, TrainConfig
from bench.core.spec import RunSpec
from bench.models.zoo import checked_hyperparameters

Spec = TypeVar("Spec", bound=RunSpec)

RECIPE_KEYS = {field.name for field in dataclasses.fields(TrainConfig)}


def with_settings(spec: Spec, settings: Mapping[str, Scalar]) -> Spec:
    """The spec with other settings; BadInput for a key that this variant does not have."""
    recipe = {key: value for key, value in settings.items() if key in RECIPE_KEYS}
    own = {key: value for key, value in settings.items() if key not in RECIPE_KEYS}
    checked = checked_hyperparameters(spec.model, {**spec.hyperparameters, **own})
    train = dataclasses.replace(spec.train, **recipe)  # type: ignore[arg-type]
    return dataclasses.replace(spec, train=train, hyperparameters=checked)
