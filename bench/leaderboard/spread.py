"""Ratios of errors: how far the seeds of a row lie apart, and what fewer bits of its code cost."""

import math
from collections.abc import Mapping, Sequence

from bench.metrics import METRICS
from bench.metrics.quantised import coarse_id
from bench.metrics.units import error_of

WIDE_SPREAD = 0.03
"""Above this share the seeds of a row are said to differ: about what separates neighbours of a
table, so that a fourth seed may change the order."""

WORTH_A_NOTE, TOO_MUCH = 0.05, 0.25
"""By which share the error of codes with 8 bits per number may be above that of the codes as they
are, before the row says so, and before it has no rank. Honest codes lose about 0.001; numbers that
several others are packed into lose them all."""


def seed_spread(scores: Sequence[float], metric: str) -> float:
    """By which share the highest error of the seeds is above the lowest, from their mean scores.

    NaN with fewer than two seeds, or for a metric that METRICS does not have (any more).
    """
    if len(scores) < 2 or metric not in METRICS:
        return math.nan
    errors = [error_of(metric, score) for score in scores]
    low, high = min(errors), max(errors)
    if low > 0:
        return high / low - 1
    return math.inf if high > 0 else 0.0


def loss_at_8_bits(scores: Mapping[str, float], metric: str) -> float:
    """By which share the error on validation rises if each number of the code has 8 bits.

    `scores` by column of the ledger, means of a row or of a run. NaN where either score is not
    there: older rows, discrete codes, models without a code.
    """
    if metric not in METRICS:
        return math.nan
    plain, coarse = (
        error_of(metric, scores.get(f"val_{name}", math.nan))
        for name in (metric, coarse_id(metric))
    )
    if plain > 0 or math.isnan(plain) or math.isnan(coarse):
        return coarse / plain - 1 if plain else math.nan
    return math.inf if coarse > 0 else 0.0
