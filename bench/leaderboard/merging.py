"""Merge local records into the committed ledger: each is new, a reproduction, better, or drift.

A run key is written once. A record of a run that is already in the ledger *agrees* if its mean
selection score differs from the ledger's, on validation and on test, by at most:

- trained variants: the tolerance of its metric (`Metric.tolerance`): 1 % of the ledger's value
  (another processor rounds differently, and training magnifies that: between code paths of CPUs
  runs moved by at most 0.3 %), 0.015 for an accuracy;
- closed forms: 0.1 % of the ledger's value.

Two runs that both diverged agree as well. A record that differs by more and is nowhere worse is
*better than the committed run*; any other is *drift*. Neither changes the ledger without `refresh`.
A row that was made with uncommitted changes of bench/ stands only until one without them takes its
place.

If a study finds the same recipe again after more trials, it is the same run: its row and the rows
of its other seeds are updated with the larger number of trials.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.core.recipes import BEST_OF
from bench.leaderboard.csv_rows import number
from bench.leaderboard.ledger import BoardKey, Ledger, LedgerRow, ledger_of
from bench.metrics import METRICS

CLOSED_FORM_TOLERANCE = 1e-3
PARTS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Drift:
    """A record that disagrees with the ledger's row of the same run: how, in words."""

    row: LedgerRow
    why: str

    def __str__(self) -> str:
        return f"{self.row.title} ({self.row.dataset}, {self.row.protocol}): {self.why}"


@dataclass(frozen=True)
class Merge:
    """The ledger with the new rows merged in, and what became of each local row.

    `better` and `drifted` are in the ledger only if it was refreshed. `refreshed`: how many rows
    were replaced; `renamed`: how many earlier rows now have a larger number of trials.
    """

    ledger: Ledger
    added: Ledger
    reproduced: Ledger
    better: Sequence[Drift]
    drifted: Sequence[Drift]
    refreshed: int = 0
    renamed: int = 0


def merge(
    ledger: Ledger,
    local: Ledger,
    refresh: bool = False,
    lacks_scores: Callable[[LedgerRow], bool] = lambda _: False,
) -> Merge:
    """Merge local rows into the ledger.

    With `refresh`, local rows replace those that they disagree with, and those whose scores per
    image are not committed: only the local record has its own. Raises KeyError for a selection
    metric that is not in METRICS.
    """
    rows = {row.key: row for row in ledger}
    added: list[LedgerRow] = []
    reproduced: list[LedgerRow] = []
    better: list[Drift] = []
    drifted: list[Drift] = []
    refreshed = 0
    for row in local:
        known = rows.get(row.key)
        if known is None or (known.uncommitted and not row.uncommitted):
            added.append(row)
            rows[row.key] = row
            continue
        why = disagreement(known, row)
        if not why:
            reproduced.append(known)
        else:
            (better if _is_better(known, row) else drifted).append(Drift(known, why))
        if refresh and row != known and (why or lacks_scores(known)):
            rows[row.key] = row
            refreshed += 1
    renamed = _say_largest_budget(rows, local)
    return Merge(ledger_of(rows.values()), added, reproduced, better, drifted, refreshed, renamed)


def _say_largest_budget(rows: dict[tuple[str, ...], LedgerRow], local: Ledger) -> int:
    """Set all rows of a searched configuration on a board to the largest number of trials that
    found it."""
    largest: dict[tuple[BoardKey, str], LedgerRow] = {}
    for row in [*rows.values(), *local]:
        known = largest.get((row.board, row.configuration))
        if row.budget > (known.budget if known else 0):
            largest[row.board, row.configuration] = row
    renamed = 0
    for key, row in rows.items():
        found = largest.get((row.board, row.configuration))
        if found is not None and row.budget < found.budget:
            trials = {BEST_OF: found.facts[BEST_OF]} if BEST_OF in found.facts else {}
            rows[key] = dataclasses.replace(row, recipe=found.recipe, facts={**row.facts, **trials})
            renamed += 1
    return renamed


def disagreement(known: LedgerRow, local: LedgerRow) -> str:
    """Why two rows of one run disagree, whichever is better; empty if they agree."""
    if known.status != local.status:
        return f"the ledger says {known.status}, here it {local.status}"
    for part, name in PARTS.items():
        old, new = known.selected(part), local.selected(part)
        if old is None and new is None:
            continue
        tolerance = _tolerance(known, old)
        if old is None or new is None or not abs(new - old) <= tolerance:
            return (
                f"{name} {known.selection_metric} is {_shown(new, 'missing')}, the ledger says "
                f"{_shown(old, 'nothing')} (tolerance {tolerance:.2g})"
            )
    return ""


def _is_better(known: LedgerRow, local: LedgerRow) -> bool:
    """Whether a local row that disagrees has all of the scores, and none beyond the tolerance on
    the worse side."""
    sign = 1 if METRICS[known.selection_metric].higher_is_better else -1
    pairs = [(known.selected(part), local.selected(part)) for part in PARTS]
    return known.status == local.status and all(
        old is new is None
        or (old is not None and new is not None and sign * (new - old) >= -_tolerance(known, old))
        for old, new in pairs
    )


def _shown(value: float | None, missing: str) -> str:
    return missing if value is None else number(value)


def _tolerance(known: LedgerRow, value: float | None) -> float:
    if value is None:
        return math.nan
    if known.closed_form:
        return CLOSED_FORM_TOLERANCE * abs(value)
    return METRICS[known.selection_metric].tolerance.from_training(value)
