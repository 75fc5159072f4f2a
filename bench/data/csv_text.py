"""A CSV file as text: plain or gzip, UTF-8 or Latin-1, separated by comma, semicolon or tab."""

import codecs
import csv
import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bench.core.errors import BadInput
from bench.data.limits import reason_of, regular_file

_BLOCK = 1 << 22
_LONGEST_LINE = 1 << 24
_GZIP = b"\x1f\x8b"
_SEPARATORS = ";\t,"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class CsvText:
    """What has to be known to read the file's rows; `lines` counts all of its lines."""

    path: Path
    packed: bool
    encoding: str
    separator: str
    lines: int

    @contextmanager
    def open(self) -> Iterator[TextIO]:
        """The decoded text; damage found while reading is a BadInput that names the file."""
        opener = gzip.open if self.packed else open
        # newline="": quoted line ends stay, and line numbers match those of an editor.
        with (
            _readable(self.path),
            opener(self.path, "rt", encoding=self.encoding, newline="") as stream,
        ):
            yield stream

    def rows(self) -> Generator[tuple[int, list[str]]]:
        """The rows that are not blank, each with its line number from 1."""
        with self.open() as stream:
            # As strict about quotes as numpy's reader.
            reader = csv.reader(stream, delimiter=self.separator)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells

    @property
    def notes(self) -> Iterator[str]:
        """What a person should know of it."""
        if self.encoding == "latin-1":
            yield "read as Latin-1, because it is not UTF-8"


def survey(path: Path) -> CsvText:
    """Read a file once, in blocks, to find out how to read its text.

    Raises BadInput naming the file if it is no text: packed in another way, UTF-16, binary.
    """
    regular_file(path, "a CSV file")
    with _readable(path), path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        with gzip.open(raw) if packed else raw as stream:
            start = stream.read(_BLOCK)
            if start.startswith(_UTF16):
                raise BadInput(f"{path}: is UTF-16 text; save it as UTF-8")
            decoder = codecs.getincrementaldecoder("utf-8-sig")()
            encoding, lines, open_line, rest = "utf-8-sig", 0, 0, False
            first = start.split(b"\n", 1)[0].decode("latin-1")
            block = start
            while block:
                if b"\0" in block:
                    raise BadInput(
                        f"{path}: not CSV text (compressed, or UTF-16?): it holds NUL characters"
                    )
                if encoding != "latin-1" and not _decodes(decoder, block):
                    encoding = "latin-1"
                ends = max(block.count(b"\n"), block.count(b"\r"))
                open_line = 0 if ends else open_line + len(block)
                if open_line > _LONGEST_LINE:
                    raise BadInput(f"{path}: not CSV text: line {lines + 1:,} does not end")
                lines += ends
                rest = not block.endswith((b"\n", b"\r"))
                block = stream.read(_BLOCK)
            if encoding != "latin-1" and not _decodes(decoder, b"", final=True):
                encoding = "latin-1"  # it ends within a character
    # Where semicolons or tabs separate, a comma may stand in every number.
    separator = max(_SEPARATORS, key=lambda each: first.count(each) * (1 if each == "," else 2))
    return CsvText(path, packed, encoding, separator, lines + rest)


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading into one line."""
    try:
        yield
    except csv.Error as error:
        raise BadInput(f"{path}: not CSV text (compressed?): {reason_of(error)}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path}: the gzip file is damaged ({reason_of(error)})") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {reason_of(error)}") from None
