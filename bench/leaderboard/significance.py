"""Statistical comparisons: `cells.csv` (one interval per cell) and `comparisons.csv` (pairs).

Both are computed from per-image scores, which stay on the machine that ran; the results are
committed next to the ledger. Each row has the digest of the ledger rows that it was computed
from, so that tables can be rendered and checked anywhere, and a changed ledger is noticed.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from bench.core.commands import Runs
from bench.core.errors import BadInput
from bench.core.identity import Name, digest
from bench.core.protocol import Protocol, known_protocols
from bench.core.seeds import LEAST_SEEDS
from bench.core.tasks import FURTHER_TASKS
from bench.core.track import Track
from bench.leaderboard.csv_rows import CsvRow, TrackText, rounded
from bench.leaderboard.ledger import BoardKey, Ledger, LedgerRow, current
from bench.leaderboard.pair_tests import Evidence
from bench.leaderboard.seeds import seeds_planned, why_incomplete
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
from bench.metrics import METRICS

MOST_FAILURES = 0.1

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


@dataclass(frozen=True)
class Competition:
    """The rows of a ledger that are compared with each other: one board, one track.

    `task`: the further task whose headline metric compares them; empty: the selection metric.
    """

    track: Track
    rows: Ledger
    task: str = ""

    @property
    def first(self) -> LedgerRow:
        """Any row, for what all of them share."""
        return self.rows[0]

    @property
    def title(self) -> str:
        """`fashion_mnist_mini.quick.d8`: the name used in commands; that of a further task has the
        task behind."""
        title = f"{self.first.dataset}.{self.first.protocol}.{self.track}"
        return f"{title}.{self.task}" if self.task else title

    @property
    def metric(self) -> str:
        """The metric that compares the rows."""
        return FURTHER_TASKS[self.task].headline if self.task else self.first.selection_metric

    @property
    def resamples_images(self) -> bool:
        """Whether there is a score per image; otherwise seeds alone are resampled."""
        return not self.task or METRICS[self.metric].per_image

    @cached_property
    def digest(self) -> str:
        """A digest that changes with any cell of any row."""
        rows: dict[str, object] = {"rows": sorted(row.row_digest for row in self.rows)}
        return digest(rows | {"metric": self.metric} if self.task else rows)

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


def task_competitions(rows: Ledger) -> Iterator[Competition]:
    """The competitions of further tasks among the same rows, by board and track, then by task.

    Cells take part whose finished runs have the headline metric: not those without a code, say.
    """
    for competition in competitions(rows):
        for task in FURTHER_TASKS.values():
            column = f"val_{task.headline}"
            having = [
                row
                for group in competition.cells.values()
                if task.headline in METRICS and _all_have(group, column)
                for row in group
            ]
            if having:
                yield Competition(competition.track, having, task.id)


def _all_have(rows: Ledger, column: str) -> bool:
    finished = [row for row in rows if row.status == "finished"]
    return bool(finished) and all(column in row.scores for row in finished)


def every_competition(rows: Ledger) -> Iterator[Competition]:
    """Those of the tables that rank, then those of further tasks."""
    yield from competitions(rows)
    yield from task_competitions(rows)


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
    if any(row.uncommitted for row in rows):
        return "made with uncommitted changes of bench/"
    if len(rows) - len(finished) > MOST_FAILURES * len(rows):
        return "more than 10 % of its runs failed"
    if any(row.selected("val") is None for row in finished):
        return "no validation images"
    return "" if rows[0].closed_form else _wrong_seeds(rows, len(finished))


def _wrong_seeds(rows: Ledger, finished: int) -> str:
    seeds = seeds_planned(rows)
    if seeds is not None and (why := why_incomplete(seeds, rows)):
        return why
    return f"fewer than {LEAST_SEEDS} seeds" if finished < LEAST_SEEDS else ""


@functools.cache
def _rows_of_protocols() -> Mapping[tuple[str, str], Protocol]:
    return {(each.name, each.fingerprint): each for each in known_protocols()}


def in_protocol(row: LedgerRow) -> bool:
    """Whether a row is one that its protocol names: its default recipe, of its variants.

    A protocol that is not shipped names all rows of the default recipe.
    """
    protocol = _rows_of_protocols().get((row.protocol, row.protocol_fingerprint))
    if row.recipe != "default" or protocol is None:
        return row.recipe == "default"
    is_listed = not protocol.models or row.model in protocol.models
    return is_listed and (row.size_name != "native" or protocol.native)


def _ranked_cells(competition: Competition) -> tuple[list[list[LedgerRow]], int]:
    """The cells that can be ranked, those that the protocol names first, and how many these are."""
    ranked = [rows for rows in competition.cells.values() if not why_unranked(rows)]
    family = sum(in_protocol(rows[0]) for rows in ranked)
    return sorted(ranked, key=lambda rows: not in_protocol(rows[0])), family or len(ranked)


def family_evidence(competition: Competition, scores_of: ScoresOf) -> Evidence | None:
    """What is known about the ranked rows that the protocol names; None without such rows.

    Raises as `compute`.
    """
    cells, family = _ranked_cells(competition)
    if not cells:
        return None
    samples = _samples(cells[:family], "validation", competition, scores_of)
    return evidence(samples, competition.first.selection_metric)


def compute(
    competition: Competition, scores_of: ScoresOf
) -> tuple[list[IntervalRow], list[PairRow]]:
    """The rows of `cells.csv` and of `comparisons.csv` of one competition.

    Raises BadInput naming the runs whose per-image scores are not on this machine.
    """
    cells, family = _ranked_cells(competition)
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
