"""Whether a cell has the seeds of its protocol: chosen beforehand, or added by its spread alone.

Which seeds a row is averaged over must not depend on how good they are. A list is run as it is.
Adaptive seeds are taken in the order 0, 1, 2, ..., and whether another one follows depends on the
width of the interval of the mean, never on the mean.
"""

import math
from collections.abc import Sequence

import numpy as np

from bench.core.seeds import AdaptiveSeeds, Seeds, parse_rule, seeds_in_words
from bench.leaderboard.ledger import Ledger, LedgerRow
from bench.metrics.units import comparison_unit

CONFIDENCE = 0.95


def half_width(metric: str, scores: Sequence[float]) -> float:
    """Half the 95 % interval of the mean over seeds, in the unit of comparisons.

    `scores`: the mean validation score of each seed. With u of S scores in that unit it is
    t(0.975, S - 1) sd(u) / sqrt(S); infinite for fewer than two.
    """
    from scipy.special import stdtrit

    if len(scores) < 2:
        return math.inf
    units = comparison_unit(metric, np.array(scores, dtype=np.float64))
    quantile = stdtrit(len(units) - 1, (1 + CONFIDENCE) / 2)
    return float(quantile * units.std(ddof=1) / math.sqrt(len(units)))


def needs_seed(rule: AdaptiveSeeds, metric: str, runs: int, scores: Sequence[float]) -> bool:
    """Whether a cell gets another seed after so many runs: `scores` are of those that finished.

    Diverged runs count as seeds, but say nothing about the width.
    """
    if runs < rule.least:
        return True
    return runs < rule.most and half_width(metric, scores) > rule.until


def why_incomplete(seeds: Seeds, rows: Ledger) -> str:
    """What is wrong with the seeds of a trained cell under its protocol's `seeds`, in words; empty
    if it has them."""
    found = sorted(row.seed for row in rows)
    if not isinstance(seeds, AdaptiveSeeds):
        return "" if found == sorted(seeds) else _expected(seeds_in_words(sorted(seeds)), found)
    if found != list(range(len(found))):
        return _expected("0, 1, 2 and so on", found)
    return _wrong_number(seeds, rows)


def _wrong_number(seeds: AdaptiveSeeds, rows: Ledger) -> str:
    """Fewer or more seeds, from 0 on, than the spread of a cell needs."""
    found = len(rows)
    if found < seeds.least:
        return f"fewer than {seeds.least} seeds"
    if found > seeds.most:
        return f"more than {seeds.most} seeds"
    if needs_seed(seeds, rows[0].selection_metric, found, _scores(rows)):
        return f"another seed needed: half width {_width(rows):.2g}, more than {seeds.until:g}"
    return ""


def seeds_enough(seeds: Seeds, rows: Ledger) -> int:
    """How many adaptive seeds were enough where more were run; 0: each was needed, or they are a
    list. Who goes on until a seed is good chooses seeds."""
    if not isinstance(seeds, AdaptiveSeeds):
        return 0
    in_order = sorted(rows, key=lambda row: row.seed)
    for count in range(seeds.least, len(rows)):
        if not needs_seed(seeds, rows[0].selection_metric, count, _scores(in_order[:count])):
            return count
    return 0


def _expected(seeds: str, found: Sequence[int]) -> str:
    return f"seeds {seeds} expected, {seeds_in_words(found)} found"


def seeds_planned(rows: Ledger) -> Seeds | None:
    """The `seeds` of the protocol that a cell was last run under; None: no row says it."""
    saying = [row for row in rows if row.seed_rule]
    if not saying:
        return None
    return parse_rule(max(saying, key=lambda row: (row.finished, row.seed)).seed_rule)


def is_wide(rows: Ledger) -> bool:
    """Whether a cell has all of its adaptive seeds and its mean is still not known well enough."""
    seeds = seeds_planned(rows)
    if rows[0].closed_form or not isinstance(seeds, AdaptiveSeeds):
        return False
    return len(rows) >= seeds.most and _width(rows) > seeds.until


def _width(rows: Ledger) -> float:
    return half_width(rows[0].selection_metric, _scores(rows))


def _scores(rows: Ledger) -> list[float]:
    """The mean validation scores of the runs that finished."""
    return [score for row in rows if (score := _score(row)) is not None]


def _score(row: LedgerRow) -> float | None:
    return row.selected("val") if row.status == "finished" else None
