"""Is the difference of two rows more than chance? Three tests of it, of which SHIPPED ranks.

The level of a row (its mean error in the unit of comparisons) is uncertain in two ways. Another
choice of seeds moves each row by itself: a row's levels over S seeds have the standard deviation s,
and seed 1 of one network has nothing to do with seed 1 of another. Another choice of images moves
all rows together, so that for a pair only the images' difference counts. Errors are heavy-tailed
only through the few seeds, which is what Student's t is for.

The candidates, of which `bench simulate-ranks` shows how often each is wrong and how much it sees:

- `behrens_fisher`: against t_i s_i / sqrt(S_i) - t_j s_j / sqrt(S_j) + z c_ij with independent
  t_i ~ t(S_i - 1) and z ~ N(0, 1) (Behrens 1929, Fisher 1935); of N < 100 images z ~ t(N - 1),
  since c_ij is then an estimate itself;
- `moderated_t`: s^2 is drawn towards the typical variance of the table's rows by an empirical
  Bayes prior (Smyth 2004), and one t with the degrees of freedom of the scarcer row is used;
- `moderated_behrens_fisher`: the first test with the variances and degrees of freedom that the
  second gives each row.

The first two were proposed, and hold their level. With 3 to 10 seeds (4.3 on average) on the tables
of `quick` they have a power of .56 and .67, where .83 was the aim, and the second makes 0.82
inversions, where 0.4 was. The third has .86 and 0.06, with at most .05 false claims (two standard
errors allowed), and is shipped. `registry/calibration.csv` has the figures.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_ROWS = 4
"""From so many trained rows on, a table's typical variance is known well enough to be used."""
_LEAST_SHARE = 1e-5  # of the median variance, as in limma: an estimate of 0 has no logarithm
_STEP, _LEAST_WEIGHT = 0.5, 1e-11
_FEW_IMAGES = 100
"""Of fewer images, the error that their choice makes is not known well enough to be taken as it is:
with 99 degrees of freedom t and the normal distribution differ by 1 % at the 5 % level."""


@dataclass(frozen=True)
class Evidence:
    """What is known about the rows of a table, in the unit of comparisons, lower being better.

    `levels` (K,) are the rows' mean errors; `spreads` (K,) their standard deviations over seeds (0
    for solved rows); `seeds` (K,) how many there are; `images` (K, K) the covariance of the levels
    over the choice of images, of which `count` were scored (0: their number does not matter).
    """

    levels: Floats
    spreads: Floats
    seeds: NDArray[np.int64]
    images: Floats
    count: int = 0

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Which rows vary with the seed (K,)."""
        return self.seeds > 1

    def image_error(self, i: int, j: int) -> float:
        """Standard error of the difference of two levels over the choice of images."""
        variance = self.images[i, i] + self.images[j, j] - 2 * self.images[i, j]
        return float(np.sqrt(max(variance, 0.0)))


@dataclass(frozen=True)
class SeedErrors:
    """Standard errors of the levels over the choice of seeds (K,), with their degrees of freedom
    (K,): infinite where the error is known, as for solved rows (0)."""

    errors: Floats
    freedom: Floats


@dataclass(frozen=True)
class Prior:
    """Variances of seeds are `variance` times an F variable, known as from `freedom` more seeds."""

    freedom: float
    variance: float


NO_PRIOR = Prior(0.0, 0.0)


def fit_prior(variances: Floats, freedom: Floats) -> Prior:
    """Estimate the prior of sample variances (K,) with so many degrees of freedom (K,).

    The moments of log(s^2) are matched to those of a scaled F distribution (Smyth 2004, section
    6.2, `fitFDist` of limma). NO_PRIOR for fewer than LEAST_ROWS rows or none that varies.
    """
    from scipy.special import digamma, polygamma

    if len(variances) < LEAST_ROWS or not variances.any():
        return NO_PRIOR
    floored = np.maximum(variances, _LEAST_SHARE * np.median(variances[variances > 0]))
    half = freedom / 2
    logs = np.log(floored) - digamma(half) + np.log(half)
    centre = float(logs.mean())
    spread = float(logs.var(ddof=1) - polygamma(1, half).mean())
    if spread <= 0:
        return Prior(np.inf, float(np.exp(centre)))
    prior_half = _inverse_trigamma(spread)
    location = centre + float(digamma(prior_half)) - float(np.log(prior_half))
    return Prior(2 * prior_half, float(np.exp(location)))


def _inverse_trigamma(value: float) -> float:
    """The y with trigamma(y) = value > 0, by Newton's method on 1 / trigamma (Smyth 2004)."""
    from scipy.special import polygamma

    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y


def plain_errors(found: Evidence) -> SeedErrors:
    """From each row's own seeds alone."""
    trained = found.trained
    errors = np.where(trained, found.spreads / np.sqrt(found.seeds), 0.0)
    return SeedErrors(errors, np.where(trained, found.seeds - 1.0, np.inf))


