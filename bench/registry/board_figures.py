"""The committed figures of a board, drawn from committed numbers and pictures alone.

Other versions of matplotlib draw other bytes from the same numbers: what a figure was drawn from
stands with its digest in the page, and a figure is drawn again only if that has changed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.identity import digest, sha256_of_file
from bench.core.store import child
from bench.core.view import Picture
from bench.leaderboard.cells import TableCell
from bench.leaderboard.competitions import cell_name, competitions
from bench.leaderboard.ledger import Ledger, LedgerRow
from bench.metrics import METRICS
from bench.registry.champions import SIDE_BY_SIDE
from bench.registry.scores import ScoresRow, cell_of, read_cell, read_originals

_DAMAGED = ("psnr_gaussian_", "psnr_salt_and_pepper_", "psnr_masking_")
_SHOWN = 10
"""Images of the picture of all variants: of Fashion-MNIST and MNIST one of each class."""


class _Point(NamedTuple):
    """The arguments of `bench.figures.Point`; checking a figure's numbers draws nothing."""

    model: str
    code_size: int
    scores: tuple[float, ...]
    variant: str


class _Standing(NamedTuple):
    """The arguments of `bench.figures.Standing`."""

    row: str
    table: str
    low: int
    high: int
    place: int


class _Pictured(NamedTuple):
    """A row with committed pictures: its mean test score, and where the pictures are."""

    row: str
    score: float
    first: LedgerRow
    entry: ScoresRow


@dataclass(frozen=True)
class BoardFigure:
    """A figure: its title, its file relative to registry/, what it is drawn from, as JSON, and the
    function that draws its PNG."""

    title: str
    file: str
    numbers: Sequence[Sequence[object]]
    draw: Callable[[], bytes]

    def stored(self, registry: Path) -> Picture | None:
        """The stored figure, with its SHA-256 and the digest of the numbers that it was drawn
        from; None if it was never drawn."""
        path = child(registry, self.file)
        if not path.exists():
            return None
        drawn_from = digest({"points": [list(each) for each in self.numbers]})
        source = f"{self.file} {sha256_of_file(path)[:16]} drawn from {drawn_from}"
        return Picture(self.title, self.file, source)


def board_figures(
    registry: Path, rows: Ledger, cells: Sequence[TableCell], scores: Sequence[ScoresRow]
) -> Iterator[BoardFigure]:
    """The figures of a board: `rows` and `cells` are its ledger rows and its ranked table, `scores`
    the index of the files of scores."""
    first = rows[0]
    start, about = f"{first.dataset}/{first.protocol}", f"{first.dataset} · {first.protocol}"
    if points := _points(rows):
        numbers = [[point.model, point.code_size, *point.scores] for point in points]
        file = f"{start}.rate_distortion.png"
        seeds = len({row.seed for row in rows if not row.closed_form})
        how = f"up to {seeds} seed{'s' * (seeds > 1)}" if seeds else "solved without training"
        below = f"{about} · test images · {how}"
        metric = first.selection_metric
        yield BoardFigure(
            "Score against code size", file, numbers, lambda: _sizes(points, metric, below)
        )
    if standings := _standings(cells):
        file = f"{start}.ranks.png"
        yield BoardFigure("Ranges of ranks", file, standings, lambda: _ranks(standings, about))
    entries = {entry.cell: entry for entry in scores if entry.originals}
    for competition in competitions(rows):
        same = [cell for cell in cells if cell.title == competition.title]
        if damaged := _damaged(same):
            size = competition.track
            yield BoardFigure(
                f"Damaged images, {size.heading.lower()}",
                f"{start}.{size}.error_under_damage.png",
                damaged,
                _drawing_damage(damaged, f"{about} · {size.heading.lower()} · test images"),
            )
        pictured = _pictured(competition.cells, same, entries)
        if len(pictured) > 2:
            size = competition.track
            below = f"{about} · {size.heading.lower()} · numbers: all test images"
            yield BoardFigure(
                f"The same test images, {size.heading.lower()}",
                f"{start}.{size}.{SIDE_BY_SIDE}",
                [[each.row, each.score, each.entry.sha256] for each in pictured],
                _drawing(registry, pictured, below),
            )


