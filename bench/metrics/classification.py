"""Scores of classifiers: one value per image, or one for a whole set of images.

Logits are (N, K), labels (N,) int64 from 0 to K - 1. The precision of a class that was never
predicted, the recall of a class without images, and F1 where both are 0 count as 0, as in
scikit-learn with `zero_division=0`. Macro averages run over the classes that occur among
labels or predictions, also as in scikit-learn.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bench.core.protocol import EvaluationConfig
from bench.metrics.calibration import calibration_bins
from bench.metrics.seen import Seen


class PerClass(NamedTuple):
    """Float64 tensors (K,): `support` counts a class's images, `predicted` its predictions."""

    precision: Tensor
    recall: Tensor
    f1: Tensor
    support: Tensor
    predicted: Tensor


def accuracy(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """1 where the largest logit is that of the label, else 0; ties go to the lower class.

    NaN if a logit is NaN, since its argmax would look like a prediction.
    """
    hits = (seen.logits.argmax(dim=1) == seen.labels).float()
    return hits.where(seen.logits.isfinite().all(dim=1), torch.nan)


def cross_entropy(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """-log of the probability of the label, in nats."""
    return functional.cross_entropy(seen.logits, seen.labels, reduction="none")


def confusion(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Confusion matrix (K, K), int64: images by true class (row) and predicted class (column)."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def per_class(counts: Tensor) -> PerClass:
    """Precision, recall and F1 of each class of a confusion matrix (K, K)."""
    hits, support, predicted = (
        part.double() for part in (counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0))
    )
    # 2 hits / (support + predicted) is the harmonic mean of precision and recall, without 0/0.
    return PerClass(
        hits / predicted.clamp_min(1),
        hits / support.clamp_min(1),
        2 * hits / (support + predicted).clamp_min(1),
        support,
        predicted,
    )


def macro_precision(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Mean over classes of hits / predictions."""
    return _macro(seen).precision.mean()


def macro_recall(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Mean over classes of hits / images."""
    return _macro(seen).recall.mean()


def macro_f1(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Mean over classes of the harmonic mean of precision and recall."""
    return _macro(seen).f1.mean()


def _macro(seen: Seen) -> PerClass:
    """The classes that occur, as labels or as predictions."""
    found = per_class(confusion(seen.labels, seen.logits.argmax(dim=1), seen.logits.shape[1]))
    occurs = (found.support + found.predicted) > 0
    return PerClass(*(part[occurs] for part in found))


def calibration_error(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Sum over bins of (share of the images) x |accuracy - mean confidence|."""
    confidence, predicted = seen.logits.double().softmax(dim=1).max(dim=1)
    bins = calibration_bins(confidence.cpu().numpy(), (predicted == seen.labels).cpu().numpy())
    return torch.tensor(bins.error, dtype=torch.float64)
