"""Uncertainty of comparisons: paired two-level bootstrap over seeds and images, Holm's correction.

A cell of the leaderboard is a matrix of scores, one row per seed and one column per image. Its
mean varies with the choice of seeds and with the choice of images. Both are resampled at once,
with the same draws for all cells, so that the difference of two cells is paired.

Images are drawn with replacement (Efron 1979). Seeds are too few for that: a plain bootstrap of
three seeds never leaves their range, and declares two equal models different whenever all three
differences have the same sign, one time in four. The seed level is therefore drawn with Student
weights: the mean over seeds moves by t(S - 1) standard errors, which is the exact small-sample
answer for normal seed effects. Without image noise the test of a pair is the paired t-test;
without seed noise it is the plain bootstrap over images.

"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REPLICATES = 10_000
LEVEL = 0.95
ALPHA = 0.05
_SEED = 20_240_511
_DRAWS_AT_ONCE = 2_000_000


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
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Cells `first` and `second` (indices): mean of first - second, with p before and after Holm.

    `p_holm` below ALPHA: the two differ significantly.
    """

    first: int
    second: int
    difference: Interval
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`: one interval per cell, and every pair, from `replicates` draws."""

    intervals: tuple[Interval, ...]
    pairs: tuple[Pair, ...]
    replicates: int


def compare(samples: Sequence[Sample]) -> Comparison:
    """Intervals of all cells and Holm-corrected tests of all pairs.

    All samples are scores of the same images in the same order. The random draws are fixed: equal
    samples give equal results. Raises ValueError if the numbers of images differ.
    """
    pairs = list(itertools.combinations(range(len(samples)), 2))
    count = replicate_count(len(pairs))
    drawn = resampled_means(samples, count)
    means = [float(sample.scores.mean()) for sample in samples]
    differences = [drawn[a] - drawn[b] for a, b in pairs]
    p = np.array([two_sided_p(values) for values in differences])
    corrected = holm(p)
    return Comparison(
        tuple(_interval(mean, values) for mean, values in zip(means, drawn, strict=True)),
        tuple(
            Pair(a, b, _interval(means[a] - means[b], values), float(p[i]), float(corrected[i]))
            for i, ((a, b), values) in enumerate(zip(pairs, differences, strict=True))
        ),
        count,
    )


def replicate_count(pairs: int) -> int:
    """How many replicates are needed: 10,000, and more for more than 125 pairs.

    The smallest p that B replicates can give is 2 / (B + 1); Holm multiplies it by up to `pairs`,
    and the product must be able to fall well below 0.05.
    """
    return max(REPLICATES, 80 * pairs)


def resampled_means(samples: Sequence[Sample], count: int) -> Floats:
    """`count` resampled means of every cell: (cells, count), the same draws for all of them.

    Cells with the same seeds share the draws of seeds; cells with other seeds have their own.
    Time grows with count x images; memory does not.
    """
    if not samples:
        return np.empty((0, count))
    images = samples[0].scores.shape[1]
    if any(sample.scores.shape[1] != images for sample in samples):
        raise ValueError("cells can be compared on the same images only")
    weights = {sample.seeds: seed_weights(sample.seeds, count) for sample in samples}
    stacked = np.concatenate([sample.scores for sample in samples]).T.astype(np.float64)
    rows = np.cumsum([0, *(len(sample.seeds) for sample in samples)])
    drawn = np.empty((len(samples), count))
    generator = np.random.default_rng(_SEED)
    step = max(1, _DRAWS_AT_ONCE // images)
    for start in range(0, count, step):
        chunk = slice(start, min(start + step, count))
        by_seed = _image_weights(generator, chunk.stop - start, images) @ stacked
        for i, sample in enumerate(samples):
            means = by_seed[:, rows[i] : rows[i + 1]]
            drawn[i, chunk] = (means * weights[sample.seeds][chunk]).sum(axis=1)
    return drawn


def seed_weights(seeds: tuple[int, ...], count: int) -> Floats:
    """Weights (count, S) of the seeds, each row summing to 1.

    For values x of the seeds, `weights @ x` is distributed as mean(x) + t(S - 1) sd(x) / sqrt(S).
    """
    size = len(seeds)
    if size == 1:
        return np.ones((count, 1))
    generator = np.random.default_rng((_SEED, *seeds))
    normal = generator.standard_normal((count, size))
    normal -= normal.mean(axis=1, keepdims=True)
    chi = np.sqrt(generator.chisquare(size - 1, (count, 1)) / (size - 1))
    weights: Floats = 1 / size + normal / chi / np.sqrt(size * (size - 1))
    return weights


def _image_weights(generator: np.random.Generator, count: int, images: int) -> Floats:
    """How often each image was drawn, by `images`: (count, images), rows sum to 1."""
    draws = generator.integers(0, images, size=(count, images))
    draws += np.arange(count)[:, None] * images
    times = np.bincount(draws.ravel(), minlength=count * images).reshape(count, images)
    weights: Floats = times / images
    return weights


def two_sided_p(differences: Floats) -> float:
    """Twice the smaller share of resampled differences on one side of 0, as (k + 1) / (B + 1)."""
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))


def _interval(mean: float, drawn: Floats) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return Interval(mean, float(low), float(high))


def holm(p: Floats) -> Floats:
    """Holm's step-down correction (Holm 1979): p-values to be compared with 0.05 jointly."""
    if len(p) == 0:
        return p
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
