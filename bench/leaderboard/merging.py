"""Merge local records into the committed ledger: each is new, a reproduction, or drift.

A run key is written once. A record of a run that is already in the ledger *agrees* if its mean
selection score differs from the ledger's, on validation and on test, by at most:

- trained variants: half the width of the cell's 95 % interval on that part, but at least 1 % of
  the ledger's value (another processor rounds differently, and training magnifies that);
- closed forms: 0.1 % of the ledger's value.

Two runs that both diverged agree as well. A row that was made with uncommitted changes of bench/
stands only until one without them takes its place.

If a study finds the same recipe again after more trials, it is the same run: its row and the rows
of its other seeds are updated with the larger number of trials.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.core.recipes import BEST_OF
from bench.leaderboard.csv_rows import number
from bench.leaderboard.ledger import BoardKey, Ledger, LedgerRow, ledger_of

CLOSED_FORM_TOLERANCE = 1e-3
LEAST_TOLERANCE = 1e-2
PARTS = {"val": "validation", "test": "test"}

HalfWidths = Mapping[tuple[str, str], float]
"""Half the width of the 95 % interval by (configuration, part "val" or "test")."""


@dataclass(frozen=True)
class Drift:
    """A record that disagrees with the ledger's row of the same run."""

    row: LedgerRow
    why: str

    def __str__(self) -> str:
        return f"{self.row.title} ({self.row.dataset}, {self.row.protocol}): {self.why}"


@dataclass(frozen=True)
class Merge:
    """The ledger with the new rows merged in (without drifted ones), and what became of each.

    `renamed`: how many earlier rows now have a larger number of trials.
    """

    ledger: Ledger
    added: Ledger
    reproduced: Ledger
    drifted: Sequence[Drift]
    renamed: int = 0


def merge(ledger: Ledger, local: Ledger, widths: HalfWidths, refresh: bool = False) -> Merge:
    """Merge local rows into the ledger; with `refresh`, drifted ones replace the old rows."""
    rows = {row.key: row for row in ledger}
    added: list[LedgerRow] = []
    reproduced: list[LedgerRow] = []
    drifted: list[Drift] = []
    for row in local:
        known = rows.get(row.key)
        if known is None or (known.uncommitted and not row.uncommitted):
            added.append(row)
            rows[row.key] = row
            continue
        why = disagreement(known, row, widths)
        if not why:
            reproduced.append(known)
            continue
        drifted.append(Drift(known, why))
        if refresh:
            rows[row.key] = row
    renamed = _say_largest_budget(rows, local)
    return Merge(ledger_of(rows.values()), added, reproduced, drifted, renamed)


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


def disagreement(known: LedgerRow, local: LedgerRow, widths: HalfWidths) -> str:
    """Why two rows of one run disagree; empty if they agree."""
    if known.status != local.status:
        return f"the ledger says {known.status}, here it {local.status}"
    for part, name in PARTS.items():
        column = f"{part}_{known.selection_metric}"
        old, new = known.scores.get(column), local.scores.get(column)
        if old is None and new is None:
            continue
        tolerance = _tolerance(known, old, widths.get((known.configuration, part), 0.0))
        if old is None or new is None or not abs(new - old) <= tolerance:
            return (
                f"{name} {known.selection_metric} is {_shown(new, 'missing')}, the ledger says "
                f"{_shown(old, 'nothing')} (tolerance {tolerance:.2g})"
            )
    return ""


def _shown(value: float | None, missing: str) -> str:
    return missing if value is None else number(value)


def _tolerance(known: LedgerRow, value: float | None, half_width: float) -> float:
    size = math.nan if value is None else abs(value)
    if known.closed_form:
        return CLOSED_FORM_TOLERANCE * size
    return max(half_width, LEAST_TOLERANCE * size)
