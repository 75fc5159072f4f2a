"""The pages of `registry/`: tables, figures and the README's block; writing and checking them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import known_protocols, origin_protocols
from bench.core.store import Store, child, is_shipped, shipped, write_atomically
from bench.core.text import ODD_BYTES
from bench.core.view import picture_markdown
from bench.leaderboard.calibration import calibration_section
from bench.leaderboard.ledger import Ledger, LedgerRow, current, score_columns
from bench.leaderboard.merging import Merge
from bench.leaderboard.origins import claims_of, findings_of, origins_page
from bench.leaderboard.ranking import TableCell, further_tables, rank_table
from bench.leaderboard.render import (
    BEGIN,
    END,
    Board,
    block,
    page,
)
from bench.metrics import METRICS
from bench.registry.admission import require_believable
from bench.registry.board_figures import board_figures
from bench.registry.card_checks import check_cards
from bench.registry.champions import champions, check_champions, shown_champions
from bench.registry.changes import FRONT, changing, one_writer, unchanged
from bench.registry.checking import check_results, check_settings
from bench.registry.confirmations import (
    CONFIRMATIONS,
    ConfirmationRow,
    agreement,
    check_confirmations,
    confirmed,
    encode_confirmations,
    read_confirmations,
)
from bench.registry.exhibits import index_page
from bench.registry.own import own_boards
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
from bench.registry.studies import check_studies, new_studies

PAGE, ORIGINS, INDEX = "registry/README.md", "registry/origins.md", "registry/index.html"
_QUOTED = 120
"""Characters of a page in a message; lines with pictures are long."""


@dataclass(frozen=True)
class TableUpdate:
    """The result of `look` or `write`: the tables, messages, the files written, and the tables
    committed with bench, if they are not those of the workspace itself; `own`, those of own models,
    which stand beside them; `newest`: data set and protocol of the last run in this workspace, if
    there is one."""

    boards: Sequence[Board]
    lines: Sequence[str]
    changed: Sequence[str] = ()
    committed: Sequence[Board] = ()
    own: Sequence[Board] = ()
    newest: tuple[str, str] | None = None


def ranked(rows: Ledger, results: Results) -> list[TableCell]:
    """The ranked table of comparable ledger rows."""
    directions = {
        metric: metric in METRICS and METRICS[metric].higher_is_better
        for metric in {row.selection_metric for row in rows}
    }
    return rank_table(rows, results.known, directions, score_columns(results.ledger))


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
        boards,
        lines,
        committed=_committed(store, scope),
        own=own_boards(store, scope),
        newest=_newest(_local(merged)),
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

    Raises CheckFailed for drift (unless `refresh`), for records that are not believed (`admission`)
    and for files changed by hand, BadInput if records are missing for a comparison; nothing is
    written then.
    """
    with one_writer(store):
        return _write(store, scope, refresh)


def _write(store: Store, scope: Scope, refresh: bool) -> TableUpdate:
    before = read_results(store.registry)
    merged = merge_local(store, before, scope, refresh)
    if not refresh:
        refuse_drift(merged.drifted)
    if is_shipped(store):
        check_settings(merged.ledger)
    notes = require_believable(store, before, merged.ledger)
    index, new = renewed(store.registry, before.scores, merged.ledger, local_source(store))
    results = computed(store, dataclasses.replace(before, scores=index), merged.ledger, new)
    new |= new_studies(store, merged.ledger)
    lines = [*reproduction(merged, before.ledger), *notes]
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
        if is_shipped(store):
            check_studies(staged.registry, results.ledger)
        changed += write_pages(staged, results)
    notices = [] if _has_markers(store) else [_no_markers(store)]
    boards = _boards(store, results, scope)
    return TableUpdate(boards, [*lines, *notices], changed, newest=_newest(_local(merged)))


def confirm(store: Store, scope: Scope) -> tuple[list[ConfirmationRow], list[str]]:
    """Add what this machine reproduced to the confirmations; returns the new rows and the files
    written. Raises as `agreement`, and BadInput if all of it was added before."""
    with one_writer(store):
        known = read_confirmations(store.registry)
        there = {row.key for row in known}
        new = [row for row in agreement(store, scope) if row.key not in there]
        if not new:
            raise BadInput(
                "this commit was confirmed today on this family of processors already; nothing "
                "was written"
            )
        results = read_results(store.registry)
        with changing(store) as staged:
            content = encode_confirmations([*known, *new])
            changed = write_changed(staged.committed, {f"registry/{CONFIRMATIONS}": content})
            changed += write_pages(staged, results)
    return new, changed


