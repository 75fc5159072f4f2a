"""The pages of `registry/`: tables, figures and the README's block; writing and checking them."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.core.errors import CheckFailed
from bench.core.identity import digest, sha256_of_file
from bench.core.protocol import known_protocols, origin_protocols
from bench.core.store import Store, child, is_shipped, shipped, write_atomically
from bench.core.text import ODD_BYTES
from bench.core.view import Picture, picture_markdown
from bench.leaderboard.calibration import calibration_section
from bench.leaderboard.ledger import Ledger, LedgerRow, current, score_columns
from bench.leaderboard.merging import Merge
from bench.leaderboard.origins import claims_of, findings_of, origins_page
from bench.leaderboard.ranking import TableCell, rank_table
from bench.leaderboard.render import (
    BEGIN,
    END,
    Board,
    block,
    page,
)
from bench.leaderboard.significance import cell_name, competitions
from bench.metrics import METRICS
from bench.registry.champions import champions, check_champions, shown_champions
from bench.registry.changes import FRONT, changing, one_writer, unchanged
from bench.registry.checking import check_results
from bench.registry.results import (
    REFRESH,
    Results,
    Scope,
    as_far_as_known,
    computed,
    local_source,
    merge_local,
    read_results,
    refuse_drift,
    reproduction,
    write_changed,
)
from bench.registry.scores import FOLDER, remove_leftovers, renewed

PAGE, ORIGINS = "registry/README.md", "registry/origins.md"
_DIRECTIONS = {name: metric.higher_is_better for name, metric in METRICS.items()}


@dataclass(frozen=True)
class TableUpdate:
    """The result of `look` or `write`: the tables, messages, the files written, and the tables
    committed with bench, if they are not those of the workspace itself; `newest`: data set and
    protocol of the last run in this workspace, if there is one."""

    boards: Sequence[Board]
    lines: Sequence[str]
    changed: Sequence[str] = ()
    committed: Sequence[Board] = ()
    newest: tuple[str, str] | None = None


def ranked(rows: Ledger, results: Results) -> list[TableCell]:
    """The ranked table of comparable ledger rows."""
    return rank_table(rows, results.known, _DIRECTIONS, score_columns(results.ledger))


def look(store: Store, scope: Scope) -> TableUpdate:
    """The tables of local records and the ledger together; writes nothing."""
    with unchanged(store):
        results = read_results(store.registry)
        merged = merge_local(store, results, scope, refresh=False)
        shown, problem = as_far_as_known(store, results, merged.ledger)
        boards = _boards(store, shown, scope)
    lines = [*reproduction(merged, results.ledger), *([problem] if problem else [])]
    lines += [f"drift: {drift}" for drift in merged.drifted]
    return TableUpdate(
        boards, lines, committed=_committed(store, scope), newest=_newest(_local(merged))
    )


def _local(merged: Merge) -> Ledger:
    """The rows of this workspace's own runs."""
    return [*merged.added, *merged.reproduced]


def _newest(local: Ledger) -> tuple[str, str] | None:
    last = max(local, key=lambda row: (row.finished, row.run_key), default=None)
    return (last.dataset, last.protocol) if last else None


def _committed(store: Store, scope: Scope) -> list[Board]:
    ours = shipped()
    if is_shipped(store):
        return []
    with unchanged(ours):
        return _boards(ours, read_results(ours.registry), scope)


def write(store: Store, scope: Scope, refresh: bool) -> TableUpdate:
    """Merge local records into the ledger and write every file that changes.

    Raises CheckFailed for drift (unless `refresh`) and for files changed by hand, BadInput if
    records are missing for a comparison; nothing is written then.
    """
    with one_writer(store):
        return _write(store, scope, refresh)


def _write(store: Store, scope: Scope, refresh: bool) -> TableUpdate:
    before = read_results(store.registry)
    merged = merge_local(store, before, scope, refresh)
    if not refresh:
        refuse_drift(merged.drifted)
    index, new = renewed(store.registry, before.scores, merged.ledger, local_source(store))
    results = computed(store, dataclasses.replace(before, scores=index), merged.ledger, new)
    lines = reproduction(merged, before.ledger)
    if merged.refreshed:
        lines.append(f"{merged.refreshed} rows were refreshed")
    elif merged.better:
        lines.append(f"the committed runs stay; to take the better ones: {REFRESH}")
    if merged.renamed:
        lines.append(f"{merged.renamed} rows say a larger budget of their study now")
    with changing(store) as staged:
        files = {f"registry/{name}": content for name, content in results.files().items()}
        changed = write_changed(staged.committed, files)
        changed += write_changed(staged.committed, {f"registry/{k}": v for k, v in new.items()})
        changed += remove_leftovers(staged.registry, index, results.ledger)
        changed += write_pages(staged, results)
    notices = [] if _has_markers(store) else [_no_markers(store)]
    boards = _boards(store, results, scope)
    return TableUpdate(boards, [*lines, *notices], changed, newest=_newest(_local(merged)))


