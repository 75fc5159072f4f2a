"""Rows of METRICS: what encoding and decoding cost."""

import math
from functools import partial

from bench.core.lazy import Lazy
from bench.metrics.base import Metric

_cost = partial(
    Metric,
    task="cost",
    revision=1,
    decimals=0,
    bounds=(0.0, math.inf),
    transform="log",
    source="measured on the machine that scored the run",
    needs=frozenset({"images", "model"}),
    per_image=False,
)

COST = (
    *(
        _cost(
            id=f"{what}_speed_{batch}",
            title=f"{what.title()} speed, batch of {batch}",
            short=f"{what}/s" if batch == 256 else "",
            higher_is_better=True,
            unit="images/s",
            formula=f"{batch} / median seconds of {what} {batch} at once",
            score=partial(Lazy("bench.metrics.cost", "speed"), what, batch),
        )
        for what in ("encoding", "decoding")
        for batch in (1, 256)
    ),
    _cost(
        id="peak_memory",
        title="Peak memory",
        short="memory",
        higher_is_better=False,
        unit="bytes",
        formula="bytes of all tensors alive at once, weights included, while 256 images are "
        "encoded and decoded",
        score=Lazy("bench.metrics.cost", "peak_memory"),
    ),
    _cost(
        id="weight_bytes",
        title="Bytes of weights",
        short="weights",
        higher_is_better=False,
        unit="bytes",
        formula="bytes of the stored weights",
        needs=frozenset({"model"}),
        score=Lazy("bench.metrics.cost", "weight_bytes"),
    ),
)