def write_pages(store: Store, results: Results) -> list[str]:
    """Render figures, registry/README.md and the README's block; returns the files written."""
    changed = _redraw(store, results)
    files = {
        name: text.encode(errors=ODD_BYTES) for name, text in _rendered(store, results).items()
    }
    return changed + write_changed(store.committed, files)


def write_index(store: Store) -> list[str]:
    """Render registry/index.html from the committed files; returns it if it changed."""
    with one_writer(store):
        results = read_results(store.registry)
        with changing(store) as staged:
            return write_changed(staged.committed, {INDEX: _index(staged, results).encode()})


def index_text(store: Store, link: str) -> str:
    """The page of the committed files, with a link to MLflow on this machine.

    Of a workspace without results: that of the results committed with bench.
    """
    with unchanged(store):
        results = read_results(store.registry)
        if results.ledger or is_shipped(store):
            return _index(store, results, link)
    ours = shipped()
    with unchanged(ours):
        return _index(ours, read_results(ours.registry), link)


def _index(store: Store, results: Results, link: str = "") -> str:
    boards = _without_origins(_boards(store, results, Scope()))
    return index_page(store.registry, boards, results, link)


def check(store: Store) -> list[str]:
    """Check everything in `registry/` and the README's block against the committed files alone.

    Returns what was checked; raises CheckFailed naming the file and the first line that differs.
    """
    with unchanged(store):
        return _check(store)


def _check(store: Store) -> list[str]:
    results, without = check_results(store.registry, shipped=is_shipped(store))
    count = check_champions(store.registry)
    table = ranked(current(results.ledger), results)
    check_confirmations(store.registry, results.ledger)
    if is_shipped(store):
        check_studies(store.registry, results.ledger)
    moved = check_cards(store.registry, results, table)
    for name, text in _rendered(store, results).items():
        _compare(name, _read(store.committed / name), text)
    # Without its markers the README's table would not be checked.
    if (store.committed / FRONT).exists() and not _has_markers(store):
        raise CheckFailed(_no_markers(store))
    lines = [f"{len(results.ledger)} rows, {count} champions and {PAGE} agree with each other"]
    if moved:
        lines.append(
            f"the cards of {', '.join(moved)} do not say the place that the table gives now; renew "
            "them: bench promote"
        )
    if without:
        lines.append(
            f"{without} ranked runs have no scores in registry/{FOLDER}/: comparisons with them "
            f"stand as they were computed; run them again, then: {REFRESH}"
        )
    return lines


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
                f"{name} line {number + 1} says '{says[:_QUOTED]}' where the ledger gives "
                f"'{gives[:_QUOTED]}'; "
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
    shown = _without_origins(boards)
    simulated = calibration_section(results.calibration, current(results.ledger))
    pages = {PAGE: page(shown, simulated), INDEX: index_page(store.registry, shown, results)}
    findings = findings_of(claims_of(origin_protocols()), results.ledger)
    if any(finding.ours is not None for finding in findings):
        pages[ORIGINS] = origins_page(findings)
    if _has_markers(store):
        text = _read(store.committed / FRONT)
        head, _, rest = text.partition(BEGIN)
        _, _, tail = rest.partition(END)
        pages[FRONT] = head + block(boards) + tail
    return pages


def _without_origins(boards: Sequence[Board]) -> list[Board]:
    """Those whose protocol is not an origin's own, whose rows stand in origins.md."""
    origins = {protocol.name for protocol in known_protocols() if protocol.expected}
    return [board for board in boards if board.protocol not in origins]


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
    further = further_tables(rows, table, results.known)
    held = shown_champions(champions(store.registry))
    everything = _by_board(results.ledger)
    confirmations = confirmed(read_confirmations(store.registry))
    boards = []
    for name, group in _by_board(rows).items():
        if not scope.holds(group[0]):
            continue
        same = _cells_of(table, name)
        superseded = len(everything[name]) - len(group)
        figures = board_figures(store.registry, group, same, results.scores)
        found = (figure.stored(store.registry) for figure in figures)
        pictures = tuple(picture for picture in found if picture is not None)
        runs = confirmations.get((*name, group[0].protocol_fingerprint), 0)
        tasks = {
            task: of_it for task, cells in further.items() if (of_it := _cells_of(cells, name))
        }
        boards.append(Board(same, superseded, pictures, held, runs, tasks))
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
        if not rows[0].ranked:
            continue
        for figure in board_figures(store.registry, rows, cells, results.scores):
            picture = figure.stored(store.registry)
            if picture is not None and picture_markdown(picture) in text:
                continue
            file = figure.file
            content = drawn(file, figure.draw)
            path = child(store.registry, file)
            if content is None:
                path.unlink(missing_ok=True)  # of earlier numbers
                continue
            write_atomically(path, content)
            changed.append(f"registry/{file}")
    return changed
