"""Scores per image in `registry/scores/`: what comparisons are computed from on every machine.

One safetensors file for each cell (a configuration on a board) of a ranked protocol, at
`scores/<data set>/<protocol>/<variant>-<size>-<cell>.safetensors` (`score_files` has its content).

`registry/scores.csv` lists the files with their SHA-256, and for each seed a digest of the run that
it belongs to. A file is written once: a reproduction leaves it as it is.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import load, save

from bench.core.errors import CheckFailed
from bench.core.identity import Name, digest
from bench.core.spec import RunRecord
from bench.core.store import child
from bench.leaderboard.competitions import cell_name
from bench.leaderboard.csv_rows import CsvRow, TrackText, number
from bench.leaderboard.ledger import Ledger, LedgerRow
from bench.leaderboard.merging import PARTS
from bench.leaderboard.significance import Scores
from bench.records.files import Arrays, read_safetensors
from bench.registry.score_files import (
    Tensors,
    check_content,
    decoded,
    is_picture,
    is_run_of,
    pictures_of,
    tensors_of,
)

FOLDER, INDEX = "scores", "scores.csv"
_FILE = re.compile(r"(.+-[0-9a-f]{16}|originals-[0-9a-f]{16})\.safetensors")
_MEND = "write it again where its records are (bench leaderboard --write), or restore it"

Source = Callable[[LedgerRow], tuple[RunRecord, Arrays] | None]
"""The local record of a ledger row and its arrays; None: there is none."""


@dataclass(frozen=True)
class ScoresRow(CsvRow):
    """A row of `scores.csv`: the file of a cell.

    `cell` identifies it in the name of the file. `seeds` and `runs` are lists: the seeds that the
    file holds, and a digest of each one's run (`run_digest`). `originals`: the SHA-256 of the file
    with the originals of its pictures; None: it has no pictures.
    """

    dataset: Name
    protocol: Name
    track: TrackText
    row: str
    configuration: Name
    cell: Name
    metric: Name
    seeds: Annotated[str, Field(pattern=r"^\d{1,10}( \d{1,10})*$")]
    runs: Annotated[str, Field(pattern=r"^[0-9a-f]{16}( [0-9a-f]{16})*$")]
    sha256: Name
    originals: Name | None = None

    @cached_property
    def held(self) -> dict[int, str]:
        """The digest of the run of each seed."""
        return dict(zip(map(int, self.seeds.split()), self.runs.split(), strict=False))

    def holds(self, row: LedgerRow) -> bool:
        """Whether the file has the scores of this row of its cell."""
        return self.held.get(row.seed) == run_digest(row)


def cell_of(row: LedgerRow) -> str:
    """What identifies the row's cell: its board and configuration, in 16 hexadecimal digits."""
    return digest({"board": list(row.board), "configuration": row.configuration})


def run_digest(row: LedgerRow) -> str:
    """Identifies a run with the mean scores that the ledger has of it."""
    means = [row.selected(part) for part in PARTS]
    known = [None if mean is None else number(mean) for mean in means]
    return digest({"run": row.run_key, "evaluation": row.evaluation_digest, "means": known})


def is_kept(row: LedgerRow) -> bool:
    """Whether the registry keeps the scores of a row: finished runs of ranked protocols."""
    return row.ranked and row.status == "finished"


def cells_of(ledger: Ledger) -> dict[str, list[LedgerRow]]:
    """The rows whose scores are kept, by cell, in the order of the ledger."""
    found: dict[str, list[LedgerRow]] = {}
    for row in ledger:
        if is_kept(row):
            found.setdefault(cell_of(row), []).append(row)
    return found


