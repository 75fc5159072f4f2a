"""What a study searches: its ranges, the known points to start from, and its identity.

A *setting* is a key of the recipe (TrainConfig) or of the variant's own hyperparameters. A known
recipe may lie outside its range (weight decay 0 does not exist on a log scale): it is then trained
exactly as given, and the sampler is told the nearest point of the space.
"""

import dataclasses
import math
import random
from collections.abc import Mapping
from typing import Literal

from bench.core.errors import BadInput
from bench.core.protocol import Scalar
from bench.core.spec import Choice, IntRange, RunSpec, SearchRange
from bench.metrics import METRICS
from bench.models.zoo import variant

Settings = Mapping[str, Scalar]


def search_space(model: str) -> dict[str, SearchRange]:
    """The search ranges of a variant's row.

    Raises BadInput for a variant that is solved rather than trained, or has nothing to search.
    """
    row = variant(model)
    if row.closed_form or not row.search:
        raise BadInput(
            f"model {model} has nothing to tune (it is solved, not trained); choose another --model"
        )
    return dict(row.search)


def settings_of(spec: RunSpec, space: Mapping[str, SearchRange]) -> dict[str, Scalar]:
    """The spec's value for each key of the space."""
    recipe = dataclasses.asdict(spec.train)
    return {key: recipe[key] if key in recipe else spec.hyperparameters[key] for key in space}


def known_recipes(spec: RunSpec, space: Mapping[str, SearchRange]) -> dict[str, Settings]:
    """Settings to try first: the protocol's own, and the origin's where it differs.

    From the origin's recipe only settings in the space are taken; the protocol holds the rest
    equal for all variants.
    """
    default = settings_of(spec, space)
    row = variant(spec.model)
    stated = {**row.hyperparameters, **row.origin_recipe}
    origin = {key: stated.get(key, value) for key, value in default.items()}
    recipes: dict[str, Settings] = {"default": default}
    if row.origin_recipe and origin != default:
        recipes["origin"] = origin
    return recipes


def nearest(settings: Settings, space: Mapping[str, SearchRange]) -> dict[str, Scalar]:
    """The point of the space nearest to settings that may lie outside."""
    return {key: _nearest(settings[key], kind) for key, kind in space.items()}


def _nearest(value: Scalar, kind: SearchRange) -> Scalar:
    if isinstance(kind, Choice):
        if value in kind.values:
            return value
        numbers = [v for v in kind.values if isinstance(v, int | float)]
        if numbers and isinstance(value, int | float):
            return min(numbers, key=lambda choice: abs(choice - value))
        return kind.values[0]
    low, high = kind.low, kind.high
    clipped = min(max(float(value), low), high)
    return round(clipped) if isinstance(kind, IntRange) else clipped


def random_point(space: Mapping[str, SearchRange], rng: random.Random) -> dict[str, Scalar]:
    """A point drawn uniformly from the space (on the log scale for log ranges)."""
    return {key: _draw(kind, rng) for key, kind in space.items()}


def _draw(kind: SearchRange, rng: random.Random) -> Scalar:
    if isinstance(kind, Choice):
        return rng.choice(kind.values)
    if isinstance(kind, IntRange) and not kind.log:
        return rng.randint(kind.low, kind.high)
    if kind.log:
        drawn = math.exp(rng.uniform(math.log(kind.low), math.log(kind.high)))
        return _nearest(drawn, kind)
    return rng.uniform(kind.low, kind.high)


def describe_range(kind: SearchRange) -> str:
    """A range in words; two ranges are equal if these are."""
    if isinstance(kind, Choice):
        return f"one of {list(kind.values)}"
    whole = "whole numbers " if isinstance(kind, IntRange) else ""
    return f"{whole}{kind.low:.12g} to {kind.high:.12g}{' (log)' if kind.log else ''}"


def direction(spec: RunSpec) -> Literal["minimize", "maximize"]:
    """`maximize` or `minimize`, from the row of the selection metric."""
    return "maximize" if METRICS[spec.selection_metric].higher_is_better else "minimize"


def identity(spec: RunSpec, space: Mapping[str, SearchRange]) -> dict[str, str]:
    """What must be equal for trials to belong to one study, as readable text by topic.

    FloatRange bounds are written with twelve digits, choices in their order (an optimiser's model
    of a choice depends on it).
    """
    own = ", ".join(f"{key}={value}" for key, value in sorted(spec.hyperparameters.items()))
    return {
        "protocol fingerprint": spec.protocol_fingerprint,
        "data digest": spec.data_digest[:16],
        "data set": spec.dataset_label,
        **_settings_in_words("train", spec.train),
        **_settings_in_words("split", spec.split),
        **_settings_in_words("evaluation", spec.evaluation),
        "revision of the model": f"{spec.model} {spec.model_revision}",
        "revision of the metric": f"{spec.selection_metric} "
        f"{spec.metric_revisions[spec.selection_metric]}",
        "direction": direction(spec),
        "training seed of the trials": str(spec.seed),
        "hyperparameters": own or "none",
        # Trials of known recipes are stored by name: a name must keep its meaning.
        **{
            f"{source} recipe": ", ".join(f"{key}={value}" for key, value in settings.items())
            for source, settings in known_recipes(spec, space).items()
        },
        **{f"range of {key}": describe_range(kind) for key, kind in space.items()},
    }


_EXPLAINED_BY = {
    "protocol fingerprint": ("train.", "split.", "evaluation."),
    "data digest": ("data set",),
}
"""Keys that explain in words what a digest beside them covers. They alone do not distinguish
studies: a folder of images may move."""
_WORDS = {"training seed of the trials": "training seed of the trials (1000 + --seed)"}


def _settings_in_words(part: str, config: object) -> dict[str, str]:
    return {f"{part}.{key}": str(value) for key, value in vars(config).items()}


def differences(stored: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The differences between a study and the requested one, in words."""
    changed = [key for key in dict.fromkeys([*stored, *now]) if stored.get(key) != now.get(key)]
    words = tuple(prefix for prefixes in _EXPLAINED_BY.values() for prefix in prefixes)
    found: list[str] = []
    for key in (key for key in changed if not key.startswith(words)):
        reasons = [k for k in changed if k.startswith(_EXPLAINED_BY.get(key, ())) and k in stored]
        for each in reasons or [key]:
            old, new = stored.get(each, "not searched"), now.get(each, "not searched")
            found.append(f"{_WORDS.get(each, each)} is {old} in the study and {new} now")
    return found
