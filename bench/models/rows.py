"""The row type of MODELS, and what rows share: origins, recipes, outputs, search ranges."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.core.errors import BadInput
from bench.core.protocol import Scalar, TrainConfig
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
    "own": "not bench's: a class that was named by its file or module, or of an installed package",
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
    `stacks`: its seeds may train as one network (`models/stacking.py`): all weights are those of
    linear layers, and its formulas count axes from the last.
    `source`: the digest of the code of a model that is not one of MODELS (see `own`).
    """

    line: str
    origin: str
    build: "Callable[..., ImageModel]"
    native_parameters: int = 0
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
    stacks: bool = False
    source: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that can judge it: those that judge its kind of model."""
        return tuple(task.id for task in TASKS.values() if task.judges == self.kind)


@dataclass(frozen=True)
class Hyperparameter:
    """A hyperparameter as the class of an own model declares it: the default, the allowed range
    (inclusive), and what a sweep searches, within it; None: a sweep leaves it alone."""

    default: Scalar
    allowed: SearchRange
    search: SearchRange | None = None


def declared_row(network: Any, what: str, source: str) -> Variant:
    """The row of a model that is not one of MODELS, as its class declares it.

    `hyperparameters` maps names to `Hyperparameter`s; the constructor takes the shape of the images
    (C, H, W), the latent size (of a classifier: the number of classes) and these by name.
    `native_latent_dim` is the latent size that `--native` means, if it has one. Raises BadInput
    beginning with `what` for a class that is no model or declares something impossible.
    """
    from bench.models.base import Autoencoder, Classifier, ClosedFormAutoencoder

    if not (isinstance(network, type) and issubclass(network, Autoencoder | Classifier)):
        kind = "a class" if isinstance(network, type) else f"a {type(network).__name__}"
        raise BadInput(
            f"{what} is {kind} that is no Autoencoder or Classifier; derive it from "
            "bench.models.Autoencoder"
        )
    if missing := ", ".join(sorted(getattr(network, "__abstractmethods__", ()))):
        raise BadInput(f"{what} lacks {missing}; every model needs it")
    given = _declared(network, what)
    _check_constructor(network, what, given)
    trained = not issubclass(network, ClosedFormAutoencoder)
    classifies = issubclass(network, Classifier)
    recipe = (CLASSIFIER_SEARCH if classifies else RECIPE_SEARCH) if trained else {}
    searched = {key: each.search for key, each in given.items() if each.search is not None}
    native = getattr(network, "native_latent_dim", None)
    if native is not None and (not isinstance(native, int) or native < 1):
        raise BadInput(f"{what}: native_latent_dim must be a whole number from 1, got {native!r}")
    lines = (inspect.getdoc(network) or "").strip().splitlines()
    return Variant(
        line=lines[0] if "__doc__" in vars(network) and lines else "a model of your own",
        origin="own",
        build=network,
        native_latent_dim=native,
        kind="classifier" if classifies else "autoencoder",
        hyperparameters={key: each.default for key, each in given.items()},
        allowed={key: each.allowed for key, each in given.items()},
        search={**recipe, **searched},
        closed_form=not trained,
        value_range=getattr(network, "value_range", (0.0, 1.0)),
        may_be_champion=False,
        source=source,
    )


def _declared(network: Any, what: str) -> dict[str, Hyperparameter]:
    """The hyperparameters of a class, with canonical defaults."""
    given = getattr(network, "hyperparameters", {})
    if not isinstance(given, Mapping):
        raise BadInput(f"{what}: hyperparameters must be a dict of Hyperparameter, got {given!r}")
    found = {}
    for key, each in given.items():
        where = f"{what}: hyperparameters[{key!r}]"
        if not isinstance(each, Hyperparameter):
            raise BadInput(f"{where} must be a Hyperparameter(default, allowed, search)")
        if not isinstance(key, str) or not key.isidentifier() or key in TrainConfig.__annotations__:
            raise BadInput(f"{where}: the name must be an argument's, and no key of the recipe")
        ranges = [("allowed", each.allowed), *([("search", each.search)] if each.search else [])]
        for part, space in ranges:
            if not _is_range(space):
                raise BadInput(
                    f"{where}.{part} must be a FloatRange or IntRange with low < high, or a Choice "
                    f"of numbers, texts or truth values, got {space!r}"
                )
            for value in _ends(space):
                checked_value(f"{where}.{part}", value, each.allowed)
        default = checked_value(f"{where}.default", each.default, each.allowed)
        found[key] = Hyperparameter(default, each.allowed, each.search)
    return found


def _is_range(space: object) -> bool:
    match space:
        case Choice(values):
            return (
                isinstance(values, tuple)
                and len(values) > 0
                and all(isinstance(value, bool | int | float | str) for value in values)
            )
        case FloatRange(low, high, log) | IntRange(low, high, log):
            numbers = all(isinstance(end, int | float) for end in (low, high))
            return numbers and low < high and (low > 0 or not log)
    return False


def _ends(space: SearchRange) -> tuple[Scalar, ...]:
    return space.values if isinstance(space, Choice) else (space.low, space.high)


def _check_constructor(network: Any, what: str, given: Mapping[str, Hyperparameter]) -> None:
    """The constructor must take the shape, the size and each hyperparameter, and need no more."""
    try:
        inspect.signature(network.__init__).bind(None, (1, 28, 28), 8, **given)
    except TypeError as error:
        raise BadInput(
            f"{what}: __init__(self, image_shape, latent_dim, ...) must take the shape of the "
            f"images, the latent size and each hyperparameter by name, and need no more: {error}"
        ) from None


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
