"""Metrics of classifiers against scikit-learn, and what no library has against a plain loop."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)
from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics import METRICS, Seen, metrics_of, per_image, seen_of, whole_set
from bench.metrics.calibration import calibration_bins
from bench.metrics.classification import confusion, per_class

CONFIG = EvaluationConfig()
ROWS = metrics_of("classification")
Answers = tuple[Tensor, Tensor]


def _seen(labels: Tensor, logits: Tensor) -> Seen:
    return seen_of({"labels": labels, "logits": logits})


def _drawn(images: int, classes: int, seed: int, present: int | None = None) -> Answers:
    """Labels of the first `present` classes, and logits that often are right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(present or classes, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator) * 2
    logits[torch.arange(images), labels] += 1.5
    return labels, logits


answers = pytest.mark.parametrize(
    "answers",
    [_drawn(500, 10, 1), _drawn(60, 3, 2), _drawn(40, 10, 3, present=4), _drawn(1, 10, 4)],
    ids=["many", "three", "absent", "one"],
)


@answers
def test_scores_are_those_of_scikit_learn(answers: Answers) -> None:
    labels, logits = answers
    y, called = labels.numpy(), logits.argmax(1).numpy()
    images = per_image(ROWS, _seen(labels, logits), CONFIG)
    sets = whole_set(ROWS, _seen(labels, logits), CONFIG)
    assert images["accuracy"].mean().item() == pytest.approx(accuracy_score(y, called))
    probabilities = logits.double().softmax(1).numpy()
    expected = log_loss(y, probabilities, labels=range(logits.shape[1]))
    assert images["cross_entropy"].mean().item() == pytest.approx(expected, rel=1e-5)
    macro = {"average": "macro", "zero_division": 0}
    assert sets["macro_precision"] == pytest.approx(precision_score(y, called, **macro))
    assert sets["macro_recall"] == pytest.approx(recall_score(y, called, **macro))
    assert sets["macro_f1"] == pytest.approx(f1_score(y, called, **macro))
    assert list(images) == ["accuracy", "cross_entropy"]
    assert set(sets) == set(ROWS) - set(images)


@answers
def test_classes_are_scored_as_by_scikit_learn(answers: Answers) -> None:
    labels, logits = answers
    y, called, classes = labels.numpy(), logits.argmax(1).numpy(), range(logits.shape[1])
    counts = confusion(labels, logits.argmax(1), len(classes))
    np.testing.assert_array_equal(counts, confusion_matrix(y, called, labels=classes))
    ours = per_class(counts)
    theirs = precision_recall_fscore_support(y, called, labels=classes, zero_division=0)
    for mine, other in zip(ours[:4], theirs, strict=True):
        np.testing.assert_allclose(mine, other)


def _calibration_error(labels: Tensor, logits: Tensor, bins: int = 15) -> float:
    """Guo et al. 2017, equation 3, image by image."""
    total = 0.0
    members: dict[int, list[tuple[float, bool]]] = {}
    for label, row in zip(labels.tolist(), logits.double().tolist(), strict=True):
        exponentials = [math.exp(value - max(row)) for value in row]
        confidence = max(exponentials) / sum(exponentials)
        place = next(b for b in range(bins) if confidence <= (b + 1) / bins)
        members.setdefault(place, []).append((confidence, row.index(max(row)) == label))
    for bin_ in members.values():
        sure = sum(confidence for confidence, _ in bin_) / len(bin_)
        right = sum(hit for _, hit in bin_) / len(bin_)
        total += len(bin_) / len(labels) * abs(right - sure)
    return total


@answers
def test_the_calibration_error_is_that_of_the_paper(answers: Answers) -> None:
    ours = METRICS["calibration_error"].compute(_seen(*answers), CONFIG).item()
    assert ours == pytest.approx(_calibration_error(*answers), abs=1e-9)


def test_bins_hold_their_upper_ends() -> None:
    found = calibration_bins(np.array([0.2, 0.5, 1.0, 0.999]), np.array([1, 0, 1, 1]))
    assert found.images.tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2]
    assert found.accuracy[[2, 7, 14]].tolist() == [1, 0, 1]


@pytest.mark.parametrize("name", ROWS)
def test_a_perfect_classifier_has_the_best_score_and_a_worse_one_a_worse(name: str) -> None:
    labels, logits = _drawn(200, 5, 5)
    sure = torch.nn.functional.one_hot(labels, 5).float() * 200
    row = METRICS[name]
    best, other = (
        row.compute(_seen(labels, given), CONFIG).double().mean() for given in (sure, logits)
    )
    assert best.item() == pytest.approx(row.best, abs=1e-9)
    assert (other < best) if row.higher_is_better else (other > best)
    assert row.bounds[0] <= other <= row.bounds[1]
    assert row.id == name and row.title and row.formula and row.source


@pytest.mark.parametrize("name", ROWS)
def test_broken_logits_do_not_look_like_a_score(name: str) -> None:
    labels, logits = _drawn(3, 5, 6)
    logits[1, 2] = torch.nan
    found = METRICS[name].compute(_seen(labels, logits), CONFIG).isnan().tolist()
    assert found == ([False, True, False] if METRICS[name].per_image else True)


@pytest.mark.parametrize("name", ROWS)
def test_shapes_that_do_not_fit_are_refused(name: str) -> None:
    labels, logits = _drawn(6, 5, 7)
    for wrong in ((labels[:4], logits), (labels, logits[0]), (labels[:0], logits[:0])):
        with pytest.raises(ValueError, match="labels"):
            METRICS[name].compute(_seen(*wrong), CONFIG)


def test_ties_go_to_the_lower_class() -> None:
    scores = METRICS["accuracy"].compute(_seen(torch.tensor([0, 1]), torch.zeros(2, 3)), CONFIG)
    assert scores.tolist() == [1, 0]
