"""The SVG pictures of a board: error against code size, cost against error, ranges of ranks.

Every point carries the id of its row (`data-row`), is a link to it, and says in words what it
shows, so that it can be reached by keyboard and read aloud.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.core.palette import look
from bench.leaderboard.cells import TableCell
from bench.leaderboard.render import Board
from bench.leaderboard.wording import millions, rank_words, shown_score
from bench.metrics import METRICS, short_title
from bench.report.content import row_id, text

_WIDTH, _HEIGHT = 400, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 96, 22, 42
_LINE = 13.0
"""The least distance of two labels, in pixels."""


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels; `log`: in powers of ten or two. Needs positive values then."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (self._unit(each) for each in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _unit(self, value: float) -> float:
        return math.log(value) if self.log else value

    def ticks(self) -> list[float]:
        """Round values within the axis, about five."""
        if not self.log:
            step = 10 ** math.floor(math.log10((self.high - self.low) or 1.0))
            fitting = (
                step * k for k in (0.1, 0.2, 0.5, 1, 2) if (self.high - self.low) / k <= 6 * step
            )
            step = next(fitting, step)
            first = math.ceil(self.low / step)
            return [k * step for k in range(first, int(self.high / step) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), range(1, 10)):
            found = [d * 10.0**p for p in powers for d in digits]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) >= 3:
                return found
        return found


@dataclass(frozen=True)
class _Score:
    """How a board's selection metric is drawn: as an error on a logarithmic axis, if it is one."""

    title: str
    log: bool
    lower_is_better: bool
    of: Callable[[TableCell], float]


def _score(metric: str) -> _Score:
    row, column = METRICS.get(metric), f"test_{metric}"
    title = f"test {short_title(metric)}"
    if row is not None and row.transform == "log_one_minus":
        return _Score(f"1 − {title}", True, True, lambda cell: 1 - cell.mean(column))
    log = row is not None and row.transform == "log"
    lower = row is None or not row.higher_is_better
    return _Score(title, log, lower, lambda cell: cell.mean(column))


def _drawn(cells: Sequence[TableCell], score: _Score) -> list[TableCell]:
    """The cells with a score; constants, which would take most of the axis, stand in a note."""
    known = [cell for cell in cells if not math.isnan(score.of(cell))]
    return [c for c in known if _is_drawn(c) and (score.of(c) > 0 or not score.log)]


def _is_drawn(cell: TableCell) -> bool:
    return "constant output" not in cell.badges


def _axis(values: Sequence[float], start: float, end: float, log: bool) -> _Axis:
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** 0.06, 1.02)
        return _Axis(low / room, high * room, start, end, True)
    room = 0.06 * (high - low) or 0.5
    return _Axis(low - room, high + room, start, end, False)


