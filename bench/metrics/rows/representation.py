"""Rows of METRICS: what a code is worth as a representation."""

from bench.core.lazy import Lazy
from bench.metrics.base import Metric

REPRESENTATION = (
    Metric(
        id="knn_accuracy",
        title="5-nearest-neighbour accuracy",
        task="representation",
        higher_is_better=True,
        revision=1,
        unit="",
        decimals=4,
        bounds=(0.0, 1.0),
        transform="log_one_minus",
        formula="share of images with the class of most of the 5 nearest standardised "
        "training codes",
        source="Cover, Hart 1967; of autoencoders: Sainburg, McInnes, Gentner 2021",
        needs=frozenset({"codes", "labels", "train"}),
        score=Lazy("bench.metrics.neighbours", "knn_accuracy"),
        per_image=False,
    ),
)
