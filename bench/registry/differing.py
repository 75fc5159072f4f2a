"""`bench compare --out`: the test images that two rows differ on most, and reconstructions."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import known_protocols
from bench.core.spec import RunRecord
from bench.data import DATASETS, Splits, load_splits
from bench.leaderboard.cells import TableCell
from bench.leaderboard.comparing import SideBySide, picture_title
from bench.leaderboard.ledger import BoardKey
from bench.leaderboard.significance import scores_by_image
from bench.metrics import METRICS
from bench.records.files import iter_records
from bench.records.selection import shown_record
from bench.registry.champions import champions
from bench.registry.comparing import Found, Tables, rows_of
from bench.registry.naming import located

if TYPE_CHECKING:
    from bench.figures import Differing
    from bench.registry.loading import LoadedModel


SHOWN = 8
"""So many images on which the first row is better, and so many on which the second is."""


def differing(found: Found, side: SideBySide, count: int = SHOWN) -> "Differing":
    """The `count` test images, at most, on which the first row is better than the second by most,
    and as many the other way round.

    Raises BadInput if the scores or the images are not on this machine, CheckFailed if the images
    are not those that were scored.
    """
    from bench.figures import Differing

    tables = found.tables
    scores: dict[str, NDArray[np.float32]] = {}
    for cell in side.cells:
        held = scores_by_image(rows_of(tables, cell), "test", tables.scores_of)
        if held is None:
            raise BadInput(
                f"the test scores of {cell.row} by image are not on this machine; "
                "run it here, then compare again"
            )
        scores[cell.row] = held
    first, second = (scores[cell.row] for cell in side.cells[:2])
    metric = side.cells[0].selection_metric
    lead = (first - second) * (-1 if METRICS[metric].higher_is_better else 1)
    order = np.argsort(lead, kind="stable")
    ours = order[:count][lead[order[:count]] < 0]
    theirs = order[::-1][:count][lead[order[::-1][:count]] > 0]
    chosen = np.concatenate((ours, theirs))
    if not len(chosen):
        raise BadInput(f"{' and '.join(scores)} have the same score on every test image")
    splits = _splits_of(tables, side.cells[0])
    if len(splits.test.images) != len(first):
        raise CheckFailed(
            f"{splits.name} has {len(splits.test.images):,} test images here, {len(first):,} were "
            "scored; compare where the same images are"
        )
    images = splits.test.images[chosen]
    models = {cell.row: _weights_at_hand(tables, cell) for cell in side.cells}
    at_hand = {row: held for row, held in models.items() if held is not None}
    return Differing(
        metric,
        images,
        len(ours),
        {row: held[chosen] for row, held in scores.items()},
        {row: model.reconstruct(images) for row, (model, _) in at_hand.items()},
        {row: seed for row, (_, seed) in at_hand.items()},
    )


def picture(found: Found, side: SideBySide) -> tuple[bytes, list[str]]:
    """The PNG of `differing`, and the rows that are in it without reconstructions, because their
    weights are not at hand. Raises as `differing`."""
    from bench.figures import differences, to_png

    images = differing(found, side)
    title, below = picture_title(side)
    without = [cell.row for cell in side.cells if cell.row not in images.reconstructions]
    return to_png(differences(title, below, images)), without


def _local_records(tables: Tables, cell: TableCell) -> list[RunRecord]:
    found = (tables.record_of(row) for row in rows_of(tables, cell))
    return [record for record in found if record is not None]


def _weights_at_hand(tables: Tables, cell: TableCell) -> "tuple[LoadedModel, int] | None":
    """The model of a row and its seed, from a local record or the registry; None: neither."""
    from bench.registry.loading import load_committed, load_record

    if cell.track.classifies:
        return None
    if (record := shown_record(_local_records(tables, cell))) is not None:
        return load_record(tables.store, record), record.spec.seed
    for card in champions(tables.store.registry).values():
        same = (card.track, card.summary.configuration) == (cell.title, cell.configuration)
        if same and card.weights.committed:
            return load_committed(tables.store, card), card.spec.seed
    return None


def _splits_of(tables: Tables, cell: TableCell) -> Splits:
    """The images of a cell's board, split as its protocol says."""
    board = cell.board
    if board.dataset in DATASETS:
        for protocol in known_protocols():
            if (protocol.name, protocol.fingerprint) == board[1:3]:
                return _checked(load_splits(board.dataset, protocol.split), board)
    for record in iter_records(tables.store.records):
        spec = record.spec
        if (spec.dataset_label, spec.protocol, spec.protocol_fingerprint) == board[:3]:
            return _checked(load_splits(located(tables.store, spec), spec.split), board)
    raise BadInput(
        f"the test images of {board.protocol} on {board.dataset} are not on this machine; run "
        "one of its rows here, then compare again"
    )


def _checked(splits: Splits, board: BoardKey) -> Splits:
    if splits.digest != board.data_digest:
        raise CheckFailed(
            f"the images of {board.dataset} here are not those of the table (digest "
            f"{splits.digest[:16]}, there {board.data_digest[:16]}); compare where those are"
        )
    return splits