def error_by_size(board: Board) -> str:
    """The test error by code size, a line per variant; "" unless there are several sizes."""
    score = _score(board.metric)
    cells = [cell for cell in _drawn(board.cells, score) if cell.track.on_size_axis]
    sizes = sorted({cell.track.size for cell in cells})
    if len(sizes) < 2:
        return ""
    x = _axis(sizes, _LEFT, _WIDTH - _RIGHT, True)
    y = _axis([score.of(cell) for cell in cells], _HEIGHT - _BOTTOM, _TOP, score.log)
    end = _WIDTH - _RIGHT + 8
    grid = [*_grid_y(y, score.title, end), *_grid_x(x, sizes, "numbers in the code", str, end)]
    parts: list[str] = []
    series: dict[str, list[TableCell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.track.size):
        series.setdefault(cell.row, []).append(cell)
    ends = []
    for name, points in series.items():
        colour, dash = _colour(points[0]), _dash(points[0])
        path = " ".join(f"{x.at(c.track.size):.1f},{y.at(score.of(c)):.1f}" for c in points)
        rows = " ".join(map(row_id, points))
        parts.append(f'<polyline data-row="{rows}" points="{path}" style="{colour}"{dash}/>')
        for cell in points:
            said = f"{name} at {cell.track.size_words}: {_said(cell, board.metric)}"
            parts.append(_point(cell, x.at(cell.track.size), y.at(score.of(cell)), said))
        last = points[-1]
        ends.append((x.at(last.track.size), y.at(score.of(last)), last))
    parts = [*grid, *_labels(ends, _WIDTH - _RIGHT + 14), *parts]
    return _svg(f"{score.title} against code size", parts, _WIDTH, _HEIGHT)


def cost_by_error(board: Board) -> str:
    """The cost of an image against its error, with a Pareto front for each table; "" if unknown."""
    score = _score(board.metric)
    cells = [c for c in _drawn(board.cells, score) if c.facts["multiply_adds"] > 0]
    if len(cells) < 2:
        return ""
    x = _axis([c.facts["multiply_adds"] for c in cells], _LEFT, _WIDTH - 56, True)
    y = _axis([score.of(c) for c in cells], _HEIGHT - _BOTTOM, _TOP, score.log)
    parts = [*_grid_y(y, score.title)]
    parts += _grid_x(x, x.ticks(), "multiply-adds per image", _short)
    at = {row_id(c): (x.at(c.facts["multiply_adds"]), y.at(score.of(c))) for c in cells}
    names = _Names(list(at.values()))
    labels: dict[str, str] = {}
    for track, ranked in board.tracks().items():
        front = _front([cell for cell in ranked if cell in cells], score)
        path = " ".join(f"{at[row_id(c)][0]:.1f},{at[row_id(c)][1]:.1f}" for c in front)
        rows = " ".join(map(row_id, front))
        said = f"Pareto front, {track.heading}"
        parts.append(
            f'<polyline class="front" data-row="{rows}" points="{path}"><title>{text(said)}</title>'
            "</polyline>"
        )
        for place, c in enumerate(front):
            # Every track has a front: its first point says which.
            sized = c.row if place else f"{c.row}, {c.track.size_words}"
            labels[row_id(c)] = names.beside(*at[row_id(c)], sized)
    for cell in cells:
        said = (
            f"{cell.row} at {cell.track.size_words}: {_said(cell, board.metric)}, "
            f"{millions(cell.facts['multiply_adds'])} multiply-adds"
        )
        parts.append(_point(cell, *at[row_id(cell)], said, labels.get(row_id(cell), "")))
    return _svg("Cost of an image against its error", parts, _WIDTH, _HEIGHT)


def _front(cells: Sequence[TableCell], score: _Score) -> list[TableCell]:
    """The cells that no other one beats both in error and in cost, cheapest first."""
    sign = 1 if score.lower_is_better else -1
    found: list[TableCell] = []
    for cell in sorted(cells, key=lambda c: (c.facts["multiply_adds"], sign * score.of(c))):
        if not found or sign * score.of(cell) < sign * score.of(found[-1]):
            found.append(cell)
    return found


def rank_panels(board: Board) -> Iterator[str]:
    """The ranges of ranks, a picture for each table with more than two ranked rows."""
    for track, cells in board.tracks().items():
        ranked = [cell for cell in cells if cell.ranks is not None]
        if len(ranked) > 2:
            yield _rank_panel(track.heading, ranked)


def _rank_panel(heading: str, cells: Sequence[TableCell]) -> str:
    line, left, width, top = 17, 104, 246, 22
    height = line * len(cells) + top + 40
    most = max(cell.ranks[1] for cell in cells if cell.ranks)
    step = (width - left - 14) / most
    parts = [f'<text class="title" x="0" y="11">{text(heading)}</text>']
    for rank in range(1, most + 1):
        at = left + step * (rank - 0.5)
        if most <= 8 or rank == 1 or rank % 5 == 0:
            parts.append(
                f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{height - 34}"/>'
            )
            parts.append(f'<text x="{at:.1f}" y="{height - 20}" text-anchor="middle">{rank}</text>')
    for place, cell in enumerate(cells):
        assert cell.ranks is not None
        low, high = cell.ranks
        y = top + 2 + line * place
        x, wide = left + step * (low - 1), step * (high - low + 1)
        name = cell.row if len(cell.row) <= 17 else f"{cell.row[:16]}…"
        said = text(f"{cell.row}: {rank_words(cell.ranks)}")
        parts.append(
            f'<a class="bar" href="#{row_id(cell)}" data-row="{row_id(cell)}" '
            f'style="{_colour(cell)}" aria-label="{said}">'
            f"<title>{said}</title>"
            f'<rect class="hit" x="0" y="{y - 2}" width="{width}" height="{line}"/>'
            f'<text x="{left - 8}" y="{y + 10}" text-anchor="end">{text(name)}</text>'
            f'<rect x="{x + 1:.1f}" y="{y + 1}" width="{max(wide - 2, 4):.1f}" height="10" '
            'rx="3"/></a>'
        )
    at = left + (width - left - 14) / 2
    parts.append(
        f'<text class="title" x="{at:.0f}" y="{height - 4}" text-anchor="middle">rank</text>'
    )
    return _svg(f"{heading}: ranges of ranks", parts, width, height)


def note(board: Board) -> str:
    """Which rows the pictures leave out, and their score; "" if none."""
    score = _score(board.metric)
    found = {}
    for cell in board.cells:
        if not _is_drawn(cell) and not math.isnan(score.of(cell)):
            found[cell.row] = shown_score(cell.mean(f"test_{board.metric}"), board.metric)
    listed = ", ".join(f"{name} ({value})" for name, value in found.items())
    return f"Not drawn, far above the others: {listed}." if found else ""


def _said(cell: TableCell, metric: str) -> str:
    shown = shown_score(cell.mean(f"test_{metric}"), metric)
    return f"test {short_title(metric)} {shown}, {rank_words(cell.ranks)}"


def _colour(cell: TableCell) -> str:
    return f"--c:{look(cell.model).colour}"


def _dash(cell: TableCell) -> str:
    dash = {"--": "5 3", ":": "2 3"}.get(look(cell.model).line)
    return f' stroke-dasharray="{dash}"' if dash else ""


def _point(cell: TableCell, x: float, y: float, said: str, label: str = "") -> str:
    return (
        f'<a class="pt" href="#{row_id(cell)}" data-row="{row_id(cell)}" style="{_colour(cell)}" '
        f'aria-label="{text(said)}"><title>{text(said)}</title>'
        f'<circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="10"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>{label}</a>'
    )


class _Names:
    """Places names beside points where they overlap no other name and no other point."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self._taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]

    def beside(self, x: float, y: float, name: str) -> str:
        """The name right of, left of, above or below a point; "" where there is no room."""
        wide = 6.2 * len(name)
        for anchor, dx, dy in (
            ("start", 7, 4),
            ("end", -7, 4),
            ("middle", 0, -8),
            ("middle", 0, 17),
        ):
            left = x + dx - {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
            box = (left, y + dy - 9, left + wide, y + dy + 2)
            inside = (
                box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= _TOP and box[3] <= _HEIGHT - 34
            )
            if inside and not any(_overlap(box, other) for other in self._taken):
                self._taken.append(box)
                at = f'x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}"'
                return f"<text {at}>{text(name)}</text>"
        return ""


_Box = tuple[float, float, float, float]


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _labels(ends: Sequence[tuple[float, float, TableCell]], x: float) -> Iterator[str]:
    """The names at the ends of lines, moved apart where they would overlap."""
    placed: list[float] = []
    ordered = sorted(ends, key=lambda end: end[1])
    for _, y, _ in ordered:
        placed.append(max(y, placed[-1] + _LINE) if placed else max(y, _TOP))
    lowest = _HEIGHT - _BOTTOM + 6.0
    for k in reversed(range(len(placed))):
        placed[k] = min(placed[k], lowest)
        lowest = placed[k] - _LINE
    for (from_x, y, cell), at in zip(ordered, placed, strict=True):
        name = cell.row if len(cell.row) <= 16 else f"{cell.row[:15]}…"
        bend = x - 14
        yield (
            f'<g class="end" data-row="{row_id(cell)}" style="{_colour(cell)}">'
            f'<path d="M{from_x:.1f} {y:.1f}H{bend:.1f}L{x - 3:.1f} {at:.1f}"/>'
            f'<text x="{x:.1f}" y="{at + 4:.1f}">{text(name)}</text></g>'
        )


def _grid_y(axis: _Axis, title: str, end: int = _WIDTH - 10) -> Iterator[str]:
    for tick in axis.ticks():
        y = axis.at(tick)
        yield f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
    yield f'<text class="title" x="4" y="{_TOP - 11}">{text(title)}</text>'


def _grid_x(
    axis: _Axis,
    ticks: Sequence[float],
    title: str,
    shown: Callable[[float], str],
    end: int = _WIDTH - 10,
) -> Iterator[str]:
    base = _HEIGHT - _BOTTOM
    yield f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{base}" y2="{base}"/>'
    for tick in ticks:
        x = axis.at(tick)
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
        yield f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle">{shown(tick)}</text>'
    middle = (axis.start + axis.end) / 2
    yield (
        f'<text class="title" x="{middle:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{text(title)}</text>"
    )


def _short(value: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _svg(title: str, parts: Sequence[str], width: int, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="group" '
        f'aria-label="{text(title)}">\n' + "\n".join(parts) + "\n</svg>"
    )
