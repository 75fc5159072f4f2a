"""From scores per image to claims: levels of rows, their intervals, significant pairs, ranges of
ranks.

A row's level is its mean error in the unit of comparisons (`metrics.units`), so that differences
are relative. Two rows are compared on the same images, but with seeds of their own; `pair_tests`
says how. Holm's correction is over all pairs of a family: the probability that any claim of a
table is wrong is at most 5 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.leaderboard.pair_tests import (
    Evidence,
    Floats,
    SeedErrors,
    behrens_fisher,
    moderated_errors,
)
from bench.metrics import METRICS
from bench.metrics.units import comparison_unit, mean_score

ALPHA = 0.05
LEVEL = 1 - ALPHA
DRAWS = 10_000
HALVES = 50
_SEED = 20_240_511
_JITTER = 1e-12


@dataclass(frozen=True)
class Sample:
    """The scores of a cell: `scores` (S, N), one row per seed of `seeds`, one column per image.

    A single row means that the cell does not vary with the seed (it is solved, not trained).
    """

    seeds: tuple[int, ...]
    scores: Floats

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or len(self.scores) != len(self.seeds) or self.scores.size == 0:
            raise ValueError(
                f"{len(self.seeds)} seeds do not fit scores of shape {self.scores.shape}"
            )


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Rows `first` and `second` (indices). `difference`: level of the first minus that of the
    second, below 0 where the first is better; `share`: in which share of draws of other seeds and
    images the first is better; `p` before and after Holm's correction in the pair's family.
    """

    first: int
    second: int
    difference: Interval
    share: float
    p: float
    p_holm: float

    @property
    def better(self) -> int | None:
        """The row that is significantly better, if one is."""
        if self.p_holm >= ALPHA:
            return None
        return self.first if self.difference.mean < 0 else self.second


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`, by row: its mean score with interval, and the share of draws in
    which it is the best of the first family and itself; then every pair."""

    intervals: tuple[Interval, ...]
    best: tuple[float, ...]
    pairs: tuple[Pair, ...]


def evidence(samples: Sequence[Sample], metric: str) -> Evidence:
    """Levels, spreads over seeds and covariance over images of the scores of a metric.

    All samples are scores of the same images in the same order; ValueError if their numbers differ.
    An image enters the covariance with its mean over the seeds. Of one value for a whole set
    nothing is known about other images: then only seeds count.
    """
    if len({sample.scores.shape[1] for sample in samples}) > 1:
        raise ValueError("rows can be compared on the same images only")
    levels = [_level(metric, sample.scores.mean(axis=1)) for sample in samples]
    spreads = [each.std(ddof=1) if len(each) > 1 else 0.0 for each in levels]
    images = np.stack([sample.scores.mean(axis=0) for sample in samples])
    means = images.mean(axis=1)
    influences = images * _slope(metric, means)[:, None]
    count = images.shape[1]
    alone = np.zeros((len(samples), len(samples)))
    return Evidence(
        _level(metric, means),
        np.array(spreads),
        np.array([len(sample.seeds) for sample in samples]),
        np.atleast_2d(np.cov(influences)) / count if count > 1 else alone,
        count,
    )


def _level(metric: str, means: Floats) -> Floats:
    """Mean scores in the unit of comparisons, lower being better."""
    levels = comparison_unit(metric, means)
    return -levels if _is_rising(metric) else levels


def _is_rising(metric: str) -> bool:
    """Whether a better row has a higher value in the unit of comparisons."""
    row = METRICS[metric]
    return row.transform == "identity" and row.higher_is_better


def _slope(metric: str, means: Floats) -> Floats:
    """The derivative of the level by the mean score (K,): what an image contributes to the level
    is its score, times this."""
    transform = METRICS[metric].transform
    if transform == "identity":
        return np.full(len(means), -1.0 if _is_rising(metric) else 1.0)
    errors = np.exp(comparison_unit(metric, means))
    slopes: Floats = (-1.0 if transform == "log_one_minus" else 1.0) / errors
    return slopes


def compare(samples: Sequence[Sample], metric: str, family: int = 0) -> Comparison:
    """Compare rows by the scores of a metric.

    The first `family` samples (0: all) are the table's own rows: Holm's correction is over their
    pairs. Further rows are compared with all of them and with each other in a second family, and
    change nothing of the first. The draws are seeded: equal samples give equal results.
    """
    if not samples:
        return Comparison((), (), ())
    own = family or len(samples)
    found = evidence(samples, metric)
    seeds = moderated_errors(found, own)
    drawn = drawn_levels(found, seeds, DRAWS)
    p = behrens_fisher(found, seeds)
    corrected = corrected_p(p, own)
    pairs = tuple(
        Pair(
            *(i, j, _difference(found, drawn, i, j), _share(drawn[i], drawn[j])),
            *(float(p[i, j]), float(corrected[i, j])),
        )
        for i in range(len(samples))
        for j in range(i + 1, len(samples))
    )
    return Comparison(tuple(_intervals(samples, drawn, metric)), _best(drawn, own), pairs)


def corrected_p(p: Floats, family: int) -> Floats:
    """Holm's correction of p-values (K, K): over the pairs of the first `family` rows, and over
    all other pairs."""
    corrected = np.ones_like(p)
    first, second = np.triu_indices(len(p), 1)
    for chosen in (second < family, second >= family):
        i, j = first[chosen], second[chosen]
        corrected[i, j] = corrected[j, i] = holm(p[i, j])
    return corrected


def holm(p: Floats) -> Floats:
    """Holm's step-down correction (Holm 1979): p-values to be compared with 0.05 jointly."""
    if len(p) == 0:
        return p
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def drawn_levels(found: Evidence, seeds: SeedErrors, count: int) -> Floats:
    """`count` levels of each row (K, count), as another choice of seeds and images might give.

    A row's draws do not depend on the rows after it.
    """
    rows = len(found.levels)
    streams = [np.random.default_rng((_SEED, row)) for row in range(rows)]
    # Two rows with equal scores have a singular covariance.
    jitter = _JITTER * np.maximum(np.diag(found.images), np.finfo(np.float64).tiny)
    known = found.images.any()
    factor = np.linalg.cholesky(found.images + np.diag(jitter)) if known else found.images
    images = factor @ np.stack([stream.standard_normal(count) for stream in streams])
    moved = [
        np.zeros(count)
        if error == 0
        else error
        * (
            stream.standard_normal(count)
            if np.isinf(freedom)
            else stream.standard_t(freedom, count)
        )
        for stream, error, freedom in zip(streams, seeds.errors, seeds.freedom, strict=True)
    ]
    drawn: Floats = found.levels[:, None] + images + np.stack(moved)
    return drawn


def _best(drawn: Floats, family: int) -> tuple[float, ...]:
    """The share of draws in which each row has the lowest level: of the family, or, for a row
    outside, of the family and itself."""
    lowest = drawn[:family].min(axis=0)
    return tuple(float((row <= lowest).mean()) for row in drawn)


def _share(first: Floats, second: Floats) -> float:
    """In which share of draws the first level is the lower one; equal ones count half."""
    return float((first < second).mean() + (first == second).mean() / 2)


def _difference(found: Evidence, drawn: Floats, i: int, j: int) -> Interval:
    level = float(found.levels[i] - found.levels[j])
    return _interval(level, drawn[i] - drawn[j])


def _intervals(samples: Sequence[Sample], drawn: Floats, metric: str) -> list[Interval]:
    """The mean scores, with the intervals of the levels turned back into scores."""
    sign = -1.0 if _is_rising(metric) else 1.0
    return [
        _interval(float(sample.scores.mean()), mean_score(metric, sign * row))
        for sample, row in zip(samples, drawn, strict=True)
    ]


def _interval(value: float, drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, (ALPHA / 2, 1 - ALPHA / 2))
    return Interval(value, float(low), float(high))


def best_of(samples: Sequence[Sample], metric: str) -> int:
    """The index of the sample with the best mean score."""
    return int(_errors_by_image(samples, metric).mean(axis=1).argmin())


def stays_first(samples: Sequence[Sample], metric: str) -> int:
    """In how many of HALVES seeded random halves of the images the best sample of all images is
    the best one again."""
    images = _errors_by_image(samples, metric)
    first, size = best_of(samples, metric), images.shape[1]
    generator = np.random.default_rng(_SEED)
    halves: list[NDArray[np.int64]] = [
        generator.permutation(size)[: (size + 1) // 2] for _ in range(HALVES)
    ]
    return sum(int(images[:, half].mean(axis=1).argmin()) == first for half in halves)


def _errors_by_image(samples: Sequence[Sample], metric: str) -> Floats:
    """Mean scores over seeds (K, N), lower being better."""
    images = np.stack([sample.scores.mean(axis=0) for sample in samples])
    return -images if METRICS[metric].higher_is_better else images
