"""Levels, intervals and claims against scipy, slow loops, hand examples, and equal procedures."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from bench.core.protocol import SplitConfig
from bench.data import load_splits
from bench.leaderboard import statistics
from bench.leaderboard.pair_tests import moderated_errors
from bench.leaderboard.statistics import (
    ALPHA,
    Sample,
    compare,
    corrected_p,
    drawn_levels,
    evidence,
    holm,
    stays_first,
)


@pytest.fixture(scope="module")
def images():
    """Training and validation images as rows of floats in [0, 1]."""
    splits = load_splits("fashion_mnist_mini", SplitConfig())

    def rows(part):
        return part.images.reshape(len(part.images), -1).astype(np.float64) / 255

    return rows(splits.train), rows(splits.validation)


def pca_errors(train, images, size):
    """The squared error of each image after projection on the leading components of `train`."""
    mean = train.mean(axis=0)
    basis = np.linalg.svd(train - mean, full_matrices=False)[2][:size]
    centred = images - mean
    return ((centred - centred @ basis.T @ basis) ** 2).mean(axis=1)


@pytest.fixture(scope="module")
def seeds(images):
    """Per-image errors of PCA-8 fitted on 12 disjoint subsets: 12 draws of one procedure."""
    train, validation = images
    return np.stack([pca_errors(part, validation[:200], 8) for part in np.split(train[:3600], 12)])


def three_rows(seeds):
    return [Sample((0, 1, 2), seeds[a : a + 3]) for a in (0, 3, 6)]


def test_holm_matches_a_hand_example():
    # Sorted .01 .015 .03 .04 times 4 3 2 1 gives .04 .045 .06 .04, and no step goes down again.
    assert holm(np.array([0.03, 0.01, 0.04, 0.015])) == pytest.approx([0.06, 0.04, 0.06, 0.045])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])
    assert len(holm(np.array([]))) == 0


def test_further_rows_are_a_second_family():
    p = np.array([[1, 0.02, 0.01], [0.02, 1, 0.03], [0.01, 0.03, 1.0]])
    found = corrected_p(p, 2)
    assert found[0, 1] == 0.02
    assert [found[0, 2], found[1, 2]] == pytest.approx([0.02, 0.03])
    assert corrected_p(p, 3)[0, 1] == pytest.approx(0.04)


def test_levels_are_logarithms_of_means_and_spreads_those_over_seeds(seeds):
    found = evidence(three_rows(seeds), "mse")
    for row, chosen in enumerate(np.split(seeds[:9], 3)):
        assert found.levels[row] == pytest.approx(np.log(np.mean(chosen)))
        by_seed = [np.log(np.mean(each)) for each in chosen]
        assert found.spreads[row] == pytest.approx(np.std(by_seed, ddof=1))
    assert found.seeds.tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("metric", "level", "scores"),
    [
        ("ssim", lambda mean: np.log(1 - mean), lambda x: 1 - 10 * x),
        ("accuracy", lambda mean: np.log(1 - mean), lambda x: (x < np.median(x)).astype(float)),
        ("psnr", lambda mean: -mean, lambda x: -10 * np.log10(x)),
        ("mae", np.log, np.sqrt),
    ],
)
def test_lower_levels_are_better_by_every_metric(seeds, metric, level, scores):
    samples = [Sample((0, 1), scores(seeds[a : a + 2])) for a in (0, 2)]
    found = evidence(samples, metric)
    assert found.levels == pytest.approx([level(sample.scores.mean()) for sample in samples])
    interval = compare(samples, metric).intervals[0]
    assert interval.low < samples[0].scores.mean() < interval.high


@pytest.mark.parametrize("metric", ["mse", "ssim", "psnr"])
def test_the_covariance_over_images_is_that_of_the_bootstrap(seeds, metric):
    """A second implementation: draw images with replacement and recompute the levels."""
    shown = {"mse": seeds, "ssim": 1 - 10 * seeds, "psnr": -10 * np.log10(seeds)}[metric]
    samples = [Sample((0, 1, 2), shown[a : a + 3]) for a in (0, 3, 6)]
    found = evidence(samples, metric)
    generator, size = np.random.default_rng(1), seeds.shape[1]
    drawn = []
    for _ in range(4000):
        chosen = generator.integers(0, size, size)
        again = [Sample(s.seeds, s.scores[:, chosen]) for s in samples]
        drawn.append(evidence(again, metric).levels)
    assert found.images == pytest.approx(np.cov(np.stack(drawn).T), rel=0.12)
    differences = np.stack(drawn)[:, 0] - np.stack(drawn)[:, 1]
    assert found.image_error(0, 1) == pytest.approx(differences.std(), rel=0.08)
    # Paired images tell rows apart that unpaired ones would not.
    assert found.image_error(0, 1) < 0.3 * np.sqrt(found.images[0, 0] + found.images[1, 1])


def test_interval_over_images_is_the_bootstrap_of_scipy(images):
    train, validation = images
    errors = pca_errors(train[:1000], validation, 8)
    found = compare([Sample((0,), errors[None])], "mse").intervals[0]
    known = scipy.stats.bootstrap(
        (errors,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.mean == pytest.approx(errors.mean(), rel=1e-12)
    width = known.high - known.low
    assert found.low == pytest.approx(known.low, abs=0.05 * width)
    assert found.high == pytest.approx(known.high, abs=0.05 * width)


def test_draws_vary_as_the_evidence_says(seeds):
    found = evidence(three_rows(seeds), "mse")
    errors = moderated_errors(found)
    drawn = drawn_levels(found, errors, 100_000)
    # Quantiles, since t variables of two degrees of freedom have no variance.
    middle = np.quantile(drawn[0] - found.levels[0], [0.25, 0.75])
    generator = np.random.default_rng(2)
    moved = errors.errors[0] * generator.standard_t(errors.freedom[0], 100_000)
    moved += generator.normal(0, np.sqrt(found.images[0, 0]), 100_000)
    assert middle == pytest.approx(np.quantile(moved, [0.25, 0.75]), rel=0.03)
    together = np.corrcoef(drawn[0], drawn[1])[0, 1]
    assert together > 0.3


def test_the_same_samples_give_the_same_answer_whatever_follows(seeds):
    rows = three_rows(seeds)
    alone, more = compare(rows[:2], "mse"), compare(rows, "mse", family=2)
    assert compare(rows, "mse") == compare(rows, "mse")
    for ours, theirs in zip(more.intervals, alone.intervals, strict=False):
        assert dataclasses.astuple(ours) == pytest.approx(dataclasses.astuple(theirs), rel=1e-9)
    assert more.best[:2] == alone.best
    assert more.pairs[0].p_holm == pytest.approx(alone.pairs[0].p_holm, rel=1e-9)


def test_shares_of_being_best(seeds):
    """Of equal rows each is the best as often; a clear winner always is."""
    assert sum(compare(three_rows(seeds), "mse").best) == pytest.approx(1.0)
    clear = [Sample((0, 1, 2), factor * seeds[:3]) for factor in (0.5, 1.0, 2.0)]
    assert compare(clear, "mse").best == (1.0, 0.0, 0.0)
    # A row outside the family is held against the family and itself.
    outside = compare([*clear[1:], clear[0]], "mse", family=2)
    assert outside.best == (1.0, 0.0, 1.0)


def test_rows_of_one_procedure_tie(seeds):
    """Four cells of three draws each of the same procedure: any difference found is an error."""
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(40):
        order = generator.permutation(12).reshape(4, 3)
        found = compare([Sample((0, 1, 2), seeds[chosen]) for chosen in order], "mse")
        wrong += any(pair.better is not None for pair in found.pairs)
    assert wrong <= 6  # 5 % of 40 are 2; more than 6 has a chance of 0.3 %


def test_rows_that_differ_do_not_tie(images):
    train, validation = images
    parts = np.split(train[:900], 3)
    cells = [
        Sample((0, 1, 2), np.stack([pca_errors(part, validation, size) for part in parts]))
        for size in (16, 12, 8)
    ]
    found = compare(cells, "mse")
    assert [(pair.first, pair.better) for pair in found.pairs] == [(0, 0), (0, 0), (1, 1)]
    assert all(pair.p_holm < ALPHA and pair.difference.high < 0 for pair in found.pairs)


def test_the_first_row_stays_first_in_as_many_halves_as_a_loop_counts(seeds):
    cells = [Sample((0,), seeds[i : i + 1]) for i in range(4)]
    first = min(range(4), key=lambda i: seeds[i].mean())
    generator, size, count = np.random.default_rng(statistics._SEED), seeds.shape[1], 0
    for _ in range(statistics.HALVES):
        half = generator.permutation(size)[: size // 2]
        count += min(range(4), key=lambda i: np.mean([seeds[i][j] for j in half])) == first
    assert stays_first(cells, "mse") == count
    assert 0 < count < statistics.HALVES
    assert stays_first([Sample((0,), 1 - cell.scores) for cell in cells], "ssim") == count


def test_scores_of_different_images_are_refused(seeds):
    with pytest.raises(ValueError, match="same images"):
        compare([Sample((0,), seeds[:1]), Sample((0,), seeds[:1, :100])], "mse")
    with pytest.raises(ValueError, match="seeds"):
        Sample((0, 1), seeds[:3])