class Kept:
    """The scores that a registry has: reads the files that its index lists, each once.

    `new`: files that are about to be written, by path within `registry`.
    """

    def __init__(
        self, registry: Path, index: Iterable[ScoresRow], new: Mapping[str, bytes] = {}
    ) -> None:
        self._registry = registry
        self._index = {entry.cell: entry for entry in index}
        self._new = new
        self._read: dict[str, Tensors] = {}
        self._images: dict[tuple[str, ...], int] = {}

    def holds(self, row: LedgerRow) -> bool:
        """Whether the scores of a ledger row are there."""
        entry = self._index.get(cell_of(row))
        return entry is not None and entry.holds(row)

    def is_new(self, row: LedgerRow) -> bool:
        """Whether the scores of the row's cell are about to be written."""
        return _file(row) in self._new

    def scores_of(self, row: LedgerRow, part: str, metric: str = "") -> Scores | None:
        """The scores of a ledger row on "validation" or "test", of its selection metric or of
        another one; None: they are not there.

        Raises CheckFailed if the file is missing or damaged, or has scores of other images than
        those of rows on the same board.
        """
        if not self.holds(row):
            return None
        cell, name = cell_of(row), _file(row)
        key = f"{row.seed}/{part}/{metric}".rstrip("/")
        if cell not in self._read:
            self._read[cell] = (
                load(self._new[name])
                if name in self._new
                else read_cell(self._registry, row, self._index[cell])
            )
        found = self._read[cell]
        check_content(found, [row], f"registry/{name}", _MEND)
        if key not in found:
            return None
        images = len(found[key])
        if images != self._images.setdefault((*row.board, part, metric), images):
            raise CheckFailed(
                f"registry/{name} has {images} scores on {part} where other rows of its board have "
                f"{self._images[*row.board, part, metric]}; restore the committed files"
            )
        return decoded(found[key], found[f"{key}/scale"])


def renewed(
    registry: Path, index: Sequence[ScoresRow], ledger: Ledger, source: Source
) -> tuple[tuple[ScoresRow, ...], dict[str, bytes]]:
    """The index for a ledger, and the files that change, by path within `registry`.

    What the registry has of the ledger's runs stays; what it lacks comes from local records whose
    means are the ledger's. Raises CheckFailed for a damaged file that they cannot replace, BadInput
    for a link that leads out of the registry.
    """
    known = {entry.cell: entry for entry in index}
    entries: list[ScoresRow] = []
    files: dict[str, bytes] = {}
    for cell, rows in cells_of(ledger).items():
        entry = known.get(cell)
        old, held = _still_right(registry, rows, entry, source)
        known_seeds = {row.seed for row in held}
        fresh = {
            row.seed: found
            for row in rows
            if row.seed not in known_seeds and (found := source(row)) and is_run_of(row, found[1])
        }
        if entry is not None and not fresh and len(held) == len(entry.held):
            entries.append(_entry(held, entry.sha256, entry.originals))
            continue
        kept = [row for row in rows if row.seed in known_seeds or row.seed in fresh]
        if not kept:
            continue
        first = kept[0]
        tensors = {key: value for key, value in old.items() if _is_of(key, held, first)}
        for row in kept:
            if row.seed in fresh:
                tensors |= tensors_of(row, *fresh[row.seed])
        originals = entry.originals if entry and f"{first.seed}/x_hat" in tensors else None
        if pictures := pictures_of(first, fresh[first.seed][1]) if first.seed in fresh else {}:
            kept_pictures = {name: value for name, value in pictures.items() if name != "x"}
            tensors |= {f"{first.seed}/{name}": value for name, value in kept_pictures.items()}
            content = save({"x": pictures["x"]})
            originals = sha256(content).hexdigest()
            files[_originals(first, originals)] = content
        content = save(tensors)
        entries.append(_entry(kept, sha256(content).hexdigest(), originals))
        files[_file(first)] = content
    for name in files:
        child(registry, name)  # refuses a link that leads out of it
    return tuple(entries), files


def _still_right(
    registry: Path, rows: Ledger, entry: ScoresRow | None, source: Source
) -> tuple[Tensors, list[LedgerRow]]:
    """The arrays of a cell's file, and the rows that they are right for.

    None if the file is damaged and local records replace it; CheckFailed if they cannot.
    """
    held = [row for row in rows if entry is not None and entry.holds(row)]
    if entry is None or not held:
        return {}, []
    try:
        return _checked(registry, held, entry), held
    except CheckFailed:
        found = ((row, source(row)) for row in held)
        if all(each is not None and is_run_of(row, each[1]) for row, each in found):
            return {}, []
        raise


def _is_of(key: str, rows: Ledger, first: LedgerRow) -> bool:
    """Whether an array belongs to one of these rows; pictures are of the first one only."""
    seed, _, name = key.partition("/")
    return any(seed == str(row.seed) for row in rows) and (
        not is_picture(name) or seed == str(first.seed)
    )


def _entry(rows: Ledger, sha: str, originals: str | None) -> ScoresRow:
    first = rows[0]
    return ScoresRow(
        dataset=first.dataset,
        protocol=first.protocol,
        track=first.track,
        row=cell_name(first),
        configuration=first.configuration,
        cell=cell_of(first),
        metric=first.selection_metric,
        seeds=" ".join(str(row.seed) for row in rows),
        runs=" ".join(map(run_digest, rows)),
        sha256=sha,
        originals=originals,
    )


