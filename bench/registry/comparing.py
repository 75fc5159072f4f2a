"""`bench compare`: the rows of some variants beside each other."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench.core.commands import dataset_of_protocol, protocol_reference
from bench.core.errors import BadInput, unknown_name
from bench.core.protocol import DEFAULT_PROTOCOL
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.leaderboard.cells import TableCell
from bench.leaderboard.comparing import Contrast, SideBySide
from bench.leaderboard.competitions import Competition, competitions
from bench.leaderboard.ledger import BoardKey, Ledger, LedgerRow, current, ledger_of
from bench.leaderboard.significance import Scores, ScoresOf, compare_cells
from bench.models.own import is_reference
from bench.models.zoo import MODELS, known_model
from bench.registry.champions import with_shipped
from bench.registry.changes import unchanged
from bench.registry.own import among_own, own_rows
from bench.registry.pages import ranked
from bench.registry.results import (
    Results,
    Scope,
    as_far_as_known,
    merge_local,
    read_results,
    record_of_row,
    scores_reader,
)
from bench.registry.scores import Kept


@dataclass(frozen=True)
class Found:
    """What `compare_rows` found: by track the rows beside each other; `notes`, what else a reader
    should know; `machines`, where training times were measured; and where all this stands."""

    sides: tuple[SideBySide, ...]
    notes: tuple[str, ...]
    machines: str
    store: Store
    tables: "Tables"


@dataclass(frozen=True)
class Tables:
    """The tables of a store: its results with local records, and the ranked cells.

    `home`: where the records of own models are, which no committed table has.
    """

    store: Store
    home: Store
    results: Results
    cells: Sequence[TableCell]
    latest: BoardKey | None
    rows: Ledger = field(repr=False)

    @cached_property
    def scores_of(self) -> ScoresOf:
        """A function that returns the scores per image of a row."""
        return _scores_reader(self.store, self.home, self.results)

    def record_of(self, row: LedgerRow) -> RunRecord | None:
        """The local record of a row, if it is here."""
        return record_of_row(self.home if row.source else self.store, row)

    def boards(self) -> dict[BoardKey, list[TableCell]]:
        """The cells by board: that of the newest local record first, then the default protocol."""
        found: dict[BoardKey, list[TableCell]] = {}
        for cell in self.cells:
            found.setdefault(cell.board, []).append(cell)
        order = sorted(
            found,
            key=lambda key: (key != self.latest, key.protocol != DEFAULT_PROTOCOL, key),
        )
        return {key: found[key] for key in order}


def compare_rows(store: Store, names: Sequence[str], sizes: Sequence[int], scope: Scope) -> Found:
    """Compare rows, named by their variant or as in the tables (`cnn_ae, tuned (30 trials)`), on
    one board: the newest on which all have a row, at `sizes` or at every size that they share.

    Workspace and committed scores together; the tables committed with bench where the workspace
    has no such board. An own model is named by its class (`mine.py:Net`). Raises BadInput for an
    unknown name, for rows without a common board or size, and for rows that the rules do not rank,
    saying which and what to do.
    """
    names = [known_model(name) if is_reference(name) else name for name in names]
    if len(set(names)) < 2:
        raise BadInput(f"expected two different variants, got {' '.join(names) or 'none'}")
    own = [row for row in own_rows(store) if row.model in names and scope.holds(row)]
    tables = [_tables(each, scope, store, own) for each in with_shipped(store)]
    _check_names(names, tables)
    refused: BadInput | None = None
    for table in tables:
        for cells in table.boards().values():
            if groups := _groups(cells, names, sizes):
                try:
                    return _compared(table, cells, groups, names, sizes)
                except BadInput as error:  # another board may have ranks and scores
                    refused = refused or error
    raise refused or _no_common_board(tables, names, sizes, scope)


def _tables(store: Store, scope: Scope, home: Store, own: Ledger) -> Tables:
    with unchanged(store):
        before = read_results(store.registry)
        merged = merge_local(store, before, scope, refresh=False)
        results, _ = as_far_as_known(store, before, merged.ledger)
        fingerprint = scope.protocol.fingerprint if scope.protocol else ""
        held = [row for row in results.ledger if scope.holds(row)]
        rows = current(ledger_of([*held, *own]), fingerprint)
        if own:
            results = among_own(results, rows, _scores_reader(store, home, results))
    local = [*merged.added, *merged.reproduced, *own]
    newest = max((row for row in local if scope.holds(row)), key=_finished, default=None)
    cells = ranked(rows, results)
    return Tables(store, home, results, cells, newest.board if newest else None, rows)


def _scores_reader(store: Store, home: Store, results: Results) -> ScoresOf:
    """The scores per image of a table's rows; those of own models from `home`."""
    of_table = scores_reader(store, Kept(store.registry, results.scores))
    of_home = scores_reader(home, Kept(home.registry, ()))

    def scores_of(row: LedgerRow, part: str, metric: str = "") -> Scores | None:
        return (of_home if row.source else of_table)(row, part, metric)

    return scores_of


