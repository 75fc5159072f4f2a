"""The view model: what a page or a command shows, before it is Markdown or a table on a terminal.

In `core`, since pages, cards and commands of several rooms make sections. `markdown` renders them
for files; `cli/console.py` renders them for a terminal.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers are right-aligned."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table of texts; every row has one cell per column. Raises ValueError otherwise."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in {len(self.columns)} columns")


def table_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table; the titles of numeric columns are given with a ">" in front."""
    columns = tuple(Column(title.removeprefix(">"), title.startswith(">")) for title in header)
    return Table(columns, tuple(tuple(row) for row in rows))


@dataclass(frozen=True)
class Picture:
    """A picture: its title and its file, relative to the page; `source` ties it to its numbers."""

    title: str
    file: str
    source: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page, in the order in which it is shown.

    `facts` and `notes` are paragraphs, with Markdown within them, above and below pictures and
    table. `level` is that of the title; a section without a title continues the one before.
    """

    title: str = ""
    facts: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    table: Table | None = None
    notes: tuple[str, ...] = ()
    level: int = 2


_BAR = re.compile(r"(?<!\\)\|")
"""A bar that would end a cell; text from outside comes escaped (`core.text.for_markdown`)."""


def markdown(section: Section) -> str:
    """A section as Markdown; it ends with a line end."""
    blocks = [f"{'#' * section.level} {section.title}"] if section.title else []
    blocks += section.facts
    blocks += [picture_markdown(picture) for picture in section.pictures]
    blocks += [_table_markdown(section.table)] if section.table else []
    blocks += section.notes
    return "\n\n".join(blocks) + "\n"


def picture_markdown(picture: Picture) -> str:
    """The picture, with a comment that ties it to its numbers, if it says which."""
    source = f"\n<!-- {picture.source} -->" if picture.source else ""
    return f"![{picture.title}]({picture.file}){source}"


def _table_markdown(table: Table) -> str:
    lines = [
        "|" + "".join(f" {column.title} |" if column.title else " |" for column in table.columns),
        "|" + "|".join("--:" if column.numeric else "---" for column in table.columns) + "|",
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(_BAR.sub(r"\|", cell) for cell in row) + " |")
    return "\n".join(lines)
