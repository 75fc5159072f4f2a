"""What `registry/index.html` shows beside the tables: curves, pictures and runs of each row.

Everything is read from committed files, so that every clone renders the same page.
"""

from collections.abc import Sequence
from pathlib import Path

from bench.core.commands import Runs, dataset_of_protocol, repeat_cell
from bench.data import DATASETS
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.ledger import Ledger, LedgerRow, current
from bench.leaderboard.render import Board
from bench.registry.results import Results
from bench.registry.score_files import Tensors, is_picture
from bench.registry.scores import cell_of, read_cell, read_originals
from bench.report.content import RECONSTRUCTIONS, Exhibit, Run
from bench.report.page import web_page
from bench.report.sheets import Sheet, can_show

_TITLES = {
    "x_hat": RECONSTRUCTIONS,
    "interpolation": "Interpolations",
    "samples": "Samples",
    "samples_prior": "Samples, N(0, I)",
    "samples_gaussian": "Samples, Gaussian",
    "samples_mixture": "Samples, 10 Gaussians",
}


def index_page(registry: Path, boards: Sequence[Board], results: Results, link: str = "") -> str:
    """The page for these boards, with what `registry` holds of their rows.

    `link`: see `web_page`. Raises CheckFailed for a missing or damaged file of scores.
    """
    files = {entry.cell: entry for entry in results.scores}
    exhibits: dict[str, Exhibit] = {}
    originals: dict[tuple[str, str], tuple[str, Sheet]] = {}
    confirmed = {(board.dataset, board.protocol): board.confirmations for board in boards}
    for cell, rows in cells_of_rows(current(results.ledger)).items():
        entry = files.get(cell)
        tensors = read_cell(registry, rows[0], entry) if entry else {}
        sheets = _sheets(tensors)
        if entry and entry.originals:
            board = rows[0].dataset, rows[0].protocol
            first, _ = originals.setdefault(
                board, (entry.originals, read_originals(registry, rows[0], entry))
            )
            if first != entry.originals:  # of other images than the rows before
                sheets.pop(RECONSTRUCTIONS, None)
        runs = confirmed.get((rows[0].dataset, rows[0].protocol))
        exhibits[cell] = _exhibit(rows, tensors, sheets, runs)
    return web_page(
        boards, exhibits, {board: images for board, (_, images) in originals.items()}, link
    )


def cells_of_rows(rows: Ledger) -> dict[str, list[LedgerRow]]:
    """All rows by the cell that they belong to (`scores.cell_of`)."""
    found: dict[str, list[LedgerRow]] = {}
    for row in rows:
        found.setdefault(cell_of(row), []).append(row)
    return found


def _sheets(tensors: Tensors) -> dict[str, Sheet]:
    """The pictures in a file of scores, by what the page calls them."""
    found = {}
    for key, value in tensors.items():
        name = key.partition("/")[2]
        if is_picture(name) and can_show(value):
            found[_TITLES.get(name, name)] = value
    return found


def _exhibit(
    rows: Sequence[LedgerRow],
    tensors: Tensors,
    sheets: dict[str, Sheet],
    confirmations: int | None,
) -> Exhibit:
    runs = [Run(row.seed, row.status, row.run_key, row.row_digest) for row in rows]
    keys = {row.seed: f"{row.seed}/curve" for row in rows}
    curves = {
        seed: [*map(rounded, tensors[key].tolist())] for seed, key in keys.items() if key in tensors
    }
    return Exhibit(runs, _command(rows), curves, sheets, confirmations)


def _command(rows: Sequence[LedgerRow]) -> str:
    """The command that repeats the runs; "" for images that only their owner has."""
    first = rows[0]
    own = dataset_of_protocol(first.protocol)
    if first.dataset not in DATASETS:
        return ""
    other = "" if first.dataset == own else first.dataset
    seeds = [row.seed for row in rows]
    runs = Runs(first.protocol, [first.model], [first.size_name], seeds, other)
    return repeat_cell(runs, first.recipe, other if own is not None else "")