def _finished(row: LedgerRow) -> Any:
    return row.finished, row.run_key


def _check_names(names: Sequence[str], tables: Sequence[Tables]) -> None:
    rows = {cell.row for table in tables for cell in table.cells}
    for name in names:
        if name not in MODELS and name not in rows:
            raise unknown_name("variant", name, {*MODELS, *rows})


def _named(cell: TableCell, name: str) -> bool:
    """Whether a name is that of a cell's row, or of its variant by the default recipe."""
    plain = cell.recipe == "default" and cell.size_name != "native"
    return cell.row == name or (plain and cell.model == name)


def _place(cell: TableCell) -> tuple[str, str]:
    """What rows beside each other share: the track, and the size among over-complete codes."""
    return cell.title, cell.size_name if cell.track.overcomplete else ""


def _groups(
    cells: Sequence[TableCell], names: Sequence[str], sizes: Sequence[int]
) -> list[tuple[TableCell, ...]]:
    """The cells of all names, by track; empty unless all have one at every one of `sizes`."""
    places: dict[tuple[str, str], dict[str, TableCell]] = {}
    for cell in cells:
        for name in names:
            if _named(cell, name):
                places.setdefault(_place(cell), {}).setdefault(name, cell)
    whole = [
        tuple(found[name] for name in names)
        for found in places.values()
        if len(found) == len(names)
    ]
    if not sizes:
        return whole
    chosen = [group for group in whole if _size(group[0]) in sizes]
    return chosen if {_size(group[0]) for group in chosen} == set(sizes) else []


def _size(cell: TableCell) -> int | None:
    if cell.track.overcomplete:
        return int(cell.size_name) if cell.size_name.isdigit() else cell.code_size
    if cell.track.kind == "real":  # also of a row without a code, which stands in every table
        return cell.track.size
    return None if cell.track.classifies else cell.code_size


def _no_common_board(
    tables: Sequence[Tables], names: Sequence[str], sizes: Sequence[int], scope: Scope
) -> BadInput:
    """Why nothing can be compared, and the command that makes what is missing."""
    for table in tables:
        for board, cells in table.boards().items():
            have = {
                name: sorted({_size(cell) or 0 for cell in cells if _named(cell, name)})
                for name in names
            }
            if not all(have.values()):
                continue
            lacking = {
                name: [size for size in (sizes or _union(have)) if size not in found]
                for name, found in have.items()
            }
            name, missing = next((item for item in lacking.items() if item[1]), ("", []))
            if not missing:
                continue
            runs = ["bench", "run", "--protocol", protocol_reference(board.protocol)]
            runs += _dataset_option(table, board)
            runs += ["--model", name, "--latent-dim", ",".join(map(str, missing))]
            return BadInput(
                f"{name} has no row of {_listed(missing)} numbers in {board.protocol} on "
                f"{board.dataset} (it has {_listed(have[name])}); make it with: {shlex.join(runs)}"
            )
    where = "; ".join(f"{name} is in {_boards_of(tables, name)}" for name in names)
    options = [f"--model {name}" for name in names if name in MODELS]
    if scope.protocol is not None:
        options.insert(0, f"--protocol {protocol_reference(scope.protocol.name)}")
    return BadInput(
        f"no table has all of them: {where}; make one with: bench run {' '.join(options)}"
    )


