"""Statistical comparisons: `cells.csv` (one interval per cell) and `comparisons.csv` (pairs).

Both are computed from per-image scores, which stay on the machine that ran; the results are
committed next to the ledger. Each row has the digest of the ledger rows that it was computed
from, so that tables can be rendered and checked anywhere, and a changed ledger is noticed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.core.commands import Runs
from bench.core.errors import BadInput
from bench.core.identity import Name, digest
from bench.core.track import Track
from bench.leaderboard.csv_rows import CsvRow, TrackText, rounded
from bench.leaderboard.ledger import BoardKey, Ledger, LedgerRow, current
from bench.leaderboard.statistics import Comparison, Interval, Sample, compare

LEAST_SEEDS = 3
MOST_FAILURES = 0.1

Scores = NDArray[np.float32]
ScoresOf = Callable[[LedgerRow, str], Scores | None]
"""The per-image scores of a ledger row, for part "validation" or "test"; None: no local record."""


@dataclass(frozen=True)
class IntervalRow(CsvRow):
    """A row of `cells.csv`: the interval of a cell on a part ("val" or "test")."""

    dataset: Name
    protocol: Name
    track: TrackText
    row: str
    configuration: str
    part: str
    metric: str
    mean: float
    low: float
    high: float
    rows_digest: str


@dataclass(frozen=True)
class PairRow(CsvRow):
    """A row of `comparisons.csv`: `difference` is the mean of a - b on validation, with its
    interval; `p` before and after Holm's correction, from so many `replicates`."""

    dataset: Name
    protocol: Name
    track: TrackText
    row_a: str
    row_b: str
    configuration_a: str
    configuration_b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    replicates: int
    rows_digest: str


@dataclass(frozen=True)
class Competition:
    """The rows of a ledger that are compared with each other: one board, one track."""

    track: Track
    rows: Ledger

    @property
    def first(self) -> LedgerRow:
        """Any row, for what all of them share."""
        return self.rows[0]

    @property
    def title(self) -> str:
        """`fashion_mnist_mini.quick.d8`: the name used in commands."""
        return f"{self.first.dataset}.{self.first.protocol}.{self.track}"

    @cached_property
    def digest(self) -> str:
        """A digest that changes with any cell of any row."""
        return digest({"rows": sorted(row.row_digest for row in self.rows)})

    @cached_property
    def cells(self) -> dict[str, list[LedgerRow]]:
        """Rows by configuration, ordered by the cell's name, then by seed."""
        found: dict[str, list[LedgerRow]] = {}
        for row in sorted(self.rows, key=lambda row: (cell_name(row), row.seed)):
            found.setdefault(row.configuration, []).append(row)
        return found


def competitions(rows: Ledger) -> Iterator[Competition]:
    """The competitions among the rows returned by `ledger.current`, in the order of the tables."""
    groups: dict[tuple[BoardKey, Track], list[LedgerRow]] = {}
    for row in rows:
        groups.setdefault((row.board, row.track), []).append(row)
    for board, track in sorted(groups, key=lambda key: (key[0], key[1].order)):
        yield Competition(track, groups[board, track])


def cell_name(row: LedgerRow) -> str:
    """The name of a row within its track: variant, with size and recipe if these are not the
    usual ones."""
    name = row.model
    if row.size_name == "native":
        name += " (native)"
    elif row.track.overcomplete:
        name += f" d={row.latent_dim}"
    return name if row.recipe == "default" else f"{name}, {row.recipe}"


def why_unranked(rows: Ledger) -> str:
    """Why the runs of a cell cannot be ranked; empty if they can."""
    finished = [row for row in rows if row.status == "finished"]
    if not rows[0].ranked:
        return "a protocol that is not ranked"
    if len(rows) - len(finished) > MOST_FAILURES * len(rows):
        return "more than 10 % of its runs failed"
    if any(row.selected("val") is None for row in finished):
        return "no validation images"
    if not rows[0].closed_form and len(finished) < LEAST_SEEDS:
        return f"fewer than {LEAST_SEEDS} seeds"
    return ""


