"""Redraw figures from records: of one run, of a track, or of all tracks of a protocol.

Trains nothing and does not use MLflow. Figures compare what the leaderboard compares: the most
recent local records of a protocol on a data set that share fingerprint, data digest and
evaluation digest.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.core.errors import BadInput, unknown_name
from bench.core.protocol import name_in_records, shipped_protocols
from bench.core.spec import RunRecord, board_of
from bench.core.store import Store, write_atomically, writing_to
from bench.figures import FIGURES, TRACK_FIGURES, Cell, Group, attempt, to_png
from bench.leaderboard.competitions import Competition, cell_name, competitions
from bench.leaderboard.ledger import current, ledger_of, row_of
from bench.records.files import iter_records, read_arrays, read_record
from bench.records.selection import shown_record

_SHORTEST = 4
"""The fewest digits of a run key that the user must give."""
_NEEDED = ("shown/test/", "test/", "label/test")
"""Arrays used by figures of several runs; codes and samples of all runs would fill the memory."""


@dataclass(frozen=True)
class Drawn:
    """A figure of `subject` (a run key, a track, or a data set with a protocol): the file
    written, or the reason why there was nothing to draw."""

    subject: str
    figure: str
    path: Path | None
    reason: str = ""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as the bytes of a PNG file, or what it `lacks`."""

    lacks: str
    draw: Callable[[], bytes]


@dataclass(frozen=True)
class Subject:
    """What figures are drawn of: its name, its folder among the figures, its figures by id."""

    name: str
    folder: Path
    pictures: Mapping[str, DrawnFigure]


def redraw(
    store: Store, name: str, only: Sequence[str] = (), out: Path | None = None
) -> Iterator[Drawn]:
    """Draw all, or `only` some, figures of a run, track or protocol and write PNG files.

    They go to `out`, by default under `mlruns/figures/`; several tracks get one folder each.
    Raises BadInput for an unknown name, a figure that the subject does not have, an unwritable
    folder, or if there is nothing to draw; CheckFailed for a damaged record.
    """
    for figure in only:
        if figure not in FIGURES and figure not in TRACK_FIGURES:
            raise unknown_name("figure", figure, [*FIGURES, *TRACK_FIGURES])
    if out is not None and out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; --out takes a folder")
    subjects = find(store, name)
    for figure in only:
        _check_offered(figure, name, subjects)
    written, reasons = 0, []
    for subject in subjects:
        alone = out is not None and len(subjects) == 1
        base = out if out is not None else store.mlruns / "figures"
        for drawn in _drawn(subject, only, base if alone else base / subject.folder):
            yield drawn
            written += drawn.path is not None
            reasons.append(f"{drawn.figure}: {drawn.reason}")
    if not written:
        raise BadInput(f"there is nothing to draw of {name}; {'; '.join(reasons[:4])}")


def _check_offered(figure: str, name: str, subjects: Sequence[Subject]) -> None:
    offered = list(dict.fromkeys(key for subject in subjects for key in subject.pictures))
    if figure not in offered:
        raise BadInput(f"figure {figure} is not one of {name}; those are {', '.join(offered)}")


def _drawn(subject: Subject, only: Sequence[str], folder: Path) -> Iterator[Drawn]:
    for figure, picture in subject.pictures.items():
        if only and figure not in only:
            continue
        if picture.lacks:
            yield Drawn(subject.name, figure, None, picture.lacks)
            continue
        content, why = attempt(picture.draw)
        if content is None:
            yield Drawn(subject.name, figure, None, why)
            continue
        path = folder / f"{figure}.png"
        with writing_to("the figures"):
            write_atomically(path, content)
        yield Drawn(subject.name, figure, path)


def find(store: Store, name: str) -> list[Subject]:
    """Resolve `name`: a track, a protocol (all its tracks), a variant (the median run of each of
    its cells), or a run key.

    Tracks are named as in tables (`fashion_mnist_mini.quick.d8`) or as their folder in the
    registry (`fashion_mnist_mini/quick.d8`), protocols also by their file (`origins/s1`,
    `mine.toml`), runs by the beginning of their key. Raises BadInput for a name that is none of
    these, or that begins several keys.
    """
    keys = sorted(path.parent.name for path in store.records.glob("[!.]*/record.json"))
    if not keys:
        raise BadInput(f"there are no records in {store.records} yet; make some with: bench run")
    if name not in keys:
        boards = _boards(store)
        for board in boards:
            for competition in board.competitions:
                if name in (competition.title, str(board.folder(competition))):
                    return [board.of_competition(competition)]
        called = name_in_records(name)
        chosen = [board for board in boards if called in board.names]
        if chosen:
            return [subject for board in chosen for subject in board.subjects()]
        if runs := [record for board in boards for record in board.shown(name)]:
            return [_run(store, record) for record in {run.run_key: run for run in runs}.values()]
        if name in shipped_protocols():
            raise BadInput(
                f"protocol {name} has no records here; make some with: bench run --protocol {name}"
            )
        known = {board.protocol for board in boards}
        known |= {competition.title for board in boards for competition in board.competitions}
        known |= {record.spec.model for board in boards for record in board.records.values()}
        name = _only_key(name, keys, known)
    record = read_record(store.records, name)
    if record is None:
        raise BadInput(f"run {name} vanished from {store.records}")
    return [_run(store, record)]


