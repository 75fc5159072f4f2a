"""What an opened row says: groups of labelled lines, as text.

Its measures have a group for each task, with validation and test side by side.
"""

import math

from bench.core.track import Track
from bench.leaderboard.cells import TableCell
from bench.leaderboard.wording import (
    DASH,
    active,
    best_share,
    interval,
    margin,
    millions,
    ranks,
    score,
    seconds,
    settings,
    shown_score,
    whole,
)
from bench.metrics import METRICS, short_title
from bench.report.content import Exhibit, plain

Lines = list[tuple[str, str]]
_PARTS = ("val_", "test_")
_BOTH = ": validation | test"
"""Ends the title of a group of measures. The page folds all but the first, by the stroke in it."""
_BITS = 32
"""Of a real number of a code, which is a float32."""


def details(cell: TableCell, exhibit: Exhibit, task: str = "") -> list[tuple[str, Lines]]:
    """The groups of a row: standing, validation, test, model, runs and digests.

    `task`: a further task, of which only the measures are named.
    """
    metric = cell.selection_metric
    low, high = cell.test_interval
    groups = [
        (
            "Standing",
            [
                ("ranks", ranks(cell)),
                ("best in", best_share(cell)),
                *([] if task else [("over PCA", margin(cell))]),
                ("95 % interval on validation", interval(cell, metric)),
                (
                    "95 % interval on test",
                    DASH
                    if math.isnan(low)
                    else f"{shown_score(low, metric)} to {shown_score(high, metric)}",
                ),
                *([("not ranked", cell.why_unranked)] if cell.why_unranked else []),
                *_confirmed(exhibit.confirmations),
            ],
        ),
        (
            "Model",
            [
                ("hyperparameters", settings(cell) or "none of its own"),
                ("recipe", cell.recipe),
                ("code", _code(cell.track, cell.code_size)),
                ("active", active(cell)),
                ("parameters", whole(cell.facts["parameters"])),
                ("multiply-adds", millions(cell.facts["multiply_adds"])),
                ("training", f"{seconds(cell.facts['train_seconds'])} on the machine that ran it"),
                ("training images", whole(cell.facts["train_images"])),
            ],
        ),
        (
            "Runs",
            [
                ("seeds", ", ".join(map(str, cell.seeds))),
                (
                    "started / finished / diverged",
                    f"{cell.started} / {cell.finished} / {cell.diverged}",
                ),
                *(
                    (f"seed {run.seed}, {run.status}", f"run {run.run_key}, row {run.row_digest}")
                    for run in exhibit.runs
                ),
            ],
        ),
        (
            "Digests",
            [
                ("row", cell.configuration),
                ("rows of its table", cell.rows_digest),
                ("protocol", cell.board.protocol_fingerprint),
                ("data", cell.board.data_digest[:16]),
                ("scores", cell.board.evaluation_digest),
            ],
        ),
    ]
    own, *others = _measures(cell, task) or [("", [])]
    groups.insert(1, own)
    groups += others
    return [
        (title, [(plain(name), plain(value)) for name, value in lines])
        for title, lines in groups
        if lines
    ]


def _measures(cell: TableCell, task: str) -> list[tuple[str, Lines]]:
    """Every measure that the row has, by task, those of METRICS in their order first."""
    names = {column.partition("_")[2] for column in cell.means if column.startswith(_PARTS)}
    order = [*(name for name in METRICS if name in names), *sorted(names - set(METRICS))]
    found: dict[str, Lines] = {}
    for name in order:
        of = METRICS[name].task if name in METRICS else "other"
        if task not in ("", of):
            continue
        values = [score(cell, f"{part}{name}", name) for part in _PARTS]
        if set(values) != {DASH}:
            found.setdefault(of, []).append((short_title(name), " | ".join(values)))
    return [(f"{of.capitalize()}{_BOTH}", lines) for of, lines in found.items()]


def _code(track: Track, size: int | None) -> str:
    """The size of the code, and its bits as the model gives it."""
    if size is None:
        return "none"
    if track.kind == "bits":
        return f"{track.size:,} bits in {size:,} whole numbers"
    return f"{_BITS * size:,} bits in {size:,} real numbers"


def _confirmed(count: int | None) -> Lines:
    """By how many runs; nothing where that is not known."""
    if count is None:
        return []
    return [("confirmed", f"by {count} run{'s' * (count > 1)}" if count else "by no run yet")]
