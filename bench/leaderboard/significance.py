"""Statistical comparisons: `cells.csv` (one interval per cell) and `comparisons.csv` (pairs).

Both are computed from per-image scores, which stay on the machine that ran; the results are
committed next to the ledger. Each row has the digest of the ledger rows that it was computed
from, so that tables can be rendered and checked anywhere, and a changed ledger is noticed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.core.commands import Runs
from bench.core.errors import BadInput
from bench.core.identity import digest
from bench.core.track import Track
from bench.leaderboard.ledger import (
    BOARD,
    Row,
    current,
    describe,
    frame_of,
    number,
    rows_in,
    signed,
)
from bench.leaderboard.statistics import Comparison, Interval, Sample, compare

LEAST_SEEDS = 3
MOST_FAILURES = 0.1

Scores = NDArray[np.float32]
ScoresOf = Callable[[Row, str], Scores | None]
"""The per-image scores of a ledger row, for part "validation" or "test"; None: no local record."""

_TRACK = ["dataset", "protocol", "track"]
CELL_COLUMNS = [
    *_TRACK,
    "row",
    "configuration",
    "part",
    "metric",
    "mean",
    "low",
    "high",
    "rows_digest",
]
PAIR_COLUMNS = [
    *_TRACK,
    "row_a",
    "row_b",
    "configuration_a",
    "configuration_b",
    "metric",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "replicates",
    "rows_digest",
]


@dataclass(frozen=True)
class Competition:
    """The rows of a ledger that are compared with each other: one board, one track."""

    track: Track
    rows: pd.DataFrame

    @cached_property
    def first(self) -> Row:
        """Any row, for what all of them share."""
        return rows_in(self.rows.head(1))[0]

    @cached_property
    def title(self) -> str:
        """`fashion_mnist_mini.quick.d8`: the name used in commands."""
        return f"{self.first['dataset']}.{self.first['protocol']}.{self.track}"

    @cached_property
    def digest(self) -> str:
        """A digest that changes with any cell of any row."""
        return digest({"rows": sorted(self.rows["row_digest"])})

    @cached_property
    def cells(self) -> dict[str, list[dict[str, str]]]:
        """Rows by configuration, ordered by the cell's name."""
        found: dict[str, list[dict[str, str]]] = {}
        for row in sorted(rows_in(self.rows), key=lambda row: (cell_name(row), int(row["seed"]))):
            found.setdefault(row["configuration"], []).append(row)
        return found


def competitions(rows: pd.DataFrame) -> Iterator[Competition]:
    """The competitions among the rows returned by `ledger.current`, in the order of the tables."""
    if rows.empty:
        return
    groups = [
        (_board(group), Track.parse(str(key[-1])), group)
        for key, group in rows.groupby([*BOARD, "track"], sort=True)
    ]
    for _, track, group in sorted(groups, key=lambda item: (item[0], item[1].order)):
        yield Competition(track, group)


def _board(group: pd.DataFrame) -> tuple[str, ...]:
    return tuple(str(group[name].iloc[0]) for name in BOARD)


def cell_name(row: Row) -> str:
    """The name of a row within its track: variant, with size and recipe if these are not the
    usual ones."""
    name = row["model"]
    if row["latent_dim"] == "native":
        name += " (native)"
    elif Track.parse(row["track"]).overcomplete:
        name += f" d={row['latent_dim']}"
    return name if row["recipe"] == "default" else f"{name}, {row['recipe']}"


def why_unranked(rows: Iterable[Row]) -> str:
    """Why the runs of a cell cannot be ranked; empty if they can."""
    listed = list(rows)
    finished = [row for row in listed if row["status"] == "finished"]
    metric = listed[0]["selection_metric"]
    if listed[0]["ranked"] != "yes":
        return "a protocol that is not ranked"
    if len(listed) - len(finished) > MOST_FAILURES * len(listed):
        return "more than 10 % of its runs failed"
    if not all(row.get(f"val_{metric}") for row in finished):
        return "no validation images"
    if listed[0]["closed_form"] != "yes" and len(finished) < LEAST_SEEDS:
        return f"fewer than {LEAST_SEEDS} seeds"
    return ""


