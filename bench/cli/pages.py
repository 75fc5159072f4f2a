"""Pages on a terminal: the tables of Markdown, whose words and numbers stay whole."""

from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, MarkdownElement, TableElement
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_UNLIMITED = 10_000


class NarrowTable(TableElement):
    """Where a table is too wide, its right-aligned columns get the room of their cells, below
    wrapped headings, and the names the rest: rich takes it from the names until it cuts words."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                _narrow(table, console, options)
            yield table


class Page(Markdown):
    """Markdown with such tables."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "table_open": NarrowTable,
    }


def _narrow(table: Table, console: Console, options: ConsoleOptions) -> None:
    free = options.update(max_width=_UNLIMITED)
    if Measurement.get(console, free, table).maximum <= options.max_width:
        return
    for column in table.columns:
        if isinstance(column.header, Text) and column.header.justify == "right":
            heading = Measurement.get(console, free, column.header).minimum
            cells = (Measurement.get(console, free, cell).maximum for cell in column.cells)
            column.width = max(heading, *cells)
