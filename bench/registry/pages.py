"""The pages of `registry/`: tables, figures, the web page and the README's block, rendered."""

from collections.abc import Sequence
from pathlib import Path

from bench.core.errors import CheckFailed
from bench.core.paths import regular
from bench.core.protocol import known_protocols, origin_protocols
from bench.core.store import Store, child, is_shipped, shipped, write_atomically
from bench.core.text import ODD_BYTES
from bench.core.view import picture_markdown
from bench.leaderboard.calibration import calibration_section
from bench.leaderboard.cells import TableCell
from bench.leaderboard.ledger import Ledger, LedgerRow, current, score_columns
from bench.leaderboard.origins import claims_of, findings_of, origins_page
from bench.leaderboard.ranking import further_tables, rank_table
from bench.leaderboard.render import BEGIN, END, Board, block, page
from bench.metrics import METRICS
from bench.registry.board_figures import board_figures
from bench.registry.champions import champions, shown_champions
from bench.registry.changes import FRONT, changing, one_writer, unchanged
from bench.registry.confirmations import confirmed, read_confirmations
from bench.registry.exhibits import index_page
from bench.registry.installation import renew_texts
from bench.registry.results import Results, Scope, read_results, write_changed

PAGE, ORIGINS, INDEX = "registry/README.md", "registry/origins.md", "registry/index.html"


def ranked(rows: Ledger, results: Results) -> list[TableCell]:
    """The ranked table of comparable ledger rows."""
    directions = {
        metric: metric in METRICS and METRICS[metric].higher_is_better
        for metric in {row.selection_metric for row in rows}
    }
    return rank_table(rows, results.known, directions, score_columns(results.ledger))


def write_pages(store: Store, results: Results) -> list[str]:
    """Render figures, the texts of cards, registry/README.md and the README's block; returns the
    files written."""
    changed = [*_redraw(store, results), *renew_texts(store.registry)]
    files = {name: text.encode(errors=ODD_BYTES) for name, text in rendered(store, results).items()}
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
    boards = without_origins(boards_of(store, results, Scope()))
    return index_page(store.registry, boards, results, link)


def read_page(path: Path) -> str:
    """A page as it is on disk; CheckFailed if it is missing."""
    if not regular(path).exists():
        raise CheckFailed(f"{path} is missing; write it: bench leaderboard --write")
    with path.open(encoding="utf-8", newline="", errors=ODD_BYTES) as stream:
        return stream.read()


def rendered(store: Store, results: Results) -> dict[str, str]:
    """The text of every page rendered from the committed files, by path relative to the root."""
    boards = boards_of(store, results, Scope())
    shown = without_origins(boards)
    simulated = calibration_section(results.calibration, current(results.ledger))
    pages = {PAGE: page(shown, simulated), INDEX: index_page(store.registry, shown, results)}
    findings = findings_of(claims_of(origin_protocols()), results.ledger)
    if any(finding.ours is not None for finding in findings):
        pages[ORIGINS] = origins_page(findings)
    if has_markers(store):
        text = read_page(store.committed / FRONT)
        head, _, rest = text.partition(BEGIN)
        _, _, tail = rest.partition(END)
        pages[FRONT] = head + block(boards) + tail
    return pages


def without_origins(boards: Sequence[Board]) -> list[Board]:
    """Those whose protocol is not an origin's own, whose rows stand in origins.md."""
    origins = {protocol.name for protocol in known_protocols() if protocol.expected}
    return [board for board in boards if board.protocol not in origins]


def has_markers(store: Store) -> bool:
    """Whether the README has the lines that the table stands between."""
    path = store.committed / FRONT
    if not regular(path).exists():
        return False
    text = path.read_text(encoding="utf-8", errors=ODD_BYTES)
    return 0 <= text.find(BEGIN) < text.find(END)


def no_markers(store: Store) -> str:
    """What to say where it has not."""
    return f"{store.root / FRONT} has no lines {BEGIN} and {END}: the table is in {PAGE} only"


def boards_of(store: Store, results: Results, scope: Scope) -> list[Board]:
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
    known = store.committed / PAGE
    text = known.read_text(encoding="utf-8", errors=ODD_BYTES) if regular(known).exists() else ""
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
            from bench.figures import drawn  # imports matplotlib: only where something is drawn

            file = figure.file
            content = drawn(file, figure.draw)
            path = child(store.registry, file)
            if content is None:
                path.unlink(missing_ok=True)  # of earlier numbers
                continue
            write_atomically(path, content)
            changed.append(f"registry/{file}")
    return changed