def compute(
    competition: Competition, scores_of: ScoresOf
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of `cells.csv` and of `comparisons.csv` of one competition.

    Raises BadInput naming the runs whose per-image scores are not on this machine.
    """
    cells = {key: rows for key, rows in competition.cells.items() if not why_unranked(rows)}
    if not cells:
        return [], []
    validation = compare(_samples(cells, "validation", competition, scores_of))
    test = compare(_samples(cells, "test", competition, scores_of))
    by_part = {"val": validation.intervals, "test": test.intervals}
    found = [
        _cell_row(competition, rows[0], part, interval)
        for part, intervals in by_part.items()
        for rows, interval in zip(cells.values(), intervals, strict=True)
    ]
    return found, _pair_rows(competition, [rows[0] for rows in cells.values()], validation)


def _samples(
    cells: Mapping[str, list[dict[str, str]]],
    part: str,
    competition: Competition,
    scores_of: ScoresOf,
) -> list[Sample]:
    samples, missing = [], []
    for rows in cells.values():
        finished = [row for row in rows if row["status"] == "finished"]
        # A closed form gives the same weights for every seed: one row is enough.
        used = finished[:1] if finished[0]["closed_form"] == "yes" else finished
        scores = [scores_of(row, part) for row in used]
        missing += [row for row, found in zip(used, scores, strict=True) if found is None]
        known = [np.asarray(found, dtype=np.float64) for found in scores if found is not None]
        if len(known) == len(used):
            samples.append(Sample(tuple(int(row["seed"]) for row in used), np.stack(known)))
    if missing:
        raise _not_here(competition, missing)
    return samples


def _not_here(competition: Competition, missing: list[dict[str, str]]) -> BadInput:
    runs = Runs(
        missing[0]["protocol"],
        sorted({row["model"] for row in missing}),
        {row["latent_dim"] for row in missing},
        {int(row["seed"]) for row in missing},
    )
    return BadInput(
        f"track {competition.title} changed and must be compared again, but the per-image scores "
        f"of {len(missing)} of its runs are not on this machine (the first is "
        f"{describe(missing[0])}); run: {runs.command}"
    )


def _shared(competition: Competition) -> dict[str, str]:
    return {
        "dataset": competition.first["dataset"],
        "protocol": competition.first["protocol"],
        "track": str(competition.track),
        "metric": competition.first["selection_metric"],
        "rows_digest": competition.digest,
    }


def _cell_row(competition: Competition, row: Row, part: str, interval: Interval) -> dict[str, str]:
    return signed(
        {
            **_shared(competition),
            "row": cell_name(row),
            "configuration": row["configuration"],
            "part": part,
            "mean": number(interval.mean),
            "low": number(interval.low),
            "high": number(interval.high),
        }
    )


def _pair_rows(
    competition: Competition, cells: list[dict[str, str]], found: Comparison
) -> list[dict[str, str]]:
    return [
        signed(
            {
                **_shared(competition),
                "row_a": cell_name(cells[pair.first]),
                "row_b": cell_name(cells[pair.second]),
                "configuration_a": cells[pair.first]["configuration"],
                "configuration_b": cells[pair.second]["configuration"],
                "difference": number(pair.difference.mean),
                "low": number(pair.difference.low),
                "high": number(pair.difference.high),
                "p": number(pair.p),
                "p_holm": number(pair.p_holm),
                "replicates": str(found.replicates),
            }
        )
        for pair in found.pairs
    ]


@dataclass(frozen=True)
class Significance:
    """Both files as frames of texts."""

    cells: pd.DataFrame
    pairs: pd.DataFrame

    def half_widths(self) -> dict[tuple[str, str], float]:
        """Half of each interval's width by (configuration, part)."""
        return {
            (row["configuration"], row["part"]): (float(row["high"]) - float(row["low"])) / 2
            for row in rows_in(self.cells)
        }

    def holds_for(self, competition: Competition) -> bool:
        """Whether it was computed from exactly these rows, and completely."""
        ranked = [key for key, rows in competition.cells.items() if not why_unranked(rows)]
        cells = self.cells[self.cells["rows_digest"] == competition.digest]
        pairs = self.pairs[self.pairs["rows_digest"] == competition.digest]
        wanted = {(key, part) for key in ranked for part in ("val", "test")}
        return (
            set(zip(cells["configuration"], cells["part"], strict=True)) == wanted
            and len(cells) == len(wanted)
            and len(pairs) == len(ranked) * (len(ranked) - 1) // 2
        )

    def of(self, competition: Competition) -> "Significance":
        """The rows of one competition."""
        return Significance(
            self.cells[self.cells["rows_digest"] == competition.digest],
            self.pairs[self.pairs["rows_digest"] == competition.digest],
        )


def nothing_known() -> Significance:
    """The value before anything has been compared."""
    return Significance(frame_of([], CELL_COLUMNS), frame_of([], PAIR_COLUMNS))


def update(known: Significance, ledger: pd.DataFrame, scores_of: ScoresOf) -> Significance:
    """Update both files for a ledger; computes only competitions whose rows changed."""
    cells: list[dict[str, str]] = []
    pairs: list[dict[str, str]] = []
    for competition in competitions(current(ledger)):
        if known.holds_for(competition):
            kept = known.of(competition)
            more_cells, more_pairs = rows_in(kept.cells), rows_in(kept.pairs)
        else:
            more_cells, more_pairs = compute(competition, scores_of)
        cells += more_cells
        pairs += more_pairs
    return Significance(frame_of(cells, CELL_COLUMNS), frame_of(pairs, PAIR_COLUMNS))
