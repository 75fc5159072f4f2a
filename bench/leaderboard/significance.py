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
from bench.core.spec import OVERCOMPLETE
from bench.leaderboard.ledger import (
    BOARD,
    Row,
    current,
    describe,
    frame_of,
    number,
    rows_in,
    signed,
    track_order,
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
class Track:
    """The rows of a ledger that compete: one board, one code size."""

    name: str
    rows: pd.DataFrame

    @cached_property
    def first(self) -> Row:
        """Any row, for what all of them share."""
        return rows_in(self.rows.head(1))[0]

    @cached_property
    def title(self) -> str:
        """`fashion_mnist_mini.quick.d8`: the name used in commands."""
        return f"{self.first['dataset']}.{self.first['protocol']}.{self.name}"

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


def tracks(rows: pd.DataFrame) -> Iterator[Track]:
    """The tracks among the rows returned by `ledger.current`, in the order of the tables."""
    if rows.empty:
        return
    groups = [
        (str(key[0]), track_order(str(key[-1])), str(key[-1]), group)
        for key, group in rows.groupby([*BOARD, "track"], sort=True)
    ]
    for _, _, name, group in sorted(groups, key=lambda item: (item[0], _board(item[3]), item[1])):
        yield Track(name, group)


def _board(group: pd.DataFrame) -> tuple[str, ...]:
    return tuple(str(group[name].iloc[0]) for name in BOARD)


def cell_name(row: Row) -> str:
    """The name of a row within its track: variant, with size and recipe if these are not the
    usual ones."""
    name = row["model"]
    if row["latent_dim"] == "native":
        name += " (native)"
    elif row["track"] == OVERCOMPLETE:
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


def compute(track: Track, scores_of: ScoresOf) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of `cells.csv` and of `comparisons.csv` of one track.

    Raises BadInput naming the runs whose per-image scores are not on this machine.
    """
    cells = {key: rows for key, rows in track.cells.items() if not why_unranked(rows)}
    if not cells:
        return [], []
    validation = compare(_samples(cells, "validation", track, scores_of))
    test = compare(_samples(cells, "test", track, scores_of))
    by_part = {"val": validation.intervals, "test": test.intervals}
    found = [
        _cell_row(track, rows[0], part, interval)
        for part, intervals in by_part.items()
        for rows, interval in zip(cells.values(), intervals, strict=True)
    ]
    return found, _pair_rows(track, [rows[0] for rows in cells.values()], validation)


def _samples(
    cells: Mapping[str, list[dict[str, str]]], part: str, track: Track, scores_of: ScoresOf
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
        raise _not_here(track, missing)
    return samples


def _not_here(track: Track, missing: list[dict[str, str]]) -> BadInput:
    runs = Runs(
        missing[0]["protocol"],
        sorted({row["model"] for row in missing}),
        {row["latent_dim"] for row in missing},
        {int(row["seed"]) for row in missing},
    )
    return BadInput(
        f"track {track.title} changed and must be compared again, but the per-image scores of "
        f"{len(missing)} of its runs are not on this machine (the first is {describe(missing[0])});"
        f" run: {runs.command}"
    )


def _shared(track: Track) -> dict[str, str]:
    return {
        "dataset": track.first["dataset"],
        "protocol": track.first["protocol"],
        "track": track.name,
        "metric": track.first["selection_metric"],
        "rows_digest": track.digest,
    }


def _cell_row(track: Track, row: Row, part: str, interval: Interval) -> dict[str, str]:
    return signed(
        {
            **_shared(track),
            "row": cell_name(row),
            "configuration": row["configuration"],
            "part": part,
            "mean": number(interval.mean),
            "low": number(interval.low),
            "high": number(interval.high),
        }
    )


def _pair_rows(
    track: Track, cells: list[dict[str, str]], found: Comparison
) -> list[dict[str, str]]:
    return [
        signed(
            {
                **_shared(track),
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

    def holds_for(self, track: Track) -> bool:
        """Whether it was computed from exactly these rows, and completely."""
        ranked = [key for key, rows in track.cells.items() if not why_unranked(rows)]
        cells = self.cells[self.cells["rows_digest"] == track.digest]
        pairs = self.pairs[self.pairs["rows_digest"] == track.digest]
        wanted = {(key, part) for key in ranked for part in ("val", "test")}
        return (
            set(zip(cells["configuration"], cells["part"], strict=True)) == wanted
            and len(cells) == len(wanted)
            and len(pairs) == len(ranked) * (len(ranked) - 1) // 2
        )

    def of(self, track: Track) -> "Significance":
        """The rows of one track."""
        return Significance(
            self.cells[self.cells["rows_digest"] == track.digest],
            self.pairs[self.pairs["rows_digest"] == track.digest],
        )


def nothing_known() -> Significance:
    """The value before anything has been compared."""
    return Significance(frame_of([], CELL_COLUMNS), frame_of([], PAIR_COLUMNS))


def update(known: Significance, ledger: pd.DataFrame, scores_of: ScoresOf) -> Significance:
    """Update both files for a ledger; computes only tracks whose rows changed."""
    cells: list[dict[str, str]] = []
    pairs: list[dict[str, str]] = []
    for track in tracks(current(ledger)):
        if known.holds_for(track):
            kept = known.of(track)
            more_cells, more_pairs = rows_in(kept.cells), rows_in(kept.pairs)
        else:
            more_cells, more_pairs = compute(track, scores_of)
        cells += more_cells
        pairs += more_pairs
    return Significance(frame_of(cells, CELL_COLUMNS), frame_of(pairs, PAIR_COLUMNS))
