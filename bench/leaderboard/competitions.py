"""Which rows of a ledger are compared, what they are called, and why one has no rank."""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from bench.core.identity import digest
from bench.core.protocol import Protocol, known_protocols
from bench.core.seeds import LEAST_SEEDS
from bench.core.tasks import FURTHER_TASKS
from bench.core.track import Track
from bench.leaderboard.ledger import BoardKey, Ledger, LedgerRow
from bench.leaderboard.seeds import seeds_planned, why_incomplete
from bench.leaderboard.spread import TOO_MUCH, loss_at_8_bits
from bench.metrics import METRICS
from bench.metrics.quantised import coarse_id

MOST_FAILURES = 0.1


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
    if _loss_at_8_bits(finished) > TOO_MUCH:
        return "its code needs more than 8 bits per number"
    return "" if rows[0].closed_form else _wrong_seeds(rows, len(finished))


def _loss_at_8_bits(finished: Ledger) -> float:
    """Of the mean scores of the runs that have them; NaN: none has."""
    metric = finished[0].selection_metric if finished else ""
    rows = [row.scores for row in finished if not math.isnan(loss_at_8_bits(row.scores, metric))]
    means = {
        column: sum(scores[column] for scores in rows) / len(rows)
        for column in (f"val_{metric}", f"val_{coarse_id(metric)}")
        if rows
    }
    return loss_at_8_bits(means, metric)


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

    A protocol that is not shipped names all rows of the default recipe. None names own models.
    """
    if row.source:
        return False
    protocol = _rows_of_protocols().get((row.protocol, row.protocol_fingerprint))
    if row.recipe != "default" or protocol is None:
        return row.recipe == "default"
    is_listed = not protocol.models or row.model in protocol.models
    return is_listed and (row.size_name != "native" or protocol.native)


def ranked_cells(competition: Competition) -> tuple[list[list[LedgerRow]], int]:
    """The cells that can be ranked, those that the protocol names first, and how many these are."""
    ranked = [rows for rows in competition.cells.values() if not why_unranked(rows)]
    family = sum(in_protocol(rows[0]) for rows in ranked)
    return sorted(ranked, key=lambda rows: not in_protocol(rows[0])), family or len(ranked)
