"""Models of your own beside the committed rows: the rank that each would have among them.

Such a row is compared with the rows that its protocol names, in a family of its own, so that no
committed range changes (`leaderboard.statistics.compare`). It is never written to the ledger.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from bench.core.errors import BadInput
from bench.core.spec import NO_CODE, RunSpec
from bench.core.store import Store, shipped
from bench.leaderboard.cells import TableCell
from bench.leaderboard.competitions import Competition, competitions, in_protocol
from bench.leaderboard.ledger import Ledger, LedgerRow, current, ledger_of, row_of, score_columns
from bench.leaderboard.ranking import rank_table
from bench.leaderboard.render import Board
from bench.leaderboard.significance import Scores, ScoresOf, Significance, compute
from bench.leaderboard.wording import margin, ranks_text, score
from bench.metrics import METRICS, short_title
from bench.records.files import iter_records
from bench.registry.changes import unchanged
from bench.registry.results import Results, Scope, merge_local, read_results, scores_reader
from bench.registry.scores import Kept


def own_boards(store: Store, scope: Scope) -> list[Board]:
    """The rows of own models within `scope`, by protocol and data set, best first, each with the
    ranks that it would have among the rows beside it.

    These are the committed ones of the same board and track; where there are none, those of this
    workspace. Without scores per image there are no ranks.
    """
    rows = [row for row in own_rows(store) if scope.holds(row)]
    if not rows:
        return []
    fingerprint = scope.protocol.fingerprint if scope.protocol else ""
    beside = _Beside(store)
    boards: dict[tuple[str, str], list[TableCell]] = {}
    for competition in competitions(current(ledger_of(rows), fingerprint)):
        found = [beside.placed(competition, cell) for cell in competition.cells.values()]
        key = competition.first.dataset, competition.first.protocol
        boards.setdefault(key, []).extend(sorted(found, key=_order))
    return [Board(cells, 0, (), {}) for cells in boards.values()]


def standings(store: Store, specs: Iterable[RunSpec]) -> list[str]:
    """One line for each cell of own models among `specs`: where it would stand, and its margin."""
    wanted = {spec.cell for spec in specs if spec.source}
    if not wanted:
        return []
    boards = own_boards(store, Scope())
    return [
        _in_words(cell) for board in boards for cell in board.cells if _cell_key(cell) in wanted
    ]


def _in_words(cell: TableCell) -> str:
    metric = cell.selection_metric
    size = "" if cell.size_name == NO_CODE else f" at latent size {cell.size_name}"
    line = (
        f"{cell.row}{size}: validation {short_title(metric)} {score(cell, f'val_{metric}', metric)}"
    )
    if cell.ranks is None:
        line += f"; no rank: {cell.why_unranked}"
    elif cell.among < 2:
        line += "; there is no row to compare it with"
    else:
        line += f"; would be rank {ranks_text(cell.ranks)} of {cell.among} in {cell.title}"
    return line + (f"; {margin(cell)} over PCA on test" if not math.isnan(cell.margin) else "")


def _cell_key(cell: TableCell) -> tuple[str, str, str, str, int | None, str]:
    size = int(cell.size_name) if cell.size_name.isdigit() else None
    board = cell.board
    return (
        board.dataset,
        board.protocol,
        board.protocol_fingerprint,
        cell.model,
        size,
        cell.recipe,
    )


def _order(cell: TableCell) -> float:
    """By mean validation score, best first; cells without one last."""
    value = cell.mean(f"val_{cell.selection_metric}")
    return math.inf if math.isnan(value) else -value if _rises(cell.selection_metric) else value


def _rises(metric: str) -> bool:
    return METRICS[metric].higher_is_better


def own_rows(store: Store) -> list[LedgerRow]:
    """The rows that the local records of own models would have."""
    records = iter_records(store.records)
    return [row_of(each) for each in records if each.spec.source and each.status != "stopped"]


def among_own(results: Results, rows: Ledger, scores_of: ScoresOf) -> Results:
    """The results with comparisons of the competitions among `rows` that hold own models.

    A competition whose scores per image are not all here stays without.
    """
    cells, pairs = [*results.known.cells], [*results.known.pairs]
    for competition in competitions(rows):
        if any(row.source for row in competition.rows):
            try:
                found = compute(competition, scores_of)
            except BadInput:
                continue
            cells += found[0]
            pairs += found[1]
    return dataclasses.replace(results, known=Significance(cells, pairs))


class _Beside:
    """The rows that own models are compared with, and the scores of all of them."""

    def __init__(self, store: Store) -> None:
        ours = shipped()
        with unchanged(ours):
            committed = read_results(ours.registry)
            self._kept = Kept(ours.registry, committed.scores)
        with unchanged(store):
            local = read_results(store.registry)
            merged = merge_local(store, local, Scope(), refresh=False).ledger
            self._local = scores_reader(store, Kept(store.registry, local.scores))
        self._ledgers = committed.ledger, merged

    def placed(self, competition: Competition, rows: Ledger) -> TableCell:
        """The cell of an own model with the ranks that it would have."""
        first = rows[0]
        peers = next(filter(None, (self._of(first, ledger) for ledger in self._ledgers)), ())
        together = Competition(competition.track, ledger_of([*peers, *rows]))
        try:
            known = Significance(*compute(together, self._scores))
        except BadInput:  # some scores per image are neither committed nor here
            known = Significance()
        columns = score_columns(together.rows)
        table = rank_table(
            together.rows, known, {first.selection_metric: _rises(first.selection_metric)}, columns
        )
        return next(cell for cell in table if cell.configuration == first.configuration)

    def _of(self, first: LedgerRow, ledger: Ledger) -> Sequence[LedgerRow]:
        same = [row for row in ledger if (row.board, row.track) == (first.board, first.track)]
        return [row for row in current(same) if in_protocol(row)]

    def _scores(self, row: LedgerRow, part: str, metric: str = "") -> Scores | None:
        if self._kept.holds(row):
            return self._kept.scores_of(row, part, metric)
        return self._local(row, part, metric)