def moderated_errors(found: Evidence, family: int = 0) -> SeedErrors:
    """With variances drawn towards the prior of the first `family` rows (0: of all)."""
    trained = found.trained
    own = np.where(trained, found.seeds - 1.0, 0.0)
    known = trained & (np.arange(len(trained)) < (family or len(trained)))
    prior = fit_prior(found.spreads[known] ** 2, own[known])
    if np.isinf(prior.freedom):
        variances = np.full(len(own), prior.variance)
    else:
        total = np.where(trained, prior.freedom + own, 1.0)
        variances = (prior.freedom * prior.variance + own * found.spreads**2) / total
    errors = np.where(trained, np.sqrt(variances / found.seeds), 0.0)
    return SeedErrors(errors, np.where(trained, prior.freedom + own, np.inf))


def behrens_fisher(found: Evidence, seeds: SeedErrors) -> Floats:
    """Two-sided p-values (K, K) of all pairs; 1 on the diagonal.

    A t variable is a normal one with a random variance, so a difference has, given both variances,
    a normal distribution. The tail is averaged over them by the trapezoidal rule on the logarithm
    of chi-squared, which converges geometrically.
    """
    from scipy.special import ndtr

    variances = [
        _variances(error, freedom)
        for error, freedom in zip(seeds.errors, seeds.freedom, strict=True)
    ]
    few = 1 < found.count < _FEW_IMAGES
    factors, shares = _inverse_chi2(found.count - 1.0) if few else (np.ones(1), np.ones(1))
    count = len(found.levels)
    p = np.ones((count, count))
    for i in range(count):
        for j in range(i):
            difference = abs(found.levels[i] - found.levels[j])
            (ours, our_weights), (theirs, their_weights) = variances[i], variances[j]
            by_images = (found.image_error(i, j) ** 2 * factors)[:, None, None]
            total = ours[:, None] + theirs + by_images
            tails = (
                shares @ (our_weights @ ndtr(-_ratio(difference, np.sqrt(total)))) @ their_weights
            )
            p[i, j] = p[j, i] = min(1.0, 2 * float(tails))
    return p


def _variances(error: float, freedom: float) -> tuple[Floats, Floats]:
    """Values of error^2 / (chi2(freedom) / freedom), with their probabilities."""
    if np.isinf(freedom) or error == 0:
        return np.array([error**2]), np.ones(1)
    factors, weights = _inverse_chi2(freedom)
    return error**2 * factors, weights


@functools.lru_cache(maxsize=64)
def _inverse_chi2(freedom: float) -> tuple[Floats, Floats]:
    """Values of 1 / (chi2(freedom) / freedom), evenly spaced in their logarithm, with weights."""
    from scipy.special import gammaln, polygamma

    half = freedom / 2
    step = _STEP * float(np.sqrt(polygamma(1, half)))  # in standard deviations of log(chi2)
    # Below: log of the probability of such small values. Above: the density falls like exp(-e^x).
    lowest = min(-1.0, float(np.log(_LEAST_WEIGHT) + gammaln(half + 1)) / half - np.log(half))
    logs = np.arange(lowest, 5.0, step)
    log_density = half * (np.log(half) + logs - np.exp(logs)) - gammaln(half)
    weights = np.exp(log_density) * step
    kept = weights > _LEAST_WEIGHT
    return np.exp(-logs[kept]), weights[kept] / weights[kept].sum()


def _ratio(difference: Floats | float, error: Floats) -> Floats:
    """|difference| / error; infinite without error, 0 for no difference."""
    least = np.finfo(np.float64).tiny
    ratio: Floats = np.asarray(difference) / np.maximum(error, least)
    return ratio


def student(found: Evidence, seeds: SeedErrors) -> Floats:
    """As `behrens_fisher`, by one t with the smaller degrees of freedom of each pair."""
    from scipy.special import ndtr, stdtr

    variances = np.diag(found.images)
    images = np.maximum(variances[:, None] + variances - 2 * found.images, 0.0)
    errors = np.sqrt(seeds.errors[:, None] ** 2 + seeds.errors**2 + images)
    t = _ratio(np.abs(found.levels[:, None] - found.levels), errors)
    freedom = np.minimum(seeds.freedom[:, None], seeds.freedom)
    if 1 < found.count < _FEW_IMAGES:
        freedom = np.minimum(freedom, found.count - 1.0)
    known = np.isinf(freedom)
    p: Floats = 2 * np.where(known, ndtr(-t), stdtr(np.where(known, 1.0, freedom), -t))
    np.fill_diagonal(p, 1.0)
    return np.minimum(p, 1.0)


PairTest = Callable[[Evidence], Floats]
"""From the evidence on K rows to two-sided p-values (K, K), before correction."""

SHIPPED = "moderated_behrens_fisher"
TESTS: Mapping[str, PairTest] = MappingProxyType(
    {
        "behrens_fisher": lambda found: behrens_fisher(found, plain_errors(found)),
        "moderated_t": lambda found: student(found, moderated_errors(found)),
        "moderated_behrens_fisher": lambda found: behrens_fisher(found, moderated_errors(found)),
    }
)
