"""The table of a board: every row of its tracks, with texts from the view model."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bench.core.palette import look
from bench.core.view import Column, Table
from bench.leaderboard import published
from bench.leaderboard.cells import TableCell
from bench.leaderboard.render import Board, full_table, short_table
from bench.leaderboard.rules import reason
from bench.leaderboard.task_boards import measured, task_table
from bench.leaderboard.wording import DASH, test_title
from bench.report.content import row_id, text, without_markdown

_ALWAYS = {"95 % interval"}
"""Columns of the full table that are shown at once, beside those of the short one."""
_LATER = {"active", "parameters", "test PSNR (dB)"}
"""Columns of the short table that are not."""
_SCORES = 4
"""How many test scores of a further task are shown at once."""
_ON_PHONES = {"code size", "classes", "ranks", "variant", "over PCA"}


@dataclass(frozen=True)
class View:
    """A board as it is ranked by its protocol's task, or by a further one, over the same rows."""

    board: Board
    task: str
    further: bool = False

    def table(self, cells: Sequence[TableCell]) -> Table:
        """The table of a track, with all columns."""
        return task_table(self.task, cells, whole=True) if self.further else full_table(cells)

    def shown_first(self) -> set[str]:
        """The titles of the columns that are shown at once."""
        if self.further:
            titles = [column.title for column in task_table(self.task, self.board.cells).columns]
            scores = {test_title(metric.id) for metric in measured(self.task, self.board.cells)}
            shown = [title for title in titles if title in scores]
            return set(titles) - set(shown[_SCORES:])
        return {column.title for column in short_table(self.board).columns} - _LATER | _ALWAYS


def views_of(board: Board) -> list[View]:
    """The board, then one for each further task that its rows were measured by."""
    classifies = board.cells[0].track.classifies
    first = View(board, "classification" if classifies else "reconstruction")
    plain = replace(board, further={}, pictures=(), champions={})
    others = board.further.items()
    return [first, *(View(replace(plain, cells=cells), task, True) for task, cells in others)]


def board_table(view: View) -> str:
    """The rows of all tables of a board in one, the size of the code first."""
    board = view.board
    tables = {track: view.table(cells) for track, cells in board.tracks().items()}
    columns = list(dict.fromkeys(column for table in tables.values() for column in table.columns))
    columns.sort(key=lambda column: column.title == "notes")
    size = Column("classes" if board.cells[0].track.classifies else "code size", numeric=True)
    sized = [size, *columns]
    main = view.shown_first() | {size.title}
    first_score = next((c.title for c in columns if c.title.startswith("validation ")), "")
    kinds = [_kind(column, main, first_score) for column in sized]
    head = "".join(
        f'<th scope="col"{kind}><button>{text(column.title)}</button></th>'
        for column, kind in zip(sized, kinds, strict=True)
    )
    lines = [
        '<div class="scroll" tabindex="0" role="group" aria-label="Table, scrolls sideways">',
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>",
    ]
    for track, cells in board.tracks().items():
        champion = board.champions.get(cells[0].title)
        titles = [column.title for column in tables[track].columns]
        own = tables[track].rows[: len(cells)]
        for place, (cell, texts) in enumerate(zip(cells, own, strict=True)):
            known = dict(zip(titles, texts, strict=True))
            known |= {size.title: track.size_words}
            is_champion = champion is not None and champion.row == cell.row
            fields = [
                _field(cell, column.title, known.get(column.title, DASH), kind, is_champion)
                for column, kind in zip(sized, kinds, strict=True)
            ]
            mark = ' class="first"' if place == 0 else ""
            lines.append(f'<tr id="{row_id(cell)}"{mark}>{"".join(fields)}</tr>')
    lines += ["</tbody>", *_foot(view, sized, kinds), "</table></div>"]
    return "\n".join(lines)


