"""Rows of the CSV files in `registry/`: frozen dataclasses in memory, text only in the files.

Each row has the digest of its other cells. Reading and writing a file gives the same bytes on
every machine: a value has one spelling (`cell_text`), and other spellings are refused.
"""

import csv
import dataclasses
import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Self, TypeVar

from pydantic import BeforeValidator, ValidationError

from bench.core.errors import CheckFailed
from bench.core.identity import digest
from bench.core.spec import NO_CODE
from bench.core.strict import adapter
from bench.core.track import Track

DIGEST = "row_digest"
_LONGEST = 80  # characters of a cell in a message
TrackText = Annotated[Track, BeforeValidator(Track.parse)]
"""A Track that is text in a file."""


def number(value: float) -> str:
    """A number as written to the files: nine significant digits.

    Numbers next to 0 that are not normal are 0: a process that trains reads them as 0.
    """
    return f"{0.0 if abs(value) < sys.float_info.min else value:.9g}"


def rounded(value: float) -> float:
    """The number that is read back from the files."""
    return float(number(value))


def cell_text(value: object) -> str:
    """The only spelling of a value in a file; None is an empty cell."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return number(value)
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


@dataclass(frozen=True)
class CsvRow:
    """A row of one of the files. A field is a column, a mapping field has a column per key."""

    @classmethod
    def of_cells(cls, cells: Mapping[str, str]) -> Self:
        """The row with these cells, without empty ones; pydantic's ValidationError for a cell
        that is missing or cannot be read. Unknown cells are ignored."""
        return adapter(cls).validate_python(dict(cells))

    @classmethod
    def required(cls) -> list[str]:
        """The columns that every file of such rows has, in order."""
        return [field.name for field in dataclasses.fields(cls)]

    def values(self) -> dict[str, object]:
        """The values by field, as they are written."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @cached_property
    def cells(self) -> dict[str, str]:
        """The text of each cell by column, without empty ones and without the digest."""
        found: dict[str, object] = {}
        for name, value in self.values().items():
            found |= value if isinstance(value, Mapping) else {name: value}
        texts = {column: cell_text(value) for column, value in found.items()}
        return {column: text for column, text in texts.items() if text}

    @cached_property
    def row_digest(self) -> str:
        """Digest of the cells; a new column does not change older rows, which have no such cell."""
        return digest(self.cells)


R = TypeVar("R", bound=CsvRow)


def encode(rows: Iterable[CsvRow], columns: Iterable[str]) -> bytes:
    """The bytes of a file of the registry: these columns, then the digest."""
    names = [*columns, DIGEST]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        cells = {**row.cells, DIGEST: row.row_digest}
        writer.writerow([cells.get(name, "") for name in names])
    return text.getvalue().encode()


def decode(content: bytes, where: str, kind: type[R]) -> tuple[R, ...]:
    """Read a file of the registry and check every row's digest.

    Raises CheckFailed naming `where` and the row if a cell was changed by hand, and for a file
    that is no such table.
    """
    mend = f"restore the committed file (git checkout -- {where})"
    try:
        header, *lines = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        found = [dict(zip(header, line, strict=True)) for line in lines]
    except (ValueError, csv.Error) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckFailed(f"{where} cannot be read as a table ({reason}); {mend}") from None
    missing = [name for name in [*kind.required(), DIGEST] if name not in header]
    if missing:
        raise CheckFailed(f"{where} has no column {missing[0]}; {mend}")
    rows = []
    # Line 1 is the header.
    for line, given in enumerate(found, start=2):
        cells = {column: text for column, text in given.items() if text and column != DIGEST}
        place = f"{where} line {line} ({_described(cells)})"
        if digest(cells) != given[DIGEST]:
            raise CheckFailed(
                f"{place} was changed by hand: its cells do not match its {DIGEST}; {mend}"
            )
        rows.append(_row(kind, cells, place, mend))
    return tuple(rows)


def _row(kind: type[R], cells: Mapping[str, str], place: str, mend: str) -> R:
    try:
        row = kind.of_cells(cells)
    except ValidationError as error:
        column, message = error.errors()[0]["loc"][-1], error.errors()[0]["msg"]
        raise CheckFailed(f"{place}: {column} cannot be read ({message}); {mend}") from None
    for column in cells.keys() | row.cells.keys():
        if cells.get(column, "") != row.cells.get(column, ""):
            raise CheckFailed(
                f"{place}: {column} says '{_short(cells.get(column, ''))}' where this version of "
                f"bench writes '{_short(row.cells.get(column, ''))}'; {mend}"
            )
    return row


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _described(given: Mapping[str, str]) -> str:
    """A row of any of the files in a few words, also if its cells cannot be read."""
    cells = {column: _short(text) for column, text in given.items()}
    if "seed" in cells:
        return title(cells.get("model", ""), cells.get("latent_dim", ""), cells["seed"])
    if "row_b" in cells:
        return f"{cells.get('track')}: {cells.get('row_a')} against {cells['row_b']}"
    return f"{cells.get('track')}: {cells.get('row')}"


def title(model: str, size_name: str, seed: object) -> str:
    """`cnn_ae d=16 seed 0`: a run in a message."""
    size = {"native": "native ", NO_CODE: ""}.get(size_name, f"d={size_name} ")
    return f"{model} {size}seed {seed}"
