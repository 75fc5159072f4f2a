"""The tables as sections: registry/README.md, the README's block, and `bench leaderboard`.

Everything is rendered from the committed files alone, so equal files give equal bytes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.core.protocol import DEFAULT_PROTOCOL
from bench.core.tasks import FURTHER_TASKS
from bench.core.text import for_markdown
from bench.core.track import Track
from bench.core.view import Picture, Section, Table, markdown, table_of
from bench.data.table import DATASETS
from bench.leaderboard import published
from bench.leaderboard.cells import TableCell
from bench.leaderboard.rules import RULES
from bench.leaderboard.statistics import HALVES
from bench.leaderboard.task_boards import task_facts, task_table
from bench.leaderboard.wording import (
    active,
    best_share,
    interval,
    margin,
    millions,
    notes,
    or_others,
    ranks,
    remarks,
    score,
    seconds,
    seeds,
    shown_score,
    title,
    whole,
)
from bench.metrics import METRICS, short_title

BEGIN, END = "<!-- leaderboard:begin -->", "<!-- leaderboard:end -->"
_HEAD = """# Leaderboard

<!-- Written by `bench leaderboard --write` and `bench promote`; do not edit:
     `bench leaderboard --check` finds every change. -->

Which autoencoder reconstructs best the images that it has never seen, at the same code size and
under the same protocol? Tables of classifiers ask which names the classes of such images best. A
row averages several seeds, and the rows stand in the order of their mean validation score. The
range of ranks says what the comparisons leave open; the champion is bold.
How to read a row, and by which rules it came about, stands [below the tables](#how-to-read-a-row).
"""


@dataclass(frozen=True)
class Champion:
    """The champion of a track: the names of the champion's and the challenger's rows ("" for
    none), and the folder of its card, relative to registry/."""

    row: str
    challenger: str
    folder: str


@dataclass(frozen=True)
class Board:
    """The content of one section: the ranked cells of a protocol on a data set, how many ledger
    rows of earlier settings are hidden, its figures, the champions by track title, and how many
    runs on other machines or days confirmed rows of it; the same cells by further task, as
    `ranking.further_tables` orders them."""

    cells: Sequence[TableCell]
    superseded: int
    pictures: tuple[Picture, ...]
    champions: Mapping[str, Champion]
    confirmations: int = 0
    further: Mapping[str, Sequence[TableCell]] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The label of the data set."""
        return self.cells[0].board.dataset

    @property
    def protocol(self) -> str:
        """The name of the protocol."""
        return self.cells[0].board.protocol

    @property
    def metric(self) -> str:
        """The metric that ranks."""
        return self.cells[0].selection_metric

    @property
    def known(self) -> bool:
        """Whether the data set is one that everyone can get."""
        return self.dataset in DATASETS

    def tracks(self) -> dict[Track, list[TableCell]]:
        """The cells by track, in order."""
        return by_track(self.cells)

    def answers(self) -> dict[Track, list[TableCell]]:
        """By track the rows that may be the best, the champion first. Without tracks that rank no
        trained row: there PCA is the best for want of others."""
        found = {}
        for track, cells in self.tracks().items():
            champion = self.champions.get(cells[0].title)
            first = champion.row if champion else ""
            best = [cell for cell in cells if cell.may_be_best or cell.row == first]
            if ranks_trained(cells) and best:
                found[track] = sorted(best, key=lambda cell: cell.row != first)
        return found


def by_track(cells: Iterable[TableCell]) -> dict[Track, list[TableCell]]:
    """The cells of each track, in order."""
    found: dict[Track, list[TableCell]] = {}
    for cell in cells:
        found.setdefault(cell.track, []).append(cell)
    return found


def ranks_trained(cells: Iterable[TableCell]) -> bool:
    """Whether a trained row is ranked among these cells."""
    return any(cell.ranks and not cell.closed_form for cell in cells)


def page(boards: Sequence[Board], simulated: Iterable[Section] = ()) -> str:
    """The whole of registry/README.md; `simulated`: how often the rule is wrong."""
    parts = [_HEAD]
    if not boards:
        parts.append("No results yet: `bench run`, then `bench leaderboard --write`.\n")
    parts += [text for board in boards if board.known for text in _board_markdown(board)]
    own = [text for board in boards if not board.known for text in _board_markdown(board)]
    if own:
        parts.append(
            "# Own data sets\n\nImages that only their owner has: these tables stand alone.\n"
        )
    others = published.section(cell for board in boards for cell in board.cells)
    if others:
        parts.append(markdown(others) + "\n")
    return "\n".join([*parts, *own, RULES, *map(markdown, simulated)])


def _board_markdown(board: Board) -> Iterator[str]:
    for section in sections(board):
        yield markdown(section) + ("\n" if section.table else "")


def sections(board: Board) -> Iterator[Section]:
    """Title, facts and figure of a board, then one section per track with its table."""
    title = f"{for_markdown(board.protocol)} on {for_markdown(board.dataset)}"
    yield Section(title, (_facts(board),), board.pictures)
    for track, cells in board.tracks().items():
        champion = board.champions.get(cells[0].title)
        facts = [_champion_line(champion)] if champion else []
        facts += _stability(cells)
        table = full_table(cells, champion.row if champion else "")
        yield Section(track.heading, (" ".join(facts),) if facts else (), table=table, level=3)
    for task, found in board.further.items():
        for track, cells in by_track(found).items():
            heading = f"{FURTHER_TASKS[task].title}, {track.heading[0].lower()}{track.heading[1:]}"
            yield Section(
                heading, (task_facts(task, found),), table=task_table(task, cells), level=3
            )


def _stability(cells: Sequence[TableCell]) -> Iterator[str]:
    """How often the first row stays first on other images, where it has trained rivals."""
    for cell in cells if ranks_trained(cells) else ():
        if cell.first_in_halves is not None:
            yield (
                f"In {cell.first_in_halves} of {HALVES} random halves of the validation images "
                f"`{cell.row}` has the best mean, as on all of them."
            )


def _facts(board: Board) -> str:
    first = board.cells[0].board
    images = max(cell.facts["train_images"] for cell in board.cells)
    text = (
        f"{images:,.0f} training images; ranked by {title(board.metric)} on validation. "
        f"Fingerprint of the protocol `{first.protocol_fingerprint}`, of the data "
        f"`{first.data_digest[:16]}`, of the scores `{first.evaluation_digest}`."
    )
    if board.superseded:
        text += (
            f" {board.superseded} older rows of [results.csv](results.csv), made with earlier "
            "settings or revisions, are not shown and were not compared with these."
        )
    if board.confirmations:
        text += (
            f" Confirmed by {board.confirmations} run{'s' * (board.confirmations > 1)} "
            "([confirmations.csv](confirmations.csv)): a courtesy, not a proof."
        )
    return text


def _champion_line(champion: Champion) -> str:
    others = f"; challenger: {champion.challenger}" if champion.challenger else ""
    return f"Champion: **{champion.row}** ([card]({champion.folder}/card.md)){others}."


_FRONT = (("fashion_mnist", ("d16", "d64"), 5), (DEFAULT_PROTOCOL, (), 3))
"""The README's tables: protocol, tracks (none: all), how many rows beside the closed forms."""


def block(boards: Iterable[Board]) -> str:
    """The text between the README's markers: which variant to use, then the best rows and the
    baselines of the reference on full data, as far as there is one, and of the default protocol."""
    there = {board.protocol: board for board in boards if board.known}
    shown = [
        (there[protocol], tracks, best)
        for protocol, tracks, best in _FRONT
        if protocol in there and ranks_trained(there[protocol].cells)
    ]
    answers = tuple(line for board, tracks, _ in shown for line in _answers(board, tracks))
    parts = [markdown(Section(facts=answers))] if answers else []
    parts += [markdown(_front(*each)) for each in shown]
    return "\n".join([BEGIN, *(parts or ["No results yet: `make leaderboard`."]), END])


def _front(board: Board, tracks: Sequence[str], best: int) -> Section:
    """The `best` first rows of each of these tracks that ranks a trained one, and the closed forms
    below them."""
    metric = board.metric
    champions = {title: champion.row for title, champion in board.champions.items()}
    header = [">code size", ">ranks", "variant", f">validation {short_title(metric)}", ">best in"]
    header += [f">test {short_title(metric)}", ">over PCA", ">seeds", "notes"]
    rows = []
    for track, cells in board.tracks().items():
        if tracks and str(track) not in tracks:
            continue
        if not ranks_trained(cells):
            continue
        trained = [cell for cell in cells if not cell.closed_form]
        kept = {cell.row for cell in trained[:best]}
        rows += [
            [
                cell.track.size_words,
                ranks(cell),
                _named(cell, champions.get(cell.title, "")),
                score(cell, f"val_{metric}", metric),
                best_share(cell),
                score(cell, f"test_{metric}", metric),
                margin(cell),
                seeds(cell),
                notes(cell),
            ]
            for cell in cells
            if cell.closed_form or cell.row in kept
        ]
    images = max(cell.facts["train_images"] for cell in board.cells)
    return Section(
        facts=(
            f"Protocol `{board.protocol}` on `{board.dataset}`, {images:,.0f} training images: the "
            f"{best} best rows of each size, and those that are solved without training.",
        ),
        table=table_of(header, rows),
    )


def short_section(board: Board) -> Section:
    """A board as `bench leaderboard` shows it: the most important columns of all tracks."""
    return Section(
        f"{board.protocol} on {board.dataset}: ranked by validation {short_title(board.metric)}",
        table=short_table(board),
        notes=(TRAINING,),
    )


TRAINING = (
    "training: the time of one run, median over its seeds, on the machine that ran it (committed "
    "rows: not this one); what it takes here: bench run --dry-run"
)


def narrow_section(board: Board) -> Section:
    """A board in 80 characters: range of ranks, the mean score on validation that orders the rows,
    test score, margin over PCA and seeds; below it what is notable about single rows, by what it
    is."""
    metric, first = board.metric, board.cells[0]
    margins = not first.track.classifies
    champions = {title: champion.row for title, champion in board.champions.items()}
    header = [
        ">size" if margins else ">classes",
        ">ranks",
        "variant",
        f">val {short_title(metric)}",
        f">test {short_title(metric)}",
    ]
    header += [*([">over PCA"] if margins else []), ">seeds"]
    rows = [
        [
            cell.track.size_words,
            ranks(cell),
            cell.row + (" *" if champions.get(cell.title) == cell.row else ""),
            shown_score(cell.mean(f"val_{metric}"), metric),
            shown_score(cell.mean(f"test_{metric}"), metric),
            *([margin(cell)] if margins else []),
            seeds(cell),
        ]
        for cell in board.cells
    ]
    marks = ["* champion"] if any(row[2].endswith(" *") for row in rows) else []
    if any(cell.may_be_best for cell in board.cells):
        marks.append("ranks from 1 on: may be the best")
    return Section(
        f"{board.protocol} on {board.dataset}: ranked by validation {short_title(metric)}",
        table=table_of(header, rows),
        notes=(*marks, *remarks(board.cells)),
    )


def full_table(cells: Sequence[TableCell], champion: str = "") -> Table:
    """All columns, for the cells of one track; the row named `champion` is bold."""
    metric = cells[0].selection_metric
    shown = _metrics(cells)
    margins = not cells[0].track.classifies
    # Tables from before codes were sent with fewer bits stay as they are.
    bits = any(not math.isnan(cell.loss_at_8_bits) for cell in cells)
    header = [
        ">ranks",
        "variant",
        f">validation {short_title(metric)}",
        ">95 % interval",
        ">best in",
        *(f">test {short_title(name)}" for name in shown),
        *([">over PCA", ">active"] if margins else []),
        *([">bits"] if bits else []),
        ">seeds",
        ">started / finished / diverged",
        ">parameters",
        ">multiply-adds",
        ">training",
        "notes",
    ]
    rows = [
        [
            ranks(cell),
            _named(cell, champion),
            score(cell, f"val_{metric}", metric),
            interval(cell, metric),
            best_share(cell),
            *(score(cell, f"test_{name}", name) for name in shown),
            *([margin(cell), active(cell)] if margins else []),
            *([whole(cell.code_bits)] if bits else []),
            seeds(cell),
            f"{cell.started} / {cell.finished} / {cell.diverged}",
            whole(cell.facts["parameters"]),
            millions(cell.facts["multiply_adds"]),
            seconds(cell.facts["train_seconds"]),
            notes(cell),
        ]
        for cell in cells
    ]
    return table_of(header, rows)


def _named(cell: TableCell, champion: str) -> str:
    return f"**{cell.row}**" if cell.row == champion else cell.row


def short_table(board: Board) -> Table:
    """The most important columns, all tracks in one table; champions are bold."""
    cells, metric = board.cells, board.metric
    shown = [name for name in _metrics(cells) if name in _HEADLINES]
    shown = shown or _metrics(cells)[:2]
    margins = not cells[0].track.classifies
    champions = {title: champion.row for title, champion in board.champions.items()}
    header = [">code size" if margins else ">classes", ">ranks", "variant"]
    header += [f">validation {short_title(metric)}", ">best in"]
    header += [f">test {short_title(name)}" for name in shown]
    header += [
        *([">over PCA", ">active"] if margins else []),
        ">seeds",
        ">parameters",
        ">training",
        "notes",
    ]
    rows = [
        [
            cell.track.size_words,
            ranks(cell),
            _named(cell, champions.get(cell.title, "")),
            score(cell, f"val_{metric}", metric),
            best_share(cell),
            *(score(cell, f"test_{name}", name) for name in shown),
            *([margin(cell), active(cell)] if margins else []),
            seeds(cell),
            whole(cell.facts["parameters"]),
            seconds(cell.facts["train_seconds"]),
            notes(cell),
        ]
        for cell in cells
    ]
    return table_of(header, rows)


def _answers(board: Board, tracks: Sequence[str]) -> Iterator[str]:
    """Which variant to use at which size: the champions, with their margins over PCA and with how
    many others may be as good."""
    found = []
    for track, best in board.answers().items():
        champion = board.champions.get(best[0].title)
        if champion and champion.row == best[0].row and (not tracks or str(track) in tracks):
            named = or_others([cell.row for cell in best], "`{}`".format)
            found.append(f"at {track.size_words} numbers use {named}{_gain(best[0])}")
    if found:
        text = "; ".join(found)
        yield f"**On `{board.dataset}`, {text}.**"


def _gain(cell: TableCell) -> str:
    return f": {cell.margin:.0f} % less error than PCA" if cell.margin > 0 else ""


_HEADLINES = {"mse", "psnr", "ssim", "accuracy", "macro_f1", "calibration_error"}


def _metrics(cells: Sequence[TableCell]) -> list[str]:
    """The metrics that the cells were scored with, in the order of METRICS; without those of
    further tasks, which have boards."""
    scored = {
        column.removeprefix("test_")
        for cell in cells
        for column, value in cell.means.items()
        if column.startswith("test_") and not math.isnan(value)
    }
    scored -= {name for name in scored if name in METRICS and METRICS[name].further}
    known = [name for name in METRICS if name in scored]
    return known + sorted(scored - set(known))
