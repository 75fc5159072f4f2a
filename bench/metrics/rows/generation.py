"""Rows of METRICS: what decoded draws are worth, by sampler and feature network.

Of the three samplers of `bench.metrics.generation`, and, to compare with, of real images; in the
features of the network pinned for the data set, and, to compare with, in those of an untrained one.
"""

from dataclasses import dataclass
from functools import partial

from bench.core.lazy import Lazy
from bench.metrics.base import Metric, Transform
from bench.metrics.seen import Need

_INFINITE = float("inf")


@dataclass(frozen=True)
class _Measure:
    """What the rows of a measure have in common."""

    id: str
    title: str
    higher_is_better: bool
    decimals: int
    bounds: tuple[float, float]
    transform: Transform
    formula: str
    source: str


_MEASURES = (
    _Measure(
        "fcd",
        "FCD",
        False,
        2,
        (0.0, _INFINITE),
        "log",
        "Fréchet classifier distance: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the features "
        "of part and samples",
        "Dowson, Landau 1982; Heusel et al. 2017 with another network",
    ),
    _Measure(
        "precision",
        "Precision",
        True,
        3,
        (0.0, 1.0),
        "log_one_minus",
        "share of samples in the ball of a real image up to its 3rd nearest real image",
        "Kynkäänniemi et al. 2019",
    ),
    _Measure(
        "recall",
        "Recall",
        True,
        3,
        (0.0, 1.0),
        "log_one_minus",
        "share of real images in the ball of a sample up to its 3rd nearest sample",
        "Kynkäänniemi et al. 2019",
    ),
    _Measure(
        "density",
        "Density",
        True,
        3,
        (0.0, _INFINITE),
        "identity",
        "real images in whose ball up to the 5th nearest real image a sample lies, mean over "
        "samples, divided by 5",
        "Naeem et al. 2020",
    ),
    _Measure(
        "coverage",
        "Coverage",
        True,
        3,
        (0.0, 1.0),
        "log_one_minus",
        "share of real images in whose ball up to the 5th nearest real image a sample lies",
        "Naeem et al. 2020",
    ),
)
_CLOSENESS = _Measure(
    "closeness",
    "Closeness",
    False,
    3,
    (0.0, 1.0),
    "log",
    "share of samples nearer to their nearest training image than this one is to another",
    "after Meehan, Chaudhuri, Dasgupta 2020; about 1/2 for new images, 1 for copies",
)
_SAMPLERS = ("mixture", "gaussian", "prior")
_SOURCES = {
    "mixture": "10 Gaussians",
    "gaussian": "Gaussian",
    "prior": "N(0, I)",
    "real": "real images",
    "mean_image": "the mean image",
}
_NEEDS: dict[str, frozenset[Need]] = {
    "mixture": frozenset({"short_vectors", "decode"}),
    "gaussian": frozenset({"short_vectors", "decode"}),
    "prior": frozenset({"vectors", "decode"}),
    "real": frozenset({"counterpart"}),
    "mean_image": frozenset({"mean_image"}),
}


def _needs(measure: _Measure, source: str, function: frozenset[Need]) -> frozenset[Need]:
    if source == "real":  # there the images of the part itself are near to training images or not
        return frozenset() if measure is _CLOSENESS else _NEEDS[source]
    return _NEEDS[source] | function


_SHORT = {"fcd_mixture": "FCD mixture", "fcd_gaussian": "Gaussian", "fcd_prior": "N(0, I)"}
_HEADLINE = "mixture"
"""The sampler whose other measures are shown first."""


def _row(measure: _Measure, source: str, network: str = "trained") -> Metric:
    trained = network == "trained"
    prefix = "" if trained else "untrained_"
    name = f"{measure.id}_{source}"
    beside = source in ("real", "mean_image")
    features: frozenset[Need] = frozenset({"features"} if trained else {"untrained_features"})
    function: frozenset[Need] = frozenset({"network"} if trained else {"untrained_network"})
    needs: frozenset[Need] = features | _needs(measure, source, function) | {"train"}
    return Metric(
        id=prefix + name,
        title=f"{measure.title}, {_SOURCES[source]}" + ("" if trained else ", untrained network"),
        task="generation",
        higher_is_better=measure.higher_is_better,
        revision=1,
        unit="",
        decimals=measure.decimals + (0 if trained else 3 * (measure.id == "fcd")),
        bounds=measure.bounds,
        transform=measure.transform,
        formula=f"{measure.formula}; {_SOURCES[source]}"
        + ("" if trained else "; features of an untrained network"),
        source=measure.source,
        needs=needs,
        score=partial(
            Lazy("bench.metrics.generation", "score"),
            measure=measure.id,
            source=source,
            network=network,
        ),
        per_image=False,
        short=_SHORT.get(name, "") if trained else "",
        detail=not trained or (measure.id != "fcd" and source not in (_HEADLINE, "real")),
        beside=_SOURCES[source] if beside else "",
        under=tuple(f"{prefix}{measure.id}_{each}" for each in _SAMPLERS) if beside else (),
    )


_COMPARED = (*_SAMPLERS, "real")
GENERATION = (
    *(_row(measure, source) for measure in (*_MEASURES, _CLOSENESS) for source in _COMPARED),
    _row(_MEASURES[0], "mean_image"),
    *(_row(measure, source, "untrained") for measure in _MEASURES for source in _COMPARED),
)
