"""Errors of reconstructions from codes that were sent with few bits per number.

The quantiser is `bench.evaluation.quantisation`. `with_few_bits` makes the rows of METRICS.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.core.protocol import EvaluationConfig
from bench.metrics.base import Metric, Tolerance
from bench.metrics.seen import SENT, Need, Seen, seen_of

if TYPE_CHECKING:
    from torch import Tensor


def with_few_bits(rows: Mapping[str, Metric], tolerance: Tolerance) -> dict[str, Metric]:
    """Rows of METRICS, with those of reconstructions from codes of few bits after the plain ones:
    every metric at 8 bits per number, since it may rank, and the MSE at 4 and 2 bits, with this
    tolerance."""
    of_images = {"images", "reconstructions"}
    plain = {name: row for name, row in rows.items() if row.needs == of_images and not row.further}
    coarse = [sent_with(8, row) for row in plain.values()]
    few = dataclasses.replace(plain["mse"], tolerance=tolerance)
    coarse += [sent_with(bits, few) for bits in (4, 2)]
    return {**plain, **{row.id: row for row in coarse}, **rows}


def sent_with(bits: int, row: Metric) -> Metric:
    """The same metric of images and reconstructions, where codes have `bits` bits per number."""
    need = next(need for need, number in SENT.items() if number == bits)
    return dataclasses.replace(
        row,
        id=coarse_id(row.id, bits),
        title=f"{row.title} at {bits} bits per number",
        formula=f"{row.formula}; each number of the code is one of 2^{bits} between its 0.1 % and "
        "99.9 % quantile in training",
        source=f"{row.source}; the quantiser: Gersho, Gray 1992, chapter 5",
        needs=frozenset({"images", need}),
        score=functools.partial(_score, row, need),
    )


def coarse_id(metric: str, bits: int = 8) -> str:
    """The id of a metric where codes have `bits` bits per number."""
    return f"{metric}_{bits}bit"


def _score(row: Metric, need: Need, seen: Seen, config: EvaluationConfig) -> "Tensor":
    given = {"images": seen.images, "reconstructions": seen.tensor(need)}
    return row.score(seen_of(given), config)  # type: ignore[arg-type]
