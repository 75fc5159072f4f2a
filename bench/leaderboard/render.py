"""The tables as text: registry/README.md, the README's block, and rows for a terminal.

Everything is rendered from the committed files alone, so equal files give equal bytes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.core.protocol import DEFAULT_PROTOCOL
from bench.core.spec import CLASSES, OVERCOMPLETE
from bench.core.text import for_markdown
from bench.data.table import DATASETS
from bench.leaderboard.rules import RULES
from bench.leaderboard.wording import (
    TableRow,
    as_float,
    interval,
    margin,
    markdown_table,
    millions,
    notes,
    rank,
    score,
    seconds,
    short_title,
    title,
    whole,
)
from bench.metrics import METRICS

BEGIN, END = "<!-- leaderboard:begin -->", "<!-- leaderboard:end -->"
_HEAD = """# Leaderboard

<!-- Written by `bench leaderboard --write` and `bench promote`; do not edit:
     `bench leaderboard --check` finds every change. -->

Which autoencoder reconstructs best the images that it has never seen, at the same code size and
under the same protocol? Tables of classifiers ask which names the classes of such images best. A
row averages several seeds; rows that share a rank cannot be told apart.
How to read a row, and by which rules it came about, stands [below the tables](#how-to-read-a-row).
"""


@dataclass(frozen=True)
class Champion:
    """The champion of a track: the names of the champion's and the challenger's rows ("" for
    none), and the folder of its card, relative to registry/."""

    row: str
    challenger: str
    folder: str


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page: its file relative to registry/, its SHA-256, and the digest of the
    numbers it was drawn from."""

    file: str
    sha256: str
    drawn_from: str

    def markdown(self) -> str:
        """The image, with a comment that ties it to its numbers."""
        return (
            f"![Score against code size]({self.file})\n"
            f"<!-- {self.file} {self.sha256[:16]} drawn from {self.drawn_from} -->\n"
        )


@dataclass(frozen=True)
class Board:
    """The content of one section: the ranked cells of a protocol on a data set, how many ledger
    rows of earlier settings are hidden, its figure, the champions by track title."""

    cells: Sequence[TableRow]
    superseded: int
    picture: PageFigure | None
    champions: Mapping[str, Champion]

    @property
    def dataset(self) -> str:
        """The label of the data set."""
        return str(self.cells[0]["dataset"])

    @property
    def protocol(self) -> str:
        """The name of the protocol."""
        return str(self.cells[0]["protocol"])

    @property
    def known(self) -> bool:
        """Whether the data set is one that everyone can get."""
        return self.dataset in DATASETS

    def tracks(self) -> dict[str, list[TableRow]]:
        """The cells by track, in order."""
        found: dict[str, list[TableRow]] = {}
        for cell in self.cells:
            found.setdefault(str(cell["track"]), []).append(cell)
        return found


def page(boards: Sequence[Board]) -> str:
    """The whole of registry/README.md."""
    parts = [_HEAD]
    if not boards:
        parts.append("No results yet: `bench run`, then `bench leaderboard --write`.\n")
    parts += [section for board in boards if board.known for section in _section(board)]
    own = [section for board in boards if not board.known for section in _section(board)]
    if own:
        parts.append(
            "# Own data sets\n\nImages that only their owner has: these tables stand alone.\n"
        )
    return "\n".join([*parts, *own, RULES])


def _section(board: Board) -> Iterator[str]:
    """Title, facts, figure and one table per track."""
    yield f"## {for_markdown(board.protocol)} on {for_markdown(board.dataset)}\n"
    yield _facts(board) + "\n"
    if board.picture is not None:
        yield board.picture.markdown()
    for track, cells in board.tracks().items():
        yield f"### {track_title(track)}\n"
        champion = board.champions.get(str(cells[0]["title"]))
        if champion is not None:
            yield _champion_line(champion, cells) + "\n"
        yield markdown_table(*full_rows(cells)) + "\n"


def _facts(board: Board) -> str:
    first = board.cells[0]
    images = max(as_float(cell["train_images"]) for cell in board.cells)
    metric = str(first["selection_metric"])
    text = (
        f"{images:,.0f} training images; ranked by {title(metric)} on validation. "
        f"Fingerprint of the protocol `{first['protocol_fingerprint']}`, of the data "
        f"`{str(first['data_digest'])[:16]}`, of the scores `{first['evaluation_digest']}`."
    )
    if board.superseded:
        text += (
            f" {board.superseded} older rows of [results.csv](results.csv), made with earlier "
            "settings or revisions, are not shown and were not compared with these."
        )
    return text


def _champion_line(champion: Champion, cells: Sequence[TableRow]) -> str:
    others = f"; challenger: {champion.challenger}" if champion.challenger else ""
    return f"Champion: **{champion.row}** ([card]({champion.folder}/card.md)){others}."


def track_title(track: str) -> str:
    """The heading of a track's table."""
    if track == OVERCOMPLETE:
        return "Codes as large as the images (not a bottleneck)"
    if track.startswith(CLASSES):
        return f"Classifiers of {_size(track)} classes"
    if track.startswith("b"):
        return f"Discrete codes of {_size(track)}"
    return f"Code size {_size(track)}"


def _size(track: str) -> str:
    """The code size as shown in a table: plain numbers, or bits with their unit.

    For a track of classifiers, the number of classes.
    """
    if track.startswith(CLASSES):
        return track.removeprefix(CLASSES)
    return f"{track[1:]} bits" if track.startswith("b") else track.removeprefix("d")


def block(boards: Iterable[Board]) -> str:
    """The text between the README's markers: a short table of the default protocol."""
    shown = [board for board in boards if board.known and board.protocol == DEFAULT_PROTOCOL]
    parts = [BEGIN]
    for board in shown:
        header, rows = short_rows(board.cells)
        parts += [f"Protocol `{board.protocol}` on `{board.dataset}`:", ""]
        parts += [markdown_table(header, rows)]
    if not shown:
        parts.append("No results yet: `make leaderboard`.")
    return "\n".join([*parts, END])


def full_rows(cells: Sequence[TableRow]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a track's table; names of numeric columns start with ">"."""
    metric = str(cells[0]["selection_metric"])
    shown = _metrics(cells)
    margins = not _are_classifiers(cells)
    header = [
        ">rank",
        "variant",
        f">validation {short_title(metric)}",
        ">95 % interval",
        *(f">test {short_title(name)}" for name in shown),
        *([">over PCA"] if margins else []),
        ">started / finished / diverged",
        ">parameters",
        ">multiply-adds",
        ">training",
        "notes",
    ]
    rows = [
        [
            rank(cell),
            str(cell["row"]),
            score(cell, f"val_{metric}", metric),
            interval(cell, metric),
            *(score(cell, f"test_{name}", name) for name in shown),
            *([margin(cell)] if margins else []),
            f"{cell['started']} / {cell['finished']} / {cell['diverged']}",
            whole(cell["parameters"]),
            millions(cell["multiply_adds"]),
            seconds(cell["train_seconds"]),
            notes(cell),
        ]
        for cell in cells
    ]
    return header, rows


def short_rows(cells: Sequence[TableRow]) -> tuple[list[str], list[list[str]]]:
    """The most important columns, all tracks in one table."""
    shown = [name for name in _metrics(cells) if name in _HEADLINES]
    shown = shown or _metrics(cells)[:2]
    margins = not _are_classifiers(cells)
    header = [">code size" if margins else ">classes", ">rank", "variant"]
    header += [f">test {short_title(name)}" for name in shown]
    header += [*([">over PCA"] if margins else []), ">seeds", ">parameters", ">training", "notes"]
    rows = [
        [
            _size(str(cell["track"])),
            rank(cell),
            str(cell["row"]),
            *(score(cell, f"test_{name}", name) for name in shown),
            *([margin(cell)] if margins else []),
            "solved" if cell["closed_form"] == "yes" else str(cell["finished"]),
            whole(cell["parameters"]),
            seconds(cell["train_seconds"]),
            notes(cell),
        ]
        for cell in cells
    ]
    return header, rows


_HEADLINES = {"mse", "psnr", "ssim", "accuracy", "macro_f1", "calibration_error"}


def _are_classifiers(cells: Sequence[TableRow]) -> bool:
    """Whether the cells are classifiers, which have no PCA to compare with."""
    return str(cells[0]["track"]).startswith(CLASSES)


def _metrics(cells: Sequence[TableRow]) -> list[str]:
    """The metrics that the cells were scored with, in the order of METRICS."""
    scored = {
        key.removeprefix("test_")
        for cell in cells
        for key, value in cell.items()
        if key.startswith("test_") and not key.endswith("_std") and not math.isnan(as_float(value))
    } - {"low", "high"}
    known = [name for name in METRICS if name in scored]
    return known + sorted(scored - set(known))


def cells_of(table: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of a ranked table."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