def _points(rows: Ledger) -> list[_Point]:
    """The test scores of every cell by code size in real numbers.

    Leaves out over-complete codes, which compress nothing, and bits, which need another axis.
    """
    points = []
    for competition in competitions(rows):
        if not competition.track.on_size_axis:
            continue
        for group in competition.cells.values():
            found = (row.selected("test") for row in group)
            scores = tuple(score for score in found if score is not None)
            if scores:
                size = competition.track.size
                points.append(_Point(cell_name(group[0]), size, scores, group[0].model))
    return points if len({point.code_size for point in points}) > 1 else []


def _standings(cells: Sequence[TableCell]) -> list[_Standing]:
    """The ranges of ranks of a board with a table of more than two ranked rows."""
    places: Counter[str] = Counter()
    found = []
    for cell in cells:
        if cell.ranks is not None and cell.in_protocol:
            places[cell.title] += 1
            found.append(
                _Standing(cell.row, cell.track.heading, *cell.ranks, place=places[cell.title])
            )
    return found if max(places.values(), default=0) > 2 else []


def _damaged(cells: Sequence[TableCell]) -> list[list[object]]:
    """Name, variant and test scores of the rows that were measured on damaged images; none of a
    table of fewer than three such rows."""
    found: list[list[object]] = []
    for cell in cells:
        scores = {
            name: cell.means[f"test_{name}"]
            for name in METRICS
            if (name == "psnr" or name.startswith(_DAMAGED)) and cell.has(f"test_{name}")
        }
        if len(scores) > 1:
            found.append([cell.row, cell.model, scores])
    return found if len(found) > 2 else []


def _drawing_damage(rows: Sequence[Sequence[Any]], below: str) -> Callable[[], bytes]:
    def draw() -> bytes:
        from bench.figures import Damaged, damage_lines, to_png

        return to_png(damage_lines([Damaged(*row) for row in rows], below))

    return draw


def _pictured(
    groups: Mapping[str, Sequence[LedgerRow]],
    cells: Sequence[TableCell],
    entries: Mapping[str, ScoresRow],
) -> list[_Pictured]:
    """The rows of a track that have pictures of the same images, in the order of the table."""
    found = []
    for cell in cells:
        group = groups.get(cell.configuration, ())
        entry = entries.get(cell_of(group[0])) if group else None
        if entry is not None:
            score = cell.means[f"test_{cell.selection_metric}"]
            found.append(_Pictured(cell.row, score, group[0], entry))
    usual = Counter(each.entry.originals for each in found).most_common(1)
    return [each for each in found if each.entry.originals == usual[0][0]]


def _sizes(points: Sequence[_Point], metric: str, below: str) -> bytes:
    from bench.figures import Point, rate_distortion, to_png

    return to_png(rate_distortion([Point(*each) for each in points], metric, below))


def _ranks(standings: Sequence[_Standing], about: str) -> bytes:
    from bench.figures import Standing, rank_ranges, to_png

    return to_png(rank_ranges([Standing(*each) for each in standings], f"{about} · validation"))


def _drawing(registry: Path, pictured: Sequence[_Pictured], below: str) -> Callable[[], bytes]:
    """Draws the first test images above their reconstructions by every row."""

    def draw() -> bytes:
        from bench.figures import to_png, variants_sheet

        first = pictured[0].first
        metric = METRICS[first.selection_metric]
        images = read_originals(registry, first, pictured[0].entry)
        rows = []
        for each in pictured:
            tensors = read_cell(registry, each.first, each.entry)
            (decoded,) = (value for key, value in tensors.items() if key.endswith("/x_hat"))
            label = f"{each.row}\n{each.score:.{metric.decimals}f}"
            rows.append((label, _unit(decoded)))
        return to_png(variants_sheet(_unit(images), rows, f"{below}, {metric.title.lower()}"))

    return draw


def _unit(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The first images, in [0, 1]."""
    return images[:_SHOWN].astype(np.float32) / np.float32(255)