def published_table(board: Board) -> list[str]:
    """What others published on the same data, beside the best rows; nothing if nobody did."""
    section = published.section(board.cells)
    if section is None or section.table is None:
        return []
    columns = section.table.columns
    kinds = [' class="n"' if column.numeric else "" for column in columns]

    def fields(tag: str, texts: Iterable[str], more: str = "") -> str:
        cells = zip(texts, kinds, strict=True)
        return "".join(f"<{tag}{more}{kind}>{text(shown)}</{tag}>" for shown, kind in cells)

    head = fields("th", (column.title for column in columns), ' scope="col"')
    return [
        f"<h3>{text(section.title)}</h3>",
        *(f"<p>{text(without_markdown(fact))}</p>" for fact in section.facts),
        '<div class="scroll published" tabindex="0" role="group" aria-label="Published scores">',
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>",
        *(f"<tr>{fields('td', row)}</tr>" for row in section.table.rows),
        "</tbody></table></div>",
    ]


def _foot(view: View, columns: Sequence[Column], kinds: Sequence[str]) -> Iterator[str]:
    """What the rows of a further task are to be compared with, the same for all code sizes."""
    cells = view.board.cells
    table = view.table(cells)
    for number, texts in enumerate(table.rows[len(cells) :]):
        known = dict(zip((column.title for column in table.columns), texts, strict=True))
        fields = [
            f"<td{kind}>{text(known.get(column.title, ''))}</td>"
            for column, kind in zip(columns, kinds, strict=True)
        ]
        yield f"{'' if number else '<tfoot>'}<tr>{''.join(fields)}</tr>"
    if len(table.rows) > len(cells):
        yield "</tfoot>"


def _kind(column: Column, main: set[str], first_score: str) -> str:
    """The attributes of a column's cells: numbers, only with "All columns", not on phones."""
    words = ["n"] if column.numeric else []
    if column.title not in main:
        words.append("more")
    elif column.title not in _ON_PHONES | {first_score}:
        words.append("wide")
    return f' class="{" ".join(words)}"' if words else ""


def _field(cell: TableCell, title: str, shown: str, kind: str, champion: bool) -> str:
    if title == "variant":
        crown = ' <span class="badge good" title="Holds this track in the registry">champion</span>'
        return (
            f'<th scope="row"><span class="key" style="--c:{look(cell.model).colour}"></span>'
            f'<span class="name">{text(shown)}</span>{crown if champion else ""}</th>'
        )
    if title == "notes":
        return f"<td{kind}>{_notes(cell, shown)}</td>"
    value = sort_value(shown)
    key = "" if value is None else f' data-v="{value:.9g}"'
    mean, sign, spread = text(shown).partition(" ± ")
    more = f'<span class="pm">{sign}{spread}</span>' if sign else ""
    return f"<td{kind}{key}>{mean}{more}</td>"


_NUMBER = re.compile(r"([<>] )?([+−-]?[0-9][0-9,]*(?:\.[0-9]+)?)( (?:min|M|kB|MB)\b)?")
_UNITS = {" min": 60.0, " M": 1e6, " kB": 1e3, " MB": 1e6}


def sort_value(shown: str) -> float | None:
    """The number that a cell of a table begins with, in seconds, bytes or ones; None: none.

    `< 1 %` is below every number that is shown with its digits, `> 99 %` between 99 and 100.
    """
    found = _NUMBER.match(shown)
    if found is None:
        return None
    value = float(found[2].replace("−", "-").replace(",", "")) * _UNITS.get(found[3] or "", 1.0)
    return {"< ": 0.5 * value, "> ": value + 0.5}.get(found[1] or "", value)


def _notes(cell: TableCell, notes: str) -> str:
    """Badges with their reasons, then what else the notes of the tables say."""
    badges = "".join(
        f'<span class="badge" title="{text(without_markdown(reason(badge)))}">{text(badge)}</span> '
        for badge in cell.badges
    )
    others = [part for part in notes.split("; ") if part and part not in cell.badges]
    return f"{badges}{text('; '.join(others))}"
