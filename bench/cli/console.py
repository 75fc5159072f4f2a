"""Shared output functions of the commands: stderr for progress, stdout for results."""

import json
import math
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.cells import cell_len

from bench.core.errors import BadInput
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.core.text import for_terminal, without_secrets
from bench.core.view import Section, Table, table_of

if TYPE_CHECKING:
    from rich.text import Text

_BETWEEN_SECONDS = 5.0
SILENCE_SECONDS = 30.0
"""Without a terminal, a progress line is logged at least this often."""
_LONGEST_WORD, _COMFORTABLE = 400, 100
_LONGEST_CELL, _FRAME = 30, 3
_COMMENT, _PICTURE = (
    re.compile(r"<!--.*?-->", re.S),
    re.compile(r"!\[(?P<title>[^\]]*)\]\((?P<file>[^)]*)\)"),
)
_STEP = re.compile(r"\(\d+ of \d+\)\Z")
_BOLD = re.compile(r"\*\*(.+)\*\*")


def shown(text: str) -> str:
    """Text as it may reach a terminal."""
    return for_terminal(without_secrets(text))


def say(text: str) -> None:
    """A line of progress, on stderr."""
    typer.echo(shown(text), err=True)


def saying_seldom() -> Callable[[str], None]:
    """A function that says every line but steps ("... (3 of 30)") that come soon after the last
    one: what is short needs no line each."""
    spoke = -math.inf

    def say_seldom(text: str) -> None:
        nonlocal spoke
        if not _STEP.search(text):
            say(text)
        elif time.monotonic() - spoke >= _BETWEEN_SECONDS:
            spoke = time.monotonic()
            say(text)

    return say_seldom


def say_wrapped(text: str) -> None:
    """A longer message, on stderr, in lines of whole words; none to be copied."""
    for part in textwrap.wrap(shown(text), min(width(), _COMFORTABLE)):
        say(part)


def say_error(text: str) -> None:
    """The one line of an error, on stderr. A file can hold words that would fill the screen."""
    words = (word if len(word) <= _LONGEST_WORD else f"{word[:80]}..." for word in text.split())
    say(f"bench: {' '.join(words)}")


def say_where(store: Store) -> None:
    """Say in one line where results are written."""
    say(f"results are written to {store.root}")


def print_json(value: Any) -> None:
    """A result for programs: pure JSON on stdout."""
    typer.echo(without_secrets(json.dumps(value, indent=1, allow_nan=False)))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for people, on stdout; columns whose name starts with `>` are right-aligned."""
    print_section(Section(title, table=table_of(columns, rows)))


def print_section(section: Section, most: int = 0, least: Sequence[int] = ()) -> None:
    """A section for people, on stdout, at most so many characters wide (0: as wide as lines are).

    `least`: how many characters each column of its table gets at least. Pictures are files of a
    page and not shown.
    """
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(width=min(width(), most) if most else width())
    # A title may hold brackets, which are no markup here.
    title = Text(shown(section.title)) if section.title else None
    parts: list[RichTable | Text] = [title] if title is not None else []
    parts += [Text(shown(text)) for text in section.facts]
    if section.table is not None:
        table = RichTable(header_style="bold")
        columns = section.table.columns
        for column, at_least in zip(columns, least or [0] * len(columns), strict=True):
            side: Literal["left", "right"] = "right" if column.numeric else "left"
            table.add_column(Text(shown(column.title)), justify=side, min_width=at_least or None)
        for row in section.table.rows:
            table.add_row(*(_cell(cell) for cell in row))
        parts.append(table)
    for part in (*parts, *(Text(shown(text)) for text in section.notes)):
        console.print(part)


def print_whole(section: Section, through: str) -> None:
    """A section whose table may be wider than lines are: columns that do not fit follow in further
    tables, each of which begins with the columns up to the one titled `through`."""
    table = section.table
    assert table is not None
    titles = [column.title for column in table.columns]
    keys = range(titles.index(through) + 1)
    wide = [
        max(map(cell_len, [*title.split(), *(shown(row[place]) for row in table.rows)]))
        for place, title in enumerate(titles)
    ]
    wide = [min(each, _LONGEST_CELL) for each in wide]
    room = width() - 1 - sum(wide[place] + _FRAME for place in keys)
    groups: list[list[int]] = [[]]
    for place in range(len(keys), len(titles)):
        if groups[-1] and sum(wide[each] + _FRAME for each in [*groups[-1], place]) > room:
            groups.append([])
        groups[-1].append(place)
    for number, group in enumerate(groups):
        chosen = [*keys, *group]
        part = Table(
            tuple(table.columns[place] for place in chosen),
            tuple(tuple(row[place] for place in chosen) for row in table.rows),
        )
        above = section if number == 0 else Section()
        below = section.notes if number == len(groups) - 1 else ()
        section_of_it = replace(above, table=part, notes=below)
        print_section(section_of_it, least=[wide[place] for place in chosen])


def _cell(cell: str) -> "Text":
    """A cell's text; what Markdown emphasises is bold."""
    from rich.text import Text

    plain = shown(cell)
    emphasised = _BOLD.fullmatch(plain)
    return Text(emphasised[1], style="bold") if emphasised else Text(plain)