def _only_key(name: str, keys: Sequence[str], known: Set[str]) -> str:
    matches = [key for key in keys if len(name) >= _SHORTEST and key.startswith(name)]
    if len(matches) > 1:
        raise BadInput(f"run {name} is ambiguous: {', '.join(matches)}")
    if not matches:
        raise unknown_name("run, track, protocol or variant", name, known)
    return matches[0]


def _run(store: Store, record: RunRecord) -> Subject:
    arrays = read_arrays(store.records, record)
    pictures = {
        row.id: DrawnFigure(row.lacks(record, arrays), partial(_png, row.draw, record, arrays))
        for row in FIGURES.values()
        if row.expected(record)
    }
    return Subject(record.run_key, Path(record.run_key), pictures)


def _png(draw: Callable[..., Any], *drawn_from: Any) -> bytes:
    return to_png(draw(*drawn_from))


@dataclass(frozen=True)
class _Board:
    """The competitions of a protocol on a data set, with all local records by run key."""

    store: Store
    dataset: str
    protocol: str
    competitions: tuple[Competition, ...]
    records: Mapping[str, RunRecord]
    ranked: bool

    @property
    def names(self) -> tuple[str, str, str]:
        """The names it can be given by."""
        return (
            self.protocol,
            f"{self.dataset}.{self.protocol}",
            f"{self.dataset}/{self.protocol}",
        )

    def shown(self, model: str) -> Iterator[RunRecord]:
        """The run that represents each cell of a variant."""
        for competition in self.competitions:
            for rows in competition.cells.values():
                shown = shown_record([self.records[row.run_key] for row in rows])
                if shown is not None and rows[0].model == model:
                    yield shown

    def folder(self, competition: Competition) -> Path:
        """The folder for a track's figures, named as its champion's folder in the registry."""
        return Path(self.dataset, f"{self.protocol}.{competition.track}")

    def subjects(self) -> list[Subject]:
        """Each track on its own, then all of them together."""
        about = f"{self.dataset} · {self.protocol}"
        cells = self._cells(self.competitions, arrays=not self.ranked)
        groups = {True: Group(about, cells)}
        if not self.ranked and len(self.competitions) > 1:
            # Origins are never ranked; their variants are compared whatever their code sizes.
            groups[False] = Group(f"{about} · code sizes differ", _told_apart(cells))
        together = _subject(
            f"{self.dataset}.{self.protocol}", Path(self.dataset, self.protocol), groups
        )
        return [*map(self.of_competition, self.competitions), together]

    def of_competition(self, competition: Competition) -> Subject:
        """The figures of one track."""
        words = competition.track.heading
        about = f"{self.dataset} · {self.protocol} · {words[:1].lower()}{words[1:]}"
        group = Group(about, self._cells([competition], arrays=True))
        return _subject(competition.title, self.folder(competition), {False: group})

    def _cells(self, chosen: Sequence[Competition], arrays: bool) -> tuple[Cell, ...]:
        """The cells of `chosen` tracks; figures of all tracks need only scores, no `arrays`."""
        cells = []
        for competition in chosen:
            for rows in competition.cells.values():
                records = tuple(self.records[row.run_key] for row in rows)
                shown = shown_record(records)
                found = read_arrays(self.store.records, shown) if shown and arrays else {}
                kept = {key: found[key] for key in found if key.startswith(_NEEDED)}
                cells.append(Cell(cell_name(rows[0]), records, shown, kept))
        return tuple(cells)


def _subject(name: str, folder: Path, groups: Mapping[bool, Group]) -> Subject:
    """The figures of each kind of group: those over all tracks (True), those of one (False)."""
    pictures = {
        row.id: DrawnFigure(row.lacks(group), partial(_png, row.draw, group))
        for row in TRACK_FIGURES.values()
        if (group := groups.get(row.all_tracks)) is not None and row.suits(group)
    }
    return Subject(name, folder, pictures)


def _told_apart(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Cells of several tracks; those that share a name get their code size appended."""
    names = Counter(cell.name for cell in cells)
    return tuple(
        dataclasses.replace(cell, name=f"{cell.name} {cell.track}")
        if names[cell.name] > 1
        else cell
        for cell in cells
    )


def _boards(store: Store) -> list[_Board]:
    """The local records as the leaderboard would compare them."""
    records = [r for r in iter_records(store.records) if r.status != "stopped"]
    rows = [row_of(record) for record in records]
    found: dict[tuple[str, str], list[Competition]] = {}
    for each in competitions(current(ledger_of(rows))):
        found.setdefault((each.first.dataset, each.first.protocol), []).append(each)
    boards = []
    for (dataset, protocol), listed in found.items():
        board = board_of(protocol, listed[0].first.protocol_fingerprint, dataset)
        here = {r.run_key: r for r in records if r.spec.board == board}
        ranked = all(record.spec.ranked for record in here.values())
        boards.append(_Board(store, dataset, protocol, tuple(listed), here, ranked))
    return boards
