"""Boards for the tests of the page: the committed ones, hostile names, many rows."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from bench.core.store import Store
from bench.core.tasks import FURTHER_TASKS
from bench.leaderboard.cells import TableCell
from bench.leaderboard.render import Board
from bench.metrics import metrics_of
from bench.registry import pages
from bench.registry.results import Scope, read_results
from bench.report.content import RECONSTRUCTIONS, Exhibit, row_key

ROOT = Path(__file__).parent.parent
HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028&amp;\u202e\"'"
SHOWN = "</script><img src=x onerror=alert(1)><!-- &amp;\\u202e\"'"
"""The same as the page shows it: in one line, and without characters that reorder it."""


@cache
def boards() -> tuple[Board, ...]:
    """The committed boards that the page shows."""
    store = Store(ROOT)
    found = pages.boards_of(store, read_results(store.registry), Scope())
    return tuple(pages.without_origins(found))


def tables(board: Board) -> list[Sequence[TableCell]]:
    """The rows of the tables that the page shows of a board: the ranking's, each further task's."""
    return [board.cells, *board.further.values()]


def _quick() -> Board:
    return next(board for board in boards() if board.protocol == "quick")


def hostile_board() -> tuple[Board, Exhibit]:
    """A board whose texts would end elements, open others or run scripts, if they could."""
    cell = _quick().cells[0]
    hostile = dataclasses.replace(
        cell,
        board=cell.board._replace(dataset=HOSTILE, protocol=HOSTILE),
        row=HOSTILE,
        hyperparameters=f"a={HOSTILE}",
        badges=(HOSTILE,),
        why_unranked=HOSTILE,
    )
    sheet = np.zeros((2, 1, 4, 4), np.uint8)
    exhibit = Exhibit(command=HOSTILE, sheets={HOSTILE: sheet, RECONSTRUCTIONS: sheet})
    others = [dataclasses.replace(each, board=hostile.board) for each in _quick().cells[1:20]]
    return Board([hostile, *others], 0, (), {}), exhibit


def further_board() -> Board:
    """The board of `quick` with values of a task that is compared and of one that is not."""
    quick = _quick()
    measured = {name for task in FURTHER_TASKS for name in metrics_of(task)}
    plain = [
        dataclasses.replace(
            cell,
            means={k: v for k, v in cell.means.items() if k.partition("_")[2] not in measured},
        )
        for cell in quick.cells
    ]
    values = {
        "representation": ("probe_accuracy", "probe_accuracy"),
        "cost": ("", "weight_bytes"),
    }
    further = {
        task: [
            dataclasses.replace(
                cell,
                selection_metric=headline,
                means={**cell.means, f"val_{metric}": 0.5, f"test_{metric}": 0.25 + place / 100},
                deviations={**cell.deviations, f"val_{metric}": 0.1, f"test_{metric}": 0.1},
                badges=(),
            )
            for place, cell in enumerate(plain)
        ]
        for task, (headline, metric) in values.items()
    }
    return dataclasses.replace(quick, cells=plain, further=further)


def many_rows(count: int) -> tuple[Board, dict[str, Exhibit], dict[tuple[str, str], np.ndarray]]:
    """A board of so many rows, each with curves and pictures."""
    quick = _quick()
    cells = []
    for number in range(count):
        # Of one size after the other, as a board has them.
        cell = quick.cells[number * len(quick.cells) // count]
        cells.append(
            dataclasses.replace(
                cell,
                row=f"{cell.row}_{number}",
                configuration=f"{number:016x}",
                means={key: value * (1 + number / 1e4) for key, value in cell.means.items()},
            )
        )
    board = Board(cells, 0, (), {})
    sheet = np.random.default_rng(0).integers(0, 256, (24, 1, 28, 28), dtype=np.uint8)
    curve = [1 / epoch for epoch in range(1, 25)]
    exhibit = Exhibit(curves=dict.fromkeys(range(3), curve), sheets={RECONSTRUCTIONS: sheet})
    exhibits = {row_key(cell): exhibit for cell in cells}
    return board, exhibits, {(board.dataset, board.protocol): sheet}
