"""The metric `example_bench.worst_pixel`."""

from bench.core.lazy import Lazy
from bench.metrics import Metric

WORST_PIXEL = Metric(
    id="worst_pixel",
    title="Largest error of a pixel",
    task="reconstruction",
    higher_is_better=False,
    revision=1,
    unit="",
    decimals=4,
    bounds=(0.0, 1.0),
    transform="log",
    formula="max |x - x_hat|",
    source="the usual definition",
    needs=frozenset({"images", "reconstructions"}),
    # Imported when it is first used: tables need the row alone, and no torch.
    score=Lazy("example_bench.scores", "worst_pixel"),
)
