"""Merge local records into the committed ledger: each is new, a reproduction, or drift.

A run key is written once. A record of a run that is already in the ledger *agrees* if its mean
selection score differs from the ledger's, on validation and on test, by at most:

- trained variants: half the width of the cell's 95 % interval on that part, but at least 1 % of
  the ledger's value (another processor rounds differently, and training magnifies that);
- closed forms: 0.1 % of the ledger's value.


Two runs that both diverged agree as well.

If a study finds the same recipe again after more trials, it is the same run: its row and the rows
of its other seeds are updated with the larger number of trials.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.core.recipes import BEST_OF, budget_of_row
from bench.leaderboard.ledger import BOARD, KEY, Row, describe, ledger_of, rows_in, signed

CLOSED_FORM_TOLERANCE = 1e-3
LEAST_TOLERANCE = 1e-2
PARTS = {"val": "validation", "test": "test"}

HalfWidths = Mapping[tuple[str, str], float]
"""Half the width of the 95 % interval by (configuration, part "val" or "test")."""


@dataclass(frozen=True)
class Drift:
    """A record that disagrees with the ledger's row of the same run."""

    row: Row
    why: str

    def __str__(self) -> str:
        return f"{describe(self.row)} ({self.row['dataset']}, {self.row['protocol']}): {self.why}"


@dataclass(frozen=True)
class Merge:
    """The ledger with the new rows merged in (without drifted ones), and what became of each.

    `renamed`: how many earlier rows now have a larger number of trials.
    """

    ledger: pd.DataFrame
    added: Sequence[Row]
    reproduced: Sequence[Row]
    drifted: Sequence[Drift]
    renamed: int = 0


def merge(
    ledger: pd.DataFrame, local: Sequence[Row], widths: HalfWidths, refresh: bool = False
) -> Merge:
    """Merge local rows into the ledger; with `refresh`, drifted ones replace the old rows."""
    rows: dict[tuple[str, ...], Row] = {_key(row): row for row in rows_in(ledger)}
    added: list[Row] = []
    reproduced: list[Row] = []
    drifted: list[Drift] = []
    for row in local:
        known = rows.get(_key(row))
        if known is None:
            added.append(row)
            rows[_key(row)] = row
            continue
        why = disagreement(known, row, widths)
        if not why:
            reproduced.append(known)
            continue
        drifted.append(Drift(known, why))
        if refresh:
            rows[_key(row)] = row
    renamed = _say_largest_budget(rows, local)
    return Merge(ledger_of(rows.values()), added, reproduced, drifted, renamed)


def _say_largest_budget(rows: dict[tuple[str, ...], Row], local: Sequence[Row]) -> int:
    """Set all rows of a searched configuration on a board to the largest number of trials that
    found it."""
    largest: dict[tuple[str, ...], Row] = {}
    for row in [*rows.values(), *local]:
        known = largest.get(_searched(row))
        if budget_of_row(row) > (budget_of_row(known) if known else 0):
            largest[_searched(row)] = row
    renamed = 0
    for key, row in rows.items():
        found = largest.get(_searched(row))
        if found is not None and budget_of_row(row) < budget_of_row(found):
            said = {"recipe": found["recipe"]}
            if BEST_OF in found:
                said[BEST_OF] = found[BEST_OF]
            rows[key] = signed({**row, **said})
            renamed += 1
    return renamed


def _searched(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in (*BOARD, "configuration"))


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def disagreement(known: Row, local: Row, widths: HalfWidths) -> str:
    """Why two rows of one run disagree; empty if they agree."""
    if known["status"] != local["status"]:
        return f"the ledger says {known['status']}, here it {local['status']}"
    for part, name in PARTS.items():
        column = f"{part}_{known['selection_metric']}"
        old, new = known.get(column, ""), local.get(column, "")
        if not old and not new:
            continue
        tolerance = _tolerance(known, old, widths.get((known["configuration"], part), 0.0))
        difference = abs(_value(new) - _value(old))
        if not difference <= tolerance:
            return (
                f"{name} {known['selection_metric']} is {new or 'missing'}, the ledger says "
                f"{old or 'nothing'} (tolerance {tolerance:.2g})"
            )
    return ""


def _value(text: str) -> float:
    return float(text) if text else math.nan


def _tolerance(known: Row, value: str, half_width: float) -> float:
    size = abs(_value(value))
    if known["closed_form"] == "yes":
        return CLOSED_FORM_TOLERANCE * size
    return max(half_width, LEAST_TOLERANCE * size)
