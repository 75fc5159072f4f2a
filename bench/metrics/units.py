"""Mean scores as errors, and in the unit of comparisons: its differences are relative ones of
errors."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.metrics import METRICS
from bench.metrics.base import Transform

FLOORS: Mapping[Transform, float] = MappingProxyType({"log": 1e-10, "log_one_minus": 1e-5})
"""The smallest error that is told from 0, by transform: the error of an image at the cap of PSNR
(100 dB), and, for 1 - score, a tenth of one wrong image in 10,000."""

V = TypeVar("V", float, NDArray[np.float64])


def error_of(metric: str, value: V) -> V:
    """Mean scores of a metric as errors, of which ratios can be compared: lower is better, 0 is
    perfect.

    Errors are as they are; of decibels the power that they are the logarithm of; of all other
    scores, such as SSIM and accuracy, what is missing to the best one. KeyError for a metric that
    METRICS does not have.
    """
    row = METRICS[metric]
    if not row.higher_is_better:
        return value
    error: V = 10 ** (-value / 10) if row.unit == "dB" else row.best - value
    return error


def comparison_unit(metric: str, value: V) -> V:
    """Mean scores of a metric in the unit of comparisons: a float for a float, else float64 of the
    same shape.

    Errors (MSE, MAE, cross-entropy) become log(value), shares and similarities (accuracy, SSIM)
    log(1 - value); PSNR, which is a logarithm already, stays in dB. Errors below FLOORS count as
    the floor; NaN stays NaN. A difference of 0.02 is thus about 2 % of an error. Lower is better in
    both logarithms, higher in PSNR. `metric` is an id of METRICS; KeyError for any other.
    """
    transform = METRICS[metric].transform
    found: Any = np.asarray(value, dtype=np.float64)
    if transform != "identity":
        error = error_of(metric, found) if transform == "log_one_minus" else found
        found = np.log(np.maximum(error, FLOORS[transform]))
    answer: V = found if isinstance(value, np.ndarray) else float(found)
    return answer


def mean_score(metric: str, value: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `comparison_unit`: mean scores from values in the unit of comparisons."""
    transform = METRICS[metric].transform
    if transform == "identity":
        return value
    errors: NDArray[np.float64] = np.exp(value)
    return errors if transform == "log" else 1 - errors