def _dataset_option(tables: Tables, board: BoardKey) -> list[str]:
    """What `bench run` is given for the images of a board that are not its protocol's."""
    if board.dataset == dataset_of_protocol(board.protocol):
        return []
    rows = (row for row in tables.rows if row.board == board)
    here = next(filter(None, map(tables.record_of, rows)), None)
    return ["--dataset", here.spec.dataset if here else board.dataset]


def _union(have: Mapping[str, Sequence[int]]) -> list[int]:
    return sorted({size for found in have.values() for size in found})


def _listed(sizes: Sequence[int]) -> str:
    return " and ".join(map(str, sizes))


def _boards_of(tables: Sequence[Tables], name: str) -> str:
    found = {
        f"{cell.board.protocol} on {cell.board.dataset}"
        for table in tables
        for cell in table.cells
        if _named(cell, name)
    }
    return ", ".join(sorted(found)) or "none"


def _compared(
    tables: Tables,
    cells: Sequence[TableCell],
    groups: Sequence[tuple[TableCell, ...]],
    names: Sequence[str],
    sizes: Sequence[int],
) -> Found:
    unranked = [cell for group in groups for cell in group if cell.why_unranked]
    usable = [group for group in groups if not any(cell.why_unranked for cell in group)]
    if not usable:
        first = unranked[0]
        raise BadInput(
            f"{first.row} in {first.title} cannot be compared: {first.why_unranked}; see: bench "
            f"leaderboard --protocol {protocol_reference(first.board.protocol)}"
        )
    held = {competition.title: competition for competition in _competitions(tables, cells[0].board)}
    sides = []
    with unchanged(tables.store):
        for group in usable:
            rows, comparison = compare_cells(held[group[0].title], tables.scores_of)
            places = {row.configuration: place for place, row in enumerate(rows)}
            sides.append(SideBySide(group, tuple(_contrasts(group, places, comparison.pairs))))
    notes = [f"not compared: {cell.row} in {cell.title}: {cell.why_unranked}" for cell in unranked]
    notes += _other_boards(tables, cells[0].board, names, sizes)
    return Found(tuple(sides), tuple(notes), _machines(tables, usable), tables.store, tables)


def _competitions(tables: Tables, board: BoardKey) -> Iterator[Competition]:
    return competitions([row for row in tables.rows if row.board == board])


def _contrasts(
    group: Sequence[TableCell], places: Mapping[str, int], pairs: Sequence[Any]
) -> Iterator[Contrast]:
    by_place = {(pair.first, pair.second): pair for pair in pairs}
    for index, first in enumerate(group):
        for second in group[index + 1 :]:
            i, j = places[first.configuration], places[second.configuration]
            pair = by_place[min(i, j), max(i, j)]
            difference, share = pair.difference, pair.share
            if i > j:
                difference = dataclasses.replace(
                    difference, mean=-difference.mean, low=-difference.high, high=-difference.low
                )
                share = 1 - share
            yield Contrast(first, second, difference, share, pair.p_holm)


def _other_boards(
    tables: Tables, chosen: BoardKey, names: Sequence[str], sizes: Sequence[int]
) -> Iterator[str]:
    """Where else these rows can be compared: where the rules rank all of them at these sizes."""
    others = [
        protocol_reference(board.protocol)
        for board, cells in tables.boards().items()
        if board != chosen
        and any(
            not any(cell.why_unranked for cell in group) for group in _groups(cells, names, sizes)
        )
    ]
    if others:
        yield f"also in other tables: --protocol {', '.join(dict.fromkeys(others))}"


def _machines(tables: Tables, groups: Sequence[Sequence[TableCell]]) -> str:
    """On what the runs were trained: `on cpu, 1 thread`."""
    compared = {cell.configuration for group in groups for cell in group}
    found = {
        _machine(row)
        for row in tables.rows
        if row.configuration in compared and row.board == groups[0][0].board
    }
    return f"on {' and '.join(sorted(found))}, of the machine that ran it"


def _machine(row: LedgerRow) -> str:
    threads = row.environment.get("threads", "")
    count = f", {threads} thread{'' if threads == '1' else 's'}" if threads else ""
    return f"{row.environment.get('device', 'an unknown device')}{count}"


def rows_of(tables: Tables, cell: TableCell) -> Ledger:
    """The ledger rows of a cell."""
    return [
        row
        for row in tables.rows
        if row.board == cell.board and row.configuration == cell.configuration
    ]