def print_rows(columns: Sequence[str], rows: Sequence[tuple[Sequence[str], str]]) -> None:
    """Titled columns whose rows are two lines each: the cells, and a remark below them ("": none).

    For what has too many words for a table of 80 characters; columns as for `print_table`.
    """
    titles = [column.removeprefix(">") for column in columns]
    texts = [[shown(cell) for cell in cells] for cells, _ in rows]
    widths = [max(map(cell_len, column)) for column in zip(titles, *texts, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            " " * (wide - cell_len(cell)) + cell
            if column.startswith(">")
            else cell + " " * (wide - cell_len(cell))
            for column, cell, wide in zip(columns, cells, widths, strict=True)
        ]
        return "  ".join(padded).rstrip()

    show(line(titles))
    for cells, (_, remark) in zip(texts, rows, strict=True):
        show(line(cells))
        show_wrapped(remark, "  ")


def print_markdown(text: str, folder: Path) -> None:
    """A page of `folder` for people, on stdout, without its comments. Of its pictures it says where
    they are."""
    from rich.console import Console

    from bench.cli.pages import Page

    plain = _PICTURE.sub(
        lambda found: f"- {found['title']}: {folder / found['file']}",
        _COMMENT.sub("", shown(text)),
    )
    Console(width=min(width(), _COMFORTABLE)).print(Page(plain, hyperlinks=False))


def show(text: str) -> None:
    """A line of a result, on stdout."""
    typer.echo(shown(text))


def show_wrapped(text: str, indent: str = "") -> None:
    """A text of a result, on stdout, in lines of whole words."""
    for part in textwrap.wrap(shown(text), min(width(), _COMFORTABLE) - len(indent)):
        show(f"{indent}{part}")


def width() -> int:
    """Characters in a line of stdout: the terminal's (or COLUMNS), or enough for any table in a
    pipe, which has no width of its own."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS")
    return shutil.get_terminal_size().columns if known else 200


def whole_numbers(values: Sequence[str], option: str, lowest: int, highest: int) -> tuple[int, ...]:
    """Numbers given by repeating an option or by commas; BadInput names the invalid one."""
    found: list[int] = []
    for text in (part.strip() for value in values for part in value.split(",")):
        try:
            number = int(text)
        except ValueError:
            raise BadInput(f"{option}: '{text}' is not a whole number") from None
        if not lowest <= number <= highest:
            raise BadInput(f"{option}: {number} is impossible; expected {lowest} to {highest}")
        if number not in found:
            found.append(number)
    return tuple(found)


def names(values: Sequence[str], option: str) -> tuple[str, ...]:
    """Names given by repeating an option or by commas, each once; BadInput for an empty one."""
    parts = [given(part.strip(), option) for value in values for part in value.split(",")]
    return tuple(dict.fromkeys(parts))


def model_names(values: Sequence[str], option: str) -> tuple[str, ...]:
    """As `names`; the path of a class of one's own (`a,b/mine.py:Net`) may hold commas."""
    return tuple(
        name
        for value in values
        for name in ((value,) if ".py:" in value else names([value], option))
    )


def given(text: str, option: str) -> str:
    """Refuse an empty text: an unset shell variable must not mean "everything"."""
    if not text:
        raise BadInput(f"{option}: is empty; give a value or leave the option out")
    return text


def or_dash(value: object) -> str:
    """A value as text, or a dash if there is none."""
    return "-" if value is None else str(value)


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def durations(least: float, most: float) -> str:
    """`40 s`, or `40 s to 3 min`."""
    return from_to(duration(least), duration(most))


def from_to(least: str, most: str) -> str:
    """`3 to 10`, or `3` where both ends are the same."""
    return least if least == most else f"{least} to {most}"


class RunProgress:
    """Progress of a plan: a live display on a terminal; otherwise one line per finished run, and
    one every 30 seconds in between."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            disable=not self._live,
        )
        self._total = self._bars.add_task("runs", total=total, note="")
        self._tasks: dict[str, Any] = {}
        self._count, self._of = 0, total
        self._spoke = time.monotonic()
        self._at: dict[str, str] = {}
        self._resumed: dict[str, tuple[RunSpec, int]] = {}

    def __enter__(self) -> "RunProgress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def added(self, spec: RunSpec, note: str) -> None:
        """The plan has a run more."""
        self._of += 1
        self._bars.update(self._total, total=self._of)
        self.note(f"{spec.title}: {note}")

    def started(self, spec: RunSpec) -> None:
        """A worker has taken a run."""
        self._at[spec.run_key] = f"{spec.title}: started"

    def resumed(self, spec: RunSpec, epoch: int) -> None:
        """A run that an earlier command had stopped has the epochs up to this one behind it."""
        self._resumed[spec.run_key] = (spec, epoch)
        self._bar(spec, epoch, "")

    def epoch(self, spec: RunSpec, epoch: int, note: str, left: str) -> None:
        """A run has finished an epoch; `left` says what remains of the plan."""
        self._at[spec.run_key] = f"{spec.title}: epoch {epoch} of {spec.train.epochs}, {note}"
        self._bar(spec, epoch, note)
        self.wait(left)

    def wait(self, left: str) -> None:
        """Say what was resumed, and, if nothing was said for a while, where the runs are."""
        for spec, epoch in self._resumed.values():
            trained = epoch >= spec.train.epochs
            where = f"at epoch {epoch + 1} of {spec.train.epochs}"
            self.note(
                f"{spec.title}: {'is trained, scored now' if trained else f'goes on {where}'}"
            )
        self._resumed.clear()
        self._bars.update(self._total, note=left)
        if not self._live and time.monotonic() - self._spoke > SILENCE_SECONDS:
            self.note("; ".join([*self._at.values(), left]))

    def _bar(self, spec: RunSpec, epoch: int, note: str) -> None:
        if spec.run_key not in self._tasks:
            self._tasks[spec.run_key] = self._bars.add_task(
                f"  {spec.title}", total=spec.train.epochs, note=""
            )
        self._bars.update(self._tasks[spec.run_key], completed=epoch, note=note)

    def ended(self, spec: RunSpec, note: str, left: str) -> None:
        """A run has ended; `left` says what remains of the plan."""
        self._at.pop(spec.run_key, None)
        if spec.run_key in self._tasks:
            self._bars.remove_task(self._tasks.pop(spec.run_key))
        self._count += 1
        self._bars.update(self._total, completed=self._count, note=left)
        line = f"[{self._count}/{self._of}] {spec.title}: {note}"
        self.note(line if self._live else f"{line}; {left}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._spoke = time.monotonic()
        # Lines are for reading and for grep: leave wrapping to the terminal.
        self._console.print(shown(text), markup=False, highlight=False, soft_wrap=True)
