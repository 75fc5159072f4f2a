"""How often would the rule of the tables be wrong? Simulated tables with known truths.

A table is simulated from the evidence on a committed one: its rows' variances over seeds and the
covariance of its images are taken for true, and for each of TRUTHS levels, seeds and images are
drawn anew. The rule then makes its claims, which the truth judges.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bench.core.seeds import AdaptiveSeeds
from bench.leaderboard.pair_tests import TESTS, Evidence, Floats
from bench.leaderboard.statistics import ALPHA, corrected_p

TABLES = 2000
NEAR = (0.02, 0.15)
"""Pairs whose errors are so far apart, as shares, are those that `power` is about."""
_JITTER = 1e-12


def _all_equal(found: Evidence) -> Floats:
    return np.where(found.trained, found.levels[found.trained].mean(), found.levels)


def _neighbours_tied(found: Evidence) -> Floats:
    levels = found.levels.copy()
    order = np.argsort(levels)
    for better, worse in zip(order[::2], order[1::2], strict=False):
        levels[worse] = levels[better]
    return levels


TRUTHS: Mapping[str, Callable[[Evidence], Floats]] = MappingProxyType(
    {
        "all trained rows equal": _all_equal,
        "neighbours tied": _neighbours_tied,
        "as measured": lambda found: found.levels,
    }
)
"""The true levels (K,) of a simulated table, from the evidence on the committed one."""


PLANS = tuple(AdaptiveSeeds(*each, until=0.02) for each in ((3, 3), (5, 5), (10, 10), (3, 10)))
"""The rules for seeds that are compared: three fixed numbers, and the adaptive rule of `quick`."""


def plan_text(plan: AdaptiveSeeds) -> str:
    """`3`, or `3 to 10`."""
    return str(plan.least) if plan.most == plan.least else f"{plan.least} to {plan.most}"


@dataclass(frozen=True)
class Outcome:
    """What the claims of `tables` simulated tables were like.

    `false_claims`: the share of tables in which some row is called better than one that is not
    worse, with its Monte Carlo standard error. `power`: of pairs that are NEAR apart, the share
    that is claimed; NaN without such pairs. `inversions`: pairs per table whose ranges of ranks
    begin in another order than their means. `seeds`: mean number over trained rows.
    """

    test: str
    truth: str
    plan: str
    tables: int
    false_claims: float
    power: float
    inversions: float
    seeds: float

    @property
    def false_claims_error(self) -> float:
        """Standard error of `false_claims`."""
        return float(np.sqrt(self.false_claims * (1 - self.false_claims) / self.tables))


def simulate(
    found: Evidence, truth: str, plan: AdaptiveSeeds, tables: int, seed: int = 0
) -> Iterator[Outcome]:
    """Simulate tables and judge each of TESTS by them; the same tables for all of them.

    `truth` is a key of TRUTHS. Equal arguments give equal outcomes.
    """
    levels = TRUTHS[truth](found)
    generator = np.random.default_rng((seed, list(TRUTHS).index(truth), plan.least, plan.most))
    judges = {name: _Judge(levels) for name in TESTS}
    seeds = 0.0
    for _ in range(tables):
        drawn = draw(found, levels, plan, generator)
        seeds += float(drawn.seeds[drawn.trained].mean())
        for name, judge in judges.items():
            judge.hear(drawn.levels, corrected_p(TESTS[name](drawn), len(levels)) < ALPHA)
    for name, judge in judges.items():
        yield Outcome(
            test=name,
            truth=truth,
            plan=plan_text(plan),
            tables=tables,
            false_claims=judge.wrong / tables,
            power=judge.seen / judge.near if judge.near else float("nan"),
            inversions=judge.inverted / tables,
            seeds=seeds / tables,
        )


def draw(
    found: Evidence, levels: Floats, plan: AdaptiveSeeds, generator: np.random.Generator
) -> Evidence:
    """A table as it might have been found if `levels` (K,) were true."""
    rows = len(levels)
    by_seed = generator.standard_normal((rows, plan.most)) * found.spreads[:, None]
    counts = np.where(found.trained, _counts(by_seed, plan), 1)
    used = [row[:count] for row, count in zip(by_seed, counts, strict=True)]
    jitter = _JITTER * np.maximum(np.diag(found.images), np.finfo(np.float64).tiny)
    factor = np.linalg.cholesky(found.images + np.diag(jitter))
    means = np.array([row.mean() for row in used])
    return Evidence(
        levels + means + factor @ generator.standard_normal(rows),
        np.array([row.std(ddof=1) if len(row) > 1 else 0.0 for row in used]),
        counts,
        found.images,
    )


def _counts(by_seed: Floats, plan: AdaptiveSeeds) -> NDArray[np.int64]:
    """Where each row's interval is narrow enough (K,)."""
    from scipy.special import stdtrit

    counts = np.full(len(by_seed), plan.most)
    for count in range(plan.most - 1, plan.least - 1, -1):
        width = stdtrit(count - 1, 1 - ALPHA / 2) * by_seed[:, :count].std(axis=1, ddof=1)
        counts[width / np.sqrt(count) <= plan.until] = count
    return counts


class _Judge:
    """Counts right and wrong claims about rows whose true levels (K,) are known."""

    def __init__(self, levels: Floats) -> None:
        self._true = levels[:, None] - levels
        distance = np.expm1(np.abs(self._true))
        self._near = (distance > NEAR[0]) & (distance < NEAR[1]) & (self._true < 0)
        self.wrong = self.seen = self.near = self.inverted = 0

    def hear(self, found: Floats, differs: NDArray[np.bool_]) -> None:
        """Judge a table of levels `found` (K,), whose pairs (K, K) differ significantly or not."""
        difference = found[:, None] - found
        better = differs & (difference < 0)
        self.wrong += bool((better & (self._true >= 0)).any())
        self.seen += int((better & self._near).sum())
        self.near += int(self._near.sum())
        lowest = better.sum(axis=0)
        self.inverted += int(((difference < 0) & (lowest[:, None] > lowest)).sum())
