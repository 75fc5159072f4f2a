"""The row type of MODELS, and what rows share: origins, recipes, outputs, search ranges."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.core.errors import BadInput
from bench.core.protocol import Scalar
from bench.core.spec import Choice, FloatRange, IntRange, SearchRange
from bench.core.tasks import TASKS, ModelKind

if TYPE_CHECKING:
    from bench.models.base import ImageModel

ORIGINS: Mapping[str, str] = {
    "reference": "what every table needs",
    "S0": "deep autoencoder and classifier study on Fashion-MNIST",
    "S1": "five small autoencoders compared on Fashion-MNIST",
    "S2": "two convolutional autoencoders compared by SSIM on Fashion-MNIST",
    "S3": "a tapered and a convolutional autoencoder on MNIST digits",
    "S4": "fully connected autoencoder at two code sizes on Fashion-MNIST",
    "literature": "from the papers that their classes name, sized for this suite",
}


def named_origin(origin: str) -> str:
    """`S1 (five small autoencoders compared on Fashion-MNIST)`: an origin with what it is; of a
    protocol that somebody else wrote, the name alone."""
    return f"{origin} ({ORIGINS[origin]})" if origin in ORIGINS else origin


OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "reconstruction": ("reconstruction", "code", "anomaly_score"),
    "classification": ("probabilities", "features", "logits"),
}
"""What a served model can return, by task; the first is the default."""

RECIPE_SEARCH: Mapping[str, SearchRange] = {
    "lr": FloatRange(1e-4, 2e-2, log=True),
    "batch_size": Choice((32, 64, 128, 256)),
    "weight_decay": FloatRange(1e-8, 1e-3, log=True),
}
"""Search ranges for the recipe of every trained variant."""

CLASSIFIER_SEARCH: Mapping[str, SearchRange] = {
    **RECIPE_SEARCH,
    "weight_decay": FloatRange(1e-6, 1e-1, log=True),
}
"""The same for classifiers, which overfit sooner and bear more weight decay."""

PENALTY_WEIGHT = FloatRange(0.0, 1e6)
"""Allowed weights of a penalty: 0 turns it off; far above the upper end it swamps the error."""
NOISE_LEVEL = FloatRange(0.0, 0.99)
"""Allowed shares that are dropped or masked at random (less than all), and standard deviations
of noise on pixels in [0, 1]."""

S0_RECIPE: Mapping[str, Scalar] = {"lr": 1e-3, "batch_size": 128, "schedule": "constant"}
S0_CLASSIFIER_RECIPE: Mapping[str, Scalar] = {
    **{"lr": 1e-3, "batch_size": 128, "weight_decay": 1e-4},
    **{"schedule": "step", "step_epochs": 20, "step_gamma": 0.5},
}
S1_RECIPE: Mapping[str, Scalar] = {"lr": 1e-3, "batch_size": 64, "schedule": "constant"}
S2_RECIPE = S4_RECIPE = S0_RECIPE
S3_RECIPE: Mapping[str, Scalar] = {**S1_RECIPE, "weight_decay": 1e-5}


@dataclass(frozen=True)
class Variant:
    """One row. `build(image_shape, size, **hyperparameters)` makes the untrained network.

    `size` is the latent size of an autoencoder, the number of classes of a classifier.
    `native_latent_dim`: the latent size of the origin; None if the network determines the code's
    size, which is then `native_code_size` for images of 1 x 28 x 28 (None for classifiers).
    `native_parameters`: those of the origin's network, for such images and 10 classes.
    `closed_form`: solved rather than trained. `value_range`: that of the outputs. Tests compare
    these with the class.
    `allowed` gives the range (inclusive) of each of the `hyperparameters`; the `search` ranges
    lie within.
    `origin_recipe`: the origin's recipe by keys of TrainConfig; a sweep tries it early.
    """

    line: str
    origin: str
    build: "Callable[..., ImageModel]"
    native_parameters: int
    native_latent_dim: int | None = None
    native_code_size: int | None = None
    kind: ModelKind = "autoencoder"
    revision: int = 1
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    allowed: Mapping[str, SearchRange] = field(default_factory=dict)
    search: Mapping[str, SearchRange] = field(default_factory=lambda: dict(RECIPE_SEARCH))
    origin_recipe: Mapping[str, Scalar] = field(default_factory=dict)
    closed_form: bool = False
    value_range: tuple[float, float] = (0.0, 1.0)
    may_be_champion: bool = True

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that can judge it: those that judge its kind of model."""
        return tuple(task.id for task in TASKS.values() if task.judges == self.kind)


def checked_value(where: str, value: Scalar, allowed: SearchRange) -> Scalar:
    """`value` in canonical form; BadInput that names `where` if it is not allowed.

    Infinity and NaN are never allowed.
    """
    number = math.nan if isinstance(value, bool | str) else value
    match allowed:
        case Choice(values):
            wanted = " or ".join(map(repr, values))
            # Compare types too: True equals 1 in Python, but has another identity.
            fits = any(value == one and type(value) is type(one) for one in values)
        case IntRange(low, high):
            wanted = f"a whole number from {low} to {high}"
            fits = isinstance(number, int) and low <= number <= high
        case FloatRange(low, high):
            wanted = f"a number from {low:.12g} to {high:.12g}"
            fits = low <= number <= high
    if not fits:
        raise BadInput(f"{where} must be {wanted}, got {value!r}")
    # 12 and 12.0 are the same value and must have the same identity.
    return float(value) if isinstance(allowed, FloatRange) else value
