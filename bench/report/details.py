"""What an opened row says: groups of labelled lines, as text."""

import math
from collections.abc import Iterator

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
    short_title,
    shown_score,
    whole,
)
from bench.metrics import METRICS, metrics_of
from bench.report.content import Exhibit, plain

Lines = list[tuple[str, str]]
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
        ("Validation", [*_measures(cell, "val_", task)]),
        ("Test", [*_measures(cell, "test_", task)]),
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
    return [
        (title, [(plain(name), plain(value)) for name, value in lines])
        for title, lines in groups
        if lines
    ]


def _measures(cell: TableCell, part: str, task: str) -> Iterator[tuple[str, str]]:
    """Every measure of a part that the row has, those of METRICS in their order first."""
    chosen = metrics_of(task) if task else {}
    names = [column.removeprefix(part) for column in cell.means if column.startswith(part)]
    names = [name for name in names if not task or name in chosen]
    order = list(METRICS)
    known = sorted((name for name in names if name in METRICS), key=order.index)
    for name in [*known, *sorted(set(names) - set(known))]:
        if (value := cell.mean(f"{part}{name}")) == value:
            yield short_title(name), score(cell, f"{part}{name}", name)


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