def _file(row: LedgerRow) -> str:
    """The file of a row's cell, by path within `registry`."""
    size = {"native": "native-", "-": ""}.get(row.size_name, f"d{row.size_name}-")
    name = f"{row.model}-{size}{cell_of(row)}.safetensors"
    return f"{FOLDER}/{row.dataset}/{row.protocol}/{name}"


def _originals(row: LedgerRow, sha: str) -> str:
    return f"{FOLDER}/{row.dataset}/{row.protocol}/originals-{sha[:16]}.safetensors"


def read_originals(registry: Path, row: LedgerRow, entry: ScoresRow) -> NDArray[np.uint8]:
    """The test images (N, C, H, W) of a cell's pictures, which it must have.

    CheckFailed as for `read_cell`.
    """
    assert entry.originals is not None
    path = child(registry, _originals(row, entry.originals))
    return read_safetensors(path, entry.originals, _MEND)["x"]


def read_cell(registry: Path, row: LedgerRow, entry: ScoresRow) -> Tensors:
    """The arrays of a cell's file; CheckFailed if it is missing, or another file."""
    return read_safetensors(child(registry, _file(row)), entry.sha256, _MEND)


def _checked(registry: Path, rows: Ledger, entry: ScoresRow) -> Tensors:
    """As `read_cell`, after comparing the means with the ledger's."""
    tensors = read_cell(registry, rows[0], entry)
    check_content(tensors, rows, f"registry/{_file(rows[0])}", _MEND)
    return tensors


def check_scores(registry: Path, index: Sequence[ScoresRow], ledger: Ledger) -> int:
    """Check the index and its files against the ledger; returns how many rows have no scores.

    Raises CheckFailed naming the file, what is wrong with it and what to do.
    """
    cells = cells_of(ledger)
    where, mend = f"registry/{INDEX}", "fix it with: bench leaderboard --write"
    for line, entry in enumerate(index, start=2):
        held = [row for row in cells.get(entry.cell, ()) if entry.holds(row)]
        if not held or _entry(held, entry.sha256, entry.originals) != entry:
            raise CheckFailed(
                f"{where} line {line} does not match the rows of registry/results.csv; {mend}"
            )
        _checked(registry, held, entry)
        if entry.originals:
            read_originals(registry, held[0], entry)
    listed = [entry.cell for entry in index]
    if listed != [cell for cell in cells if cell in set(listed)]:
        raise CheckFailed(f"{where} is not in the order in which it is written; {mend}")
    for path in leftovers(registry, index, ledger):
        name = path.relative_to(registry).as_posix()
        cure = mend if _FILE.fullmatch(path.name) else "remove it"
        raise CheckFailed(f"registry/{name} belongs to no row of {where}; {cure}")
    return sum(map(len, cells.values())) - sum(len(entry.held) for entry in index)


def leftovers(registry: Path, index: Iterable[ScoresRow], ledger: Ledger) -> Iterator[Path]:
    """The files in `scores/` that belong to no row of the index."""
    cells = cells_of(ledger)
    rows = [(entry, cells[entry.cell][0]) for entry in index if entry.cell in cells]
    wanted = {registry / _file(row) for _, row in rows}
    wanted |= {registry / _originals(row, sha) for entry, row in rows if (sha := entry.originals)}
    for path in sorted((registry / FOLDER).rglob("*")):
        if not path.is_dir() and path not in wanted:
            yield path


def remove_leftovers(registry: Path, index: Iterable[ScoresRow], ledger: Ledger) -> list[str]:
    """Remove files of scores that belong to no row any more, and no others; returns their paths."""
    gone = [path for path in leftovers(registry, index, ledger) if _FILE.fullmatch(path.name)]
    for path in gone:
        path.unlink()
    return [f"registry/{path.relative_to(registry).as_posix()}" for path in gone]


def relabelled(
    registry: Path,
    index: Iterable[ScoresRow],
    ledger: Ledger,
    renamed: Callable[[LedgerRow], LedgerRow],
) -> tuple[ScoresRow, ...]:
    """The index of a ledger whose rows are renamed; moves the files along."""
    cells, entries = cells_of(ledger), []
    for entry in index:
        rows = [row for row in cells[entry.cell] if entry.holds(row)]
        now = [renamed(row) for row in rows]
        if _file(now[0]) != _file(rows[0]):
            final = child(registry, _file(now[0]))
            final.parent.mkdir(parents=True, exist_ok=True)
            child(registry, _file(rows[0])).rename(final)
        entries.append(_entry(now, entry.sha256, entry.originals))
    return tuple(entries)
