"""Intervals and tests against scipy, a slow loop, a hand example, and data without a difference."""

import itertools

import numpy as np
import pytest
import scipy.stats

from bench.core.protocol import SplitConfig
from bench.data import load_splits
from bench.leaderboard import statistics
from bench.leaderboard.statistics import (
    Sample,
    compare,
    holm,
    resampled_means,
    seed_weights,
    two_sided_p,
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


def test_holm_matches_a_hand_example():
    # Sorted .01 .015 .03 .04 times 4 3 2 1 gives .04 .045 .06 .04, and no step goes down again.
    assert holm(np.array([0.03, 0.01, 0.04, 0.015])) == pytest.approx([0.06, 0.04, 0.06, 0.045])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])
    assert len(holm(np.array([]))) == 0


def test_interval_over_images_is_the_bootstrap_of_scipy(images):
    train, validation = images
    errors = pca_errors(train[:1000], validation, 8)
    found = compare([Sample((0,), errors[None])]).intervals[0]
    known = scipy.stats.bootstrap(
        (errors,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.mean == pytest.approx(errors.mean(), rel=1e-12)
    width = known.high - known.low
    assert found.low == pytest.approx(known.low, abs=0.05 * width)
    assert found.high == pytest.approx(known.high, abs=0.05 * width)


def test_without_image_noise_a_pair_is_the_paired_t_test():
    # Constant over images: what varies is the seed alone.
    first, second = np.array([0.021, 0.0195, 0.023]), np.array([0.017, 0.0182, 0.0191])
    found = compare(
        [Sample((0, 1, 2), np.repeat(x[:, None], 50, axis=1)) for x in (first, second)]
    ).pairs[0]
    known = scipy.stats.ttest_rel(first, second)
    ends = known.confidence_interval(0.95)
    assert found.p == pytest.approx(known.pvalue, abs=0.015)
    assert found.difference.low == pytest.approx(ends.low, abs=0.06 * (ends.high - ends.low))
    assert found.difference.high == pytest.approx(ends.high, abs=0.06 * (ends.high - ends.low))


def test_resampled_means_match_a_slow_loop(seeds):
    cells = [Sample((0, 1, 2), seeds[:3]), Sample((0, 1, 2), seeds[3:6]), Sample((0,), seeds[6:7])]
    count, images = 40, seeds.shape[1]
    found = resampled_means(cells, count)
    draws = np.random.default_rng(statistics._SEED).integers(0, images, size=(count, images))
    weights = seed_weights((0, 1, 2), count)
    for i, b in itertools.product(range(3), range(count)):
        by_seed = [np.mean([row[j] for j in draws[b]]) for row in cells[i].scores]
        slow = (
            by_seed[0] if i == 2 else sum(w * m for w, m in zip(weights[b], by_seed, strict=True))
        )
        assert found[i, b] == pytest.approx(slow, rel=1e-10)


def test_the_same_samples_give_the_same_answer(seeds):
    cells = [Sample((0, 1, 2), seeds[:3]), Sample((0, 1, 2), seeds[3:6])]
    assert compare(cells) == compare(cells)


def test_rows_of_one_procedure_tie(seeds):
    """Four cells of three draws each of the same procedure: any difference found is an error."""
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(40):
        order = generator.permutation(12).reshape(4, 3)
        found = compare([Sample((0, 1, 2), seeds[chosen]) for chosen in order])
        wrong += any(pair.p_holm < statistics.ALPHA for pair in found.pairs)
    assert wrong <= 6  # 5 % of 40 are 2; more than 6 has a chance of 0.3 %


def test_a_plain_bootstrap_of_three_seeds_would_find_differences_that_are_not_there(seeds):
    """Why the seed level has Student weights: the plain one is wrong about once in four."""
    generator = np.random.default_rng(7)
    means, plain, ours, rounds = seeds.mean(axis=1), 0, 0, 300
    for _ in range(rounds):
        order = generator.permutation(12)
        difference = means[order[:3]] - means[order[3:6]]
        plain += two_sided_p(difference[generator.integers(0, 3, (999, 3))].mean(axis=1)) < 0.05
        ours += two_sided_p(seed_weights((0, 1, 2), 999) @ difference) < 0.05
    assert plain / rounds > 0.15
    assert ours / rounds < 0.09


def test_rows_that_differ_do_not_tie(images):
    train, validation = images
    parts = np.split(train[:900], 3)
    cells = [
        Sample((0, 1, 2), np.stack([pca_errors(part, validation, size) for part in parts]))
        for size in (8, 12, 16)
    ]
    assert all(pair.p_holm < statistics.ALPHA for pair in compare(cells).pairs)


def test_enough_replicates_for_many_pairs():
    for cells in (2, 6, 20, 40):
        pairs = cells * (cells - 1) // 2
        assert 2 * pairs / (statistics.replicate_count(pairs) + 1) < statistics.ALPHA


def test_scores_of_different_images_are_refused(seeds):
    with pytest.raises(ValueError, match="same images"):
        compare([Sample((0,), seeds[:1]), Sample((0,), seeds[:1, :100])])
    with pytest.raises(ValueError, match="seeds"):
        Sample((0, 1), seeds[:3])
