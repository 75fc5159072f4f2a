"""Calibration of a classifier's confidence in equal-width bins; numpy alone, for figures too."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Equal-width bins of the calibration error, as in Guo, Pleiss, Sun and Weinberger 2017."""


class CalibrationBins(NamedTuple):
    """Float64 arrays (BINS,): images, and their mean confidence and accuracy (0 if none)."""

    images: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Sum over bins of (share of the images) x |accuracy - mean confidence|, in [0, 1]."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((self.images * gaps).sum() / self.images.sum())


def calibration_bins(confidence: NDArray[Any], hit: NDArray[Any]) -> CalibrationBins:
    """Bins ((b - 1)/BINS, b/BINS] of the confidences (N,) in (0, 1]; `hit` (N,) is 0 or 1."""
    confidence = confidence.astype(np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64), 1, BINS) - 1
    images = np.bincount(bins, minlength=BINS).astype(np.float64)
    at_least_one = np.maximum(images, 1)
    return CalibrationBins(
        images,
        np.bincount(bins, weights=confidence, minlength=BINS) / at_least_one,
        np.bincount(bins, weights=hit.astype(np.float64), minlength=BINS) / at_least_one,
    )