def write_pages(store: Store, results: Results) -> list[str]:
    """Render figures, registry/README.md and the README's block; returns the files written."""
    changed = _redraw(store, results)
    files = {
        name: text.encode(errors=ODD_BYTES) for name, text in _rendered(store, results).items()
    }
    return changed + write_changed(store.committed, files)


def check(store: Store) -> list[str]:
    """Check everything in `registry/` and the README's block against the committed files alone.

    Returns what was checked; raises CheckFailed naming the file and the first line that differs.
    """
    with unchanged(store):
        return _check(store)


def _check(store: Store) -> list[str]:
    results, without = check_results(store.registry)
    count = check_champions(store.registry)
    _check_cards_are_current(store, results)
    for name, text in _rendered(store, results).items():
        _compare(name, _read(store.committed / name), text)
    # Without its markers the README's table would not be checked.
    if (store.committed / FRONT).exists() and not _has_markers(store):
        raise CheckFailed(_no_markers(store))
    lines = [f"{len(results.ledger)} rows, {count} champions and {PAGE} agree with each other"]
    if without:
        lines.append(
            f"{without} ranked runs have no scores in registry/{FOLDER}/: comparisons with them "
            f"stand as they were computed; run them again, then: {REFRESH}"
        )
    return lines


def _check_cards_are_current(store: Store, results: Results) -> None:
    # A training may be on several boards, so its configuration alone is no key.
    rows = {
        (competition.title, key): tuple(row.row_digest for row in group)
        for competition in competitions(current(results.ledger))
        for key, group in competition.cells.items()
    }
    for track, card in champions(store.registry).items():
        if rows.get((track, card.summary.configuration), card.rows) != card.rows:
            raise CheckFailed(
                f"registry/{card.folder}/card.json was written from other rows of results.csv "
                f"than there are now for {card.summary.row} in {track}; fix it with: bench promote"
            )


def _compare(name: str, found: str, expected: str) -> None:
    """Raise CheckFailed at the first line that differs, quoting the differing words."""
    if found == expected:
        return
    old, new = found.splitlines(), expected.splitlines()
    for number in range(max(len(old), len(new))):
        here = old[number] if number < len(old) else ""
        there = new[number] if number < len(new) else ""
        if here != there or number >= min(len(old), len(new)):
            says, gives = _first_difference(here, there)
            raise CheckFailed(
                f"{name} line {number + 1} says '{says}' where the ledger gives '{gives}'; "
                "write it again with: bench leaderboard --write"
            )
    raise CheckFailed(f"{name} differs in its line ends; write it: bench leaderboard --write")


def _first_difference(here: str, there: str) -> tuple[str, str]:
    """The first table cell, or else word, in which two lines differ."""
    separator = " | " if there.startswith("|") else " "
    ours, theirs = here.split(separator), there.split(separator)
    for a, b in zip(ours, theirs, strict=False):
        if a != b:
            return a.strip(), b.strip()
    return here.strip(), there.strip()


def _read(path: Path) -> str:
    if not path.exists():
        raise CheckFailed(f"{path} is missing; write it: bench leaderboard --write")
    with path.open(encoding="utf-8", newline="", errors=ODD_BYTES) as stream:
        return stream.read()


def _rendered(store: Store, results: Results) -> dict[str, str]:
    """The text of every page rendered from the committed files, by path relative to the root."""
    boards = _boards(store, results, Scope())
    origins = {protocol.name for protocol in known_protocols() if protocol.expected}
    simulated = calibration_section(results.calibration, current(results.ledger))
    shown = [board for board in boards if board.protocol not in origins]
    pages = {PAGE: page(shown, simulated)}
    findings = findings_of(claims_of(origin_protocols()), results.ledger)
    if any(finding.ours is not None for finding in findings):
        pages[ORIGINS] = origins_page(findings)
    if _has_markers(store):
        text = _read(store.committed / FRONT)
        head, _, rest = text.partition(BEGIN)
        _, _, tail = rest.partition(END)
        pages[FRONT] = head + block(boards) + tail
    return pages


def _has_markers(store: Store) -> bool:
    path = store.committed / FRONT
    if not path.exists():
        return False
    text = path.read_text(encoding="utf-8", errors=ODD_BYTES)
    return 0 <= text.find(BEGIN) < text.find(END)


def _no_markers(store: Store) -> str:
    return f"{store.root / FRONT} has no lines {BEGIN} and {END}: the table is in {PAGE} only"


def _boards(store: Store, results: Results, scope: Scope) -> list[Board]:
    """The sections within `scope`: known data sets first, then by name."""
    fingerprint = scope.protocol.fingerprint if scope.protocol else ""
    rows = current(results.ledger, fingerprint)
    table = ranked(rows, results)
    held = shown_champions(champions(store.registry))
    everything = _by_board(results.ledger)
    boards = []
    for name, group in _by_board(rows).items():
        if not scope.holds(group[0]):
            continue
        same = _cells_of(table, name)
        superseded = len(everything[name]) - len(group)
        found = (figure.stored(store, group, same) for figure in _FIGURES)
        pictures = tuple(picture for picture in found if picture is not None)
        boards.append(Board(same, superseded, pictures, held))
    return boards


