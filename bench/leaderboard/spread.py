"""How far the seeds of a row lie apart."""

import math
from collections.abc import Sequence

from bench.metrics import METRICS

WIDE_SPREAD = 0.03
"""Above this share the seeds of a row are said to differ: about what separates neighbours of a
table, so that a fourth seed may change the order."""


def error_of(score: float, metric: str) -> float:
    """A mean score as an error, of which ratios can be compared: lower is better, 0 is perfect.

    Errors are as they are; of decibels the power that they are the logarithm of; of shares such as
    SSIM and accuracy what is missing to a perfect score.
    """
    found = METRICS[metric]
    if not found.higher_is_better:
        return score
    return 10 ** (-score / 10) if found.unit == "dB" else found.best - score


def seed_spread(scores: Sequence[float], metric: str) -> float:
    """By which share the highest error of the seeds is above the lowest, from their mean scores.

    NaN with fewer than two seeds, or for a metric that METRICS does not have (any more).
    """
    if len(scores) < 2 or metric not in METRICS:
        return math.nan
    errors = [error_of(score, metric) for score in scores]
    low, high = min(errors), max(errors)
    if low > 0:
        return high / low - 1
    return math.inf if high > 0 else 0.0
