"""What the page shows of a row beside the tables, and text made safe for HTML and JSON."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.core.identity import digest
from bench.core.text import for_terminal
from bench.leaderboard.cells import TableCell
from bench.report.sheets import Sheet

RECONSTRUCTIONS = "Reconstructions"
PICTURES = {
    RECONSTRUCTIONS: "Test images, reconstructed.",
    "Interpolations": (
        "Decoded points between the codes of two images, one path after the other: the ends of a "
        "path are reconstructions, what stands between them is the decoder's own."
    ),
    "Samples": (
        "Decoded draws: of N(0, I) where the model has this prior, else of a Gaussian fitted to "
        "the codes of training images."
    ),
    "Samples, N(0, I)": "Codes drawn from N(0, I), decoded.",
    "Samples, Gaussian": "Codes drawn from one Gaussian fitted to training codes, decoded.",
    "Samples, 10 Gaussians": "Codes drawn from 10 Gaussians fitted to training codes, decoded.",
}
"""The kinds of pictures by title, in the order of their tabs, and what each shows."""


@dataclass(frozen=True)
class Run:
    """A run of a row, as the ledger has it."""

    seed: int
    status: str
    run_key: str
    row_digest: str


@dataclass(frozen=True)
class Exhibit:
    """What is committed of a row beside its numbers.

    `command` repeats its runs. `curves`: the selection metric on validation after each epoch, by
    seed. `sheets`: pictures (uint8, N x C x H x W) by title; RECONSTRUCTIONS are of the board's
    originals. `confirmations`: how many runs confirmed its board; None: not known.
    """

    runs: Sequence[Run] = ()
    command: str = ""
    curves: Mapping[int, Sequence[float]] = field(default_factory=dict)
    sheets: Mapping[str, Sheet] = field(default_factory=dict)
    confirmations: int | None = None


Exhibits = Mapping[str, Exhibit]
"""By `row_key`."""


def row_key(cell: TableCell) -> str:
    """What names a cell: its board and configuration, as in the names of score files."""
    return digest({"board": list(cell.board), "configuration": cell.configuration})


def row_id(cell: TableCell) -> str:
    """What names a row on the page, where a cell may be ranked by several metrics."""
    return f"{row_key(cell)}-{cell.selection_metric}"


def plain(given: str) -> str:
    """The text in one line, its invisible characters written out: what a script shows as text."""
    return for_terminal(" ".join(given.split()))


def text(given: str) -> str:
    """The same for HTML, also within quotes."""
    return html.escape(plain(given))


_MARKDOWN = re.compile(r"\*\*|`|\\(?=[\\`*|\[\]_~])")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def without_markdown(given: str) -> str:
    """A sentence of the tables' pages as plain text: no emphasis, code marks or addresses."""
    return html.unescape(_MARKDOWN.sub("", _LINK.sub(r"\1", given)))


_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def as_json(values: object) -> str:
    """JSON within a `script` element: ASCII, and nothing in it ends the element or opens another.

    Raises ValueError for NaN, which JSON lacks.
    """
    found = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda sign: _IN_SCRIPT[sign[0]], found)
