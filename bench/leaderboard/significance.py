"""Statistical comparisons: `cells.csv` (one interval per cell) and `comparisons.csv` (pairs).

Both are computed from scores per image, committed or of local records, and committed next to the
ledger. Each row has the digest of the ledger rows that it was computed from, so that tables can be
rendered and checked anywhere, and a changed ledger is noticed.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from bench.core.commands import Runs
from bench.core.errors import BadInput
from bench.core.identity import Name
from bench.leaderboard.competitions import (
    Competition,
    cell_name,
    every_competition,
    in_protocol,
    ranked_cells,
    why_unranked,
)
from bench.leaderboard.csv_rows import CsvRow, TrackText, rounded
from bench.leaderboard.ledger import Ledger, LedgerRow, current
from bench.leaderboard.pair_tests import Evidence
from bench.leaderboard.statistics import (
    ALPHA,
    Comparison,
    Interval,
    Sample,
    best_of,
    compare,
    evidence,
    stays_first,
)

Scores = NDArray[np.float32]


class ScoresOf(Interface):
    """The per-image scores of a ledger row, for part "validation" or "test": of the selection
    metric, or of another one; None: no local record."""

    def __call__(self, row: LedgerRow, part: str, metric: str = "") -> Scores | None: ...


@dataclass(frozen=True)
class IntervalRow(CsvRow):
    """A row of `cells.csv`: the mean of a cell on a part ("val" or "test"), with its interval.

    `in_protocol`: it is one of the rows that the protocol names. On validation: `best_share`, in
    which share of draws it has the lowest error; `first_in_halves`, of the first of these rows: in
    how many of 50 random halves of the images it stays first.
    """

    dataset: Name
    protocol: Name
    track: TrackText
    row: str
    configuration: str
    in_protocol: bool
    part: str
    metric: str
    mean: float
    low: float
    high: float
    rows_digest: str
    best_share: float | None = None
    first_in_halves: int | None = None


@dataclass(frozen=True)
class PairRow(CsvRow):
    """A row of `comparisons.csv`: two cells on validation. `difference` is the level of a minus
    that of b in the unit of comparisons (below 0: a is better), with its interval; `p` before and
    after Holm's correction."""

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
    rows_digest: str

    @property
    def better(self) -> str:
        """The configuration that is significantly better; empty for a tie."""
        if self.p_holm >= ALPHA:
            return ""
        return self.configuration_a if self.difference < 0 else self.configuration_b

    @property
    def worse(self) -> str:
        """The configuration that is significantly worse; empty for a tie."""
        if not self.better:
            return ""
        return self.configuration_b if self.difference < 0 else self.configuration_a


def family_evidence(competition: Competition, scores_of: ScoresOf) -> Evidence | None:
    """What is known about the ranked rows that the protocol names; None without such rows.

    Raises as `compute`.
    """
    cells, family = ranked_cells(competition)
    if not cells:
        return None
    samples = _samples(cells[:family], "validation", competition, scores_of)
    return evidence(samples, competition.first.selection_metric)


def compare_cells(competition: Competition, scores_of: ScoresOf) -> tuple[Ledger, Comparison]:
    """A row of each ranked cell, and how these cells compare on validation, as `compute` has it.

    Raises as `compute`.
    """
    cells, family = ranked_cells(competition)
    samples = _samples(cells, "validation", competition, scores_of)
    return [rows[0] for rows in cells], compare(samples, competition.first.selection_metric, family)


def scores_by_image(rows: Ledger, part: str, scores_of: ScoresOf) -> Scores | None:
    """The scores (N,) of a cell on each image of "validation" or "test", mean over its finished
    runs; None if those of one of them are missing."""
    finished = [row for row in rows if row.status == "finished"]
    found = [scores_of(row, part) for row in finished]
    known = [scores for scores in found if scores is not None]
    if not known or len(known) < len(found):
        return None
    mean: Scores = np.stack(known).mean(axis=0)
    return mean


def compute(
    competition: Competition, scores_of: ScoresOf
) -> tuple[list[IntervalRow], list[PairRow]]:
    """The rows of `cells.csv` and of `comparisons.csv` of one competition.

    Raises BadInput naming the runs whose per-image scores are not on this machine.
    """
    cells, family = ranked_cells(competition)
    if not cells:
        return [], []
    metric = competition.metric
    validation = _samples(cells, "validation", competition, scores_of)
    test = _samples(cells, "test", competition, scores_of)
    found = compare(validation, metric, family)
    names = [rows[0] for rows in cells]
    on_validation = [
        _interval_row(competition, row, "val", interval, rounded(share))
        for row, interval, share in zip(names, found.intervals, found.best, strict=True)
    ]
    own = validation[:family]
    if competition.resamples_images:
        first, halves = best_of(own, metric), stays_first(own, metric)
        on_validation[first] = dataclasses.replace(on_validation[first], first_in_halves=halves)
    on_test = [
        _interval_row(competition, row, "test", interval)
        for row, interval in zip(names, compare(test, metric, family).intervals, strict=True)
    ]
    return [*on_validation, *on_test], _pair_rows(competition, names, found)


def _samples(
    cells: Sequence[Ledger], part: str, competition: Competition, scores_of: ScoresOf
) -> list[Sample]:
    samples, missing = [], []
    for rows in cells:
        finished = [row for row in rows if row.status == "finished"]
        # A closed form gives the same weights for every seed: one row is enough.
        used = finished[:1] if finished[0].closed_form else finished
        scores = [_scores(competition, row, part, scores_of) for row in used]
        missing += [row for row, found in zip(used, scores, strict=True) if found is None]
        known = [np.asarray(found, dtype=np.float64) for found in scores if found is not None]
        if len(known) == len(used):
            samples.append(Sample(tuple(row.seed for row in used), np.stack(known)))
    if missing:
        raise _not_here(competition, missing)
    return samples


def _scores(
    competition: Competition, row: LedgerRow, part: str, scores_of: ScoresOf
) -> NDArray[np.floating] | None:
    """What a row is compared by on a part: scores per image, or its one value (1,)."""
    if not competition.task:
        return scores_of(row, part)
    if competition.resamples_images:
        return scores_of(row, part, competition.metric)
    value = row.scores.get(f"{'val' if part == 'validation' else part}_{competition.metric}")
    return None if value is None else np.array([value])


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
    competition: Competition,
    row: LedgerRow,
    part: str,
    interval: Interval,
    best_share: float | None = None,
) -> IntervalRow:
    return IntervalRow(
        dataset=row.dataset,
        protocol=row.protocol,
        track=competition.track,
        row=cell_name(row),
        configuration=row.configuration,
        in_protocol=in_protocol(row),
        part=part,
        metric=competition.metric,
        mean=rounded(interval.mean),
        low=rounded(interval.low),
        high=rounded(interval.high),
        rows_digest=competition.digest,
        best_share=best_share,
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
            metric=competition.metric,
            difference=rounded(pair.difference.mean),
            low=rounded(pair.difference.low),
            high=rounded(pair.difference.high),
            p=rounded(pair.p),
            p_holm=rounded(pair.p_holm),
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
    for competition in every_competition(current(ledger)):
        if known.holds_for(competition):
            cells += known.of(competition).cells
            pairs += known.of(competition).pairs
        else:
            more_cells, more_pairs = compute(competition, scores_of)
            cells += more_cells
            pairs += more_pairs
    return Significance(cells, pairs)
