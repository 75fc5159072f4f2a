"""Rows of METRICS: what lies on straight lines between two codes."""

from bench.core.lazy import Lazy
from bench.metrics.base import Metric

_PATHS = "1,000 pairs of test images (250 of validation), 11 evenly spaced codes"

INTERPOLATION = (
    Metric(
        id="path_variation",
        title="Variation of steps",
        short="steps",
        task="interpolation",
        higher_is_better=False,
        revision=1,
        unit="",
        decimals=3,
        bounds=(0.0, 3.0),
        transform="log",
        formula=f"standard deviation / mean of the 10 steps' lengths in feature space; {_PATHS}",
        source="after the perceptual path length of Karras, Laine, Aila 2019",
        needs=frozenset({"vectors", "pairs", "decode", "network"}),
        score=Lazy("bench.metrics.interpolation", "path_variation"),
        per_image=False,
    ),
    Metric(
        id="midpoint_distance",
        title="Distance of midpoints",
        short="midpoints",
        task="interpolation",
        higher_is_better=False,
        revision=1,
        unit="",
        decimals=3,
        bounds=(0.0, float("inf")),
        transform="log",
        formula="feature distance of the middle of a path to its nearest training image / that of "
        f"the images; {_PATHS}",
        source="the distance of Kynkäänniemi et al. 2019 to a set of images",
        needs=frozenset({"vectors", "pairs", "decode", "network", "features", "train"}),
        score=Lazy("bench.metrics.interpolation", "midpoint_distance"),
        per_image=False,
    ),
    Metric(
        id="path_confidence",
        title="Confidence on paths",
        short="confidence",
        task="interpolation",
        higher_is_better=True,
        revision=1,
        unit="",
        decimals=3,
        bounds=(0.0, 1.0),
        transform="log_one_minus",
        formula=f"mean probability of the most likely class by the feature network; {_PATHS}",
        source="the usual definition of confidence (Guo et al. 2017)",
        needs=frozenset({"vectors", "pairs", "decode", "network", "confidence"}),
        score=Lazy("bench.metrics.interpolation", "path_confidence"),
        per_image=False,
    ),
)