def compute(
    competition: Competition, scores_of: ScoresOf
) -> tuple[list[IntervalRow], list[PairRow]]:
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
        _interval_row(competition, rows[0], part, interval)
        for part, intervals in by_part.items()
        for rows, interval in zip(cells.values(), intervals, strict=True)
    ]
    return found, _pair_rows(competition, [rows[0] for rows in cells.values()], validation)


def _samples(
    cells: Mapping[str, Ledger], part: str, competition: Competition, scores_of: ScoresOf
) -> list[Sample]:
    samples, missing = [], []
    for rows in cells.values():
        finished = [row for row in rows if row.status == "finished"]
        # A closed form gives the same weights for every seed: one row is enough.
        used = finished[:1] if finished[0].closed_form else finished
        scores = [scores_of(row, part) for row in used]
        missing += [row for row, found in zip(used, scores, strict=True) if found is None]
        known = [np.asarray(found, dtype=np.float64) for found in scores if found is not None]
        if len(known) == len(used):
            samples.append(Sample(tuple(row.seed for row in used), np.stack(known)))
    if missing:
        raise _not_here(competition, missing)
    return samples


def _not_here(competition: Competition, missing: Ledger) -> BadInput:
    runs = Runs(
        missing[0].protocol,
        sorted({row.model for row in missing}),
        {row.size_name for row in missing},
        {row.seed for row in missing},
    )
    return BadInput(
        f"track {competition.title} changed and must be compared again, but the per-image scores "
        f"of {len(missing)} of its runs are not on this machine (the first is "
        f"{missing[0].title}); run: {runs.command}"
    )


def _interval_row(
    competition: Competition, row: LedgerRow, part: str, interval: Interval
) -> IntervalRow:
    return IntervalRow(
        dataset=row.dataset,
        protocol=row.protocol,
        track=competition.track,
        row=cell_name(row),
        configuration=row.configuration,
        part=part,
        metric=row.selection_metric,
        mean=rounded(interval.mean),
        low=rounded(interval.low),
        high=rounded(interval.high),
        rows_digest=competition.digest,
    )


def _pair_rows(competition: Competition, cells: Ledger, found: Comparison) -> list[PairRow]:
    first = competition.first
    return [
        PairRow(
            dataset=first.dataset,
            protocol=first.protocol,
            track=competition.track,
            row_a=cell_name(cells[pair.first]),
            row_b=cell_name(cells[pair.second]),
            configuration_a=cells[pair.first].configuration,
            configuration_b=cells[pair.second].configuration,
            metric=first.selection_metric,
            difference=rounded(pair.difference.mean),
            low=rounded(pair.difference.low),
            high=rounded(pair.difference.high),
            p=rounded(pair.p),
            p_holm=rounded(pair.p_holm),
            replicates=found.replicates,
            rows_digest=competition.digest,
        )
        for pair in found.pairs
    ]


@dataclass(frozen=True)
class Significance:
    """The rows of both files."""

    cells: Sequence[IntervalRow] = ()
    pairs: Sequence[PairRow] = ()

    def holds_for(self, competition: Competition) -> bool:
        """Whether it was computed from exactly these rows, and completely."""
        ranked = [key for key, rows in competition.cells.items() if not why_unranked(rows)]
        found = self.of(competition)
        wanted = {(key, part) for key in ranked for part in ("val", "test")}
        return (
            {(row.configuration, row.part) for row in found.cells} == wanted
            and len(found.cells) == len(wanted)
            and len(found.pairs) == len(ranked) * (len(ranked) - 1) // 2
        )

    def of(self, competition: Competition) -> "Significance":
        """The rows of one competition."""
        return Significance(
            [row for row in self.cells if row.rows_digest == competition.digest],
            [row for row in self.pairs if row.rows_digest == competition.digest],
        )


def update(known: Significance, ledger: Ledger, scores_of: ScoresOf) -> Significance:
    """Update both files for a ledger; computes only competitions whose rows changed."""
    cells: list[IntervalRow] = []
    pairs: list[PairRow] = []
    for competition in competitions(current(ledger)):
        if known.holds_for(competition):
            cells += known.of(competition).cells
            pairs += known.of(competition).pairs
        else:
            more_cells, more_pairs = compute(competition, scores_of)
            cells += more_cells
            pairs += more_pairs
    return Significance(cells, pairs)