def _cells_of(table: Sequence[TableCell], name: tuple[str, str]) -> list[TableCell]:
    """The cells of a board, given by data set and protocol."""
    return [cell for cell in table if (cell.board.dataset, cell.board.protocol) == name]


def _by_board(rows: Ledger) -> dict[tuple[str, str], list[LedgerRow]]:
    """Rows by data set and protocol, sorted by these."""
    groups: dict[tuple[str, str], list[LedgerRow]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.protocol), []).append(row)
    return dict(sorted(groups.items()))


class _Point(NamedTuple):
    """The arguments of `bench.figures.Point`; checking a figure's numbers draws nothing."""

    model: str
    code_size: int
    scores: tuple[float, ...]
    variant: str


class _Standing(NamedTuple):
    """The arguments of `bench.figures.Standing`."""

    row: str
    table: str
    low: int
    high: int
    place: int


@dataclass(frozen=True)
class _BoardFigure:
    """A figure of a board: its title, its file's last part, and the numbers that it shows."""

    title: str
    name: str
    numbers: Callable[[Ledger, Sequence[TableCell]], Sequence[_Point] | Sequence[_Standing]]

    def file(self, rows: Ledger) -> str:
        """Its file, relative to registry/."""
        return f"{rows[0].dataset}/{rows[0].protocol}.{self.name}.png"

    def stored(self, store: Store, rows: Ledger, cells: Sequence[TableCell]) -> Picture | None:
        """The stored figure, with its SHA-256 and the digest of the numbers that it was drawn
        from; None if it was never drawn."""
        path = child(store.registry, self.file(rows))
        numbers = self.numbers(rows, cells)
        if not numbers or not path.exists():
            return None
        drawn_from = digest({"points": [_flat(number) for number in numbers]})
        source = f"{self.file(rows)} {sha256_of_file(path)[:16]} drawn from {drawn_from}"
        return Picture(self.title, self.file(rows), source)


def _flat(numbers: _Point | _Standing) -> list[object]:
    if isinstance(numbers, _Point):
        return [numbers.model, numbers.code_size, *numbers.scores]
    return list(numbers)


def _points(rows: Ledger, _: Sequence[TableCell]) -> list[_Point]:
    """The test scores of every cell by code size in real numbers.

    Leaves out over-complete codes, which compress nothing, and bits, which need another axis.
    """
    points = []
    for competition in competitions(rows):
        if not competition.track.on_size_axis:
            continue
        for group in competition.cells.values():
            found = (row.selected("test") for row in group)
            scores = tuple(score for score in found if score is not None)
            if scores:
                size = competition.track.size
                points.append(_Point(cell_name(group[0]), size, scores, group[0].model))
    return points if len({point.code_size for point in points}) > 1 else []


def _standings(_: Ledger, cells: Sequence[TableCell]) -> list[_Standing]:
    """The ranges of ranks of a board with a table of more than two ranked rows."""
    places: Counter[str] = Counter()
    found = []
    for cell in cells:
        if cell.ranks is not None and cell.in_protocol:
            places[cell.title] += 1
            found.append(
                _Standing(cell.row, cell.track.heading, *cell.ranks, place=places[cell.title])
            )
    return found if max(places.values(), default=0) > 2 else []


_FIGURES = (
    _BoardFigure("Score against code size", "rate_distortion", _points),
    _BoardFigure("Ranges of ranks", "ranks", _standings),
)


def _redraw(store: Store, results: Results) -> list[str]:
    """Draw the figures whose numbers changed. Other versions of matplotlib draw different bytes
    from the same numbers, so figures with unchanged numbers are kept."""
    from bench.figures import drawn

    known = store.committed / PAGE
    text = known.read_text(encoding="utf-8", errors=ODD_BYTES) if known.exists() else ""
    rows_shown = current(results.ledger)
    table = ranked(rows_shown, results)
    changed = []
    for name, rows in _by_board(rows_shown).items():
        cells = _cells_of(table, name)
        for figure in _FIGURES:
            numbers = figure.numbers(rows, cells)
            picture = figure.stored(store, rows, cells)
            is_drawn = picture is not None and picture_markdown(picture) in text
            if not numbers or is_drawn or not rows[0].ranked:
                continue
            file = figure.file(rows)
            content = drawn(file, partial(_png, figure.name, numbers, rows))
            path = child(store.registry, file)
            if content is None:
                path.unlink(missing_ok=True)  # of earlier numbers
                continue
            write_atomically(path, content)
            changed.append(f"registry/{file}")
    return changed


def _png(name: str, numbers: Sequence[tuple[Any, ...]], rows: Ledger) -> bytes:
    from bench.figures import Point, Standing, rank_ranges, rate_distortion, to_png

    first = rows[0]
    about = f"{first.dataset} · {first.protocol}"
    if name == "ranks":
        return to_png(rank_ranges([Standing(*each) for each in numbers], f"{about} · validation"))
    seeds = len({row.seed for row in rows})
    about += f" · test images · up to {seeds} seed{'s' * (seeds > 1)}"
    return to_png(
        rate_distortion([Point(*each) for each in numbers], first.selection_metric, about)
    )
