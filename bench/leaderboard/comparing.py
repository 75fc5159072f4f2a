"""Is one row better than another, by how much, at what cost? The section of `bench compare`."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bench.core.track import Track
from bench.core.view import Section, Table, table_of
from bench.leaderboard.cells import TableCell
from bench.leaderboard.statistics import ALPHA, Interval
from bench.leaderboard.wording import (
    DASH,
    margin,
    millions,
    ranks,
    score,
    seconds,
    seeds,
    share_text,
    shown_score,
    title,
    whole,
)
from bench.metrics import METRICS, short_title


@dataclass(frozen=True)
class Contrast:
    """Two rows of one track, on validation. `difference`: the level of `first` minus that of
    `second` in the unit of comparisons (`metrics.units`), below 0 where `first` is better, with its
    95 % interval; `share`: in which share of draws of other seeds and images `first` is better;
    `p_holm`: the p-value after Holm's correction over the pairs of the table."""

    first: TableCell
    second: TableCell
    difference: Interval
    share: float
    p_holm: float

    @property
    def better(self) -> TableCell | None:
        """The row that is significantly better; None for a tie."""
        if self.p_holm >= ALPHA:
            return None
        return self.first if self.difference.mean < 0 else self.second

    def percent(self) -> tuple[float, float, float]:
        """The difference, and the ends of its interval: by how many per cent the error of `first`
        is above that of `second` (below 0: lower); for a metric in dB, by how many dB."""
        ends = (self.difference.mean, self.difference.low, self.difference.high)
        if _is_relative(self.first.selection_metric):
            mean, low, high = (100 * math.expm1(value) for value in ends)
        else:
            mean, low, high = ends
        return mean, low, high


@dataclass(frozen=True)
class SideBySide:
    """The rows of one track that were asked for, in that order, and every pair of them."""

    cells: tuple[TableCell, ...]
    contrasts: tuple[Contrast, ...]

    @property
    def track(self) -> Track:
        """The track that they share."""
        return self.cells[0].track


def _is_relative(metric: str) -> bool:
    return METRICS[metric].transform != "identity"


def verdict(found: Contrast) -> str:
    """`Yes: cnn_ae is better than fc_ae. ...`: the answer in words, for the first row."""
    first, second = found.first.row, found.second.row
    if found.better is None:
        answer = f"Not shown: the difference between {first} and {second} may be chance."
    elif found.better is found.first:
        answer = f"Yes: {first} is better than {second}."
    else:
        answer = f"No: {first} is worse than {second}."
    return f"{answer} {_how_much(found)}"


def _how_much(found: Contrast) -> str:
    metric = found.first.selection_metric
    mean, low, high = found.percent()
    unit = "%" if _is_relative(metric) else METRICS[metric].unit
    # The sentence says by how much, the word in which direction.
    sign = -1 if mean < 0 else 1
    ends = sorted((sign * low, sign * high))
    word = "higher" if (mean < 0) == _is_rising(metric) else "lower"
    return (
        f"Its validation {_quantity(metric)} is {abs(mean):.1f} {unit} {word} (95 % interval of "
        f"this pair alone {ends[0]:.1f} to {ends[1]:.1f} {unit}), and it is better in "
        f"{share_text(found.share)} of draws of other seeds and images ({_p_text(found.p_holm)} "
        "after Holm's correction for all pairs of the table)."
    )


def _is_rising(metric: str) -> bool:
    """Whether a better row has a higher value in the unit in which differences are said."""
    return METRICS[metric].higher_is_better and not _is_relative(metric)


def _quantity(metric: str) -> str:
    """What a difference is one of: a metric, or the error of one that is a share of 1."""
    if METRICS[metric].transform == "log_one_minus":
        return f"error (1 - {title(metric)})"
    return short_title(metric).partition(" (")[0]


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


_BESIDE = 3
"""So many rows have room for a column each in 80 characters."""
_SCALES: Sequence[tuple[str, Callable[[TableCell], str]]] = (
    ("range of ranks", ranks),
    ("over PCA, test", margin),
    ("seeds", seeds),
)
_COSTS: Sequence[tuple[str, Callable[[TableCell], str]]] = (
    ("parameters", lambda cell: whole(cell.facts["parameters"])),
    ("multiply-adds", lambda cell: millions(cell.facts["multiply_adds"])),
    ("training time", lambda cell: seconds(cell.facts["train_seconds"])),
)


def sections(found: Sequence[SideBySide], machines: str, most: int = 2) -> Iterator[Section]:
    """One section per track with verdicts, scores and costs; for more than `most` tracks one table
    of all pairs instead. `machines`: where the training times were measured."""
    if len(found) > most:
        yield _overview(found)
        return
    for each in found:
        yield _section(each, machines)


def _title(each: SideBySide) -> str:
    first = each.cells[0]
    size = "" if first.track.classifies else f", {first.track.heading.lower()}"
    names = [cell.row for cell in each.cells]
    asked = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 2 else " or ".join(names)
    return f"{asked}? {first.board.protocol} on {first.board.dataset}{size}"


def _section(each: SideBySide, machines: str) -> Section:
    first = each.cells[0]
    answers = (verdict(pair) for pair in each.contrasts if pair.first is first)
    table = _columns_by_row(each.cells) if len(each.cells) <= _BESIDE else _lines(each.cells)
    note = f"training time: of one run, median over seeds, {machines}"
    return Section(_title(each), tuple(answers), table=table, notes=(note,))


def _columns_by_row(cells: Sequence[TableCell]) -> Table:
    """A line for each measure, a column for each row of the leaderboard."""
    metric = cells[0].selection_metric
    lines: list[tuple[str, Callable[[TableCell], str]]] = [
        (f"{word} {short_title(name)}", partial(score, column=f"{part}_{name}", metric=name))
        for part, word, name in (
            ("val", "validation", metric),
            *(("test", "test", name) for name in dict.fromkeys((metric, "psnr", "ssim"))),
        )
    ]
    lines += [*_SCALES, *_COSTS]
    rows = [(text, *map(value, cells)) for text, value in lines]
    known = [row for row in rows if set(row[1:]) != {DASH}]
    return table_of(("", *(f">{cell.row}" for cell in cells)), known)


def _lines(cells: Sequence[TableCell]) -> Table:
    """A line for each row of the leaderboard, where they are too many for columns."""
    metric = cells[0].selection_metric
    header = ("ranks", "row", f"test {short_title(metric)}", "parameters", "multiply-adds", "time")
    return table_of(
        [name if name == "row" else f">{name}" for name in header],
        [
            (
                ranks(cell),
                cell.row,
                shown_score(cell.mean(f"test_{metric}"), metric),
                *(value(cell) for _, value in _COSTS),
            )
            for cell in cells
        ],
    )


def picture_title(each: SideBySide) -> tuple[str, str]:
    """Title and context of the picture of the images that the first two rows differ on."""
    first, second = each.cells[:2]
    board = first.board
    return (
        f"Where {first.row} and {second.row} differ most",
        f"{board.dataset} · {board.protocol} · {first.track.heading.lower()} · test images · "
        f"{short_title(first.selection_metric)}, mean over seeds",
    )


def _overview(found: Sequence[SideBySide]) -> Section:
    """One line per track and pair."""
    first = found[0].cells[0]
    unit = "%" if _is_relative(first.selection_metric) else METRICS[first.selection_metric].unit
    rows = []
    for each in found:
        for pair in each.contrasts:
            mean, low, high = (f"{value:+.1f}".replace("-", "−") for value in pair.percent())
            winner = "a tie" if pair.better is None else f"{pair.better.row} is better"
            rows.append(
                (
                    each.track.size_words,
                    f"{pair.first.row} : {pair.second.row}",
                    mean,
                    f"{low} to {high}",
                    share_text(pair.share),
                    winner,
                )
            )
    header = (">size", "rows", f">{unit}", ">95 % interval", ">share", "verdict")
    return Section(
        f"{first.board.protocol} on {first.board.dataset}: validation "
        f"{_quantity(first.selection_metric)} of the first row above that of the second",
        table=table_of(header, rows),
        notes=(
            "share: of draws of other seeds and images in which the first row is better",
            "costs of one size: add --latent-dim",
        ),
    )


def as_json(found: Sequence[SideBySide]) -> list[dict[str, object]]:
    """Each track with its rows (all columns of the table) and pairs; unknown numbers are NaN."""
    return [
        {
            "track": each.cells[0].title,
            "rows": [cell.columns() for cell in each.cells],
            "pairs": [_pair_json(pair) for pair in each.contrasts],
        }
        for each in found
    ]


def _pair_json(pair: Contrast) -> dict[str, object]:
    percent = dict(zip(("difference", "low", "high"), pair.percent(), strict=True))
    metric = pair.first.selection_metric
    return {
        "first": pair.first.row,
        "second": pair.second.row,
        "metric": metric,
        "unit": "percent of the error" if _is_relative(metric) else METRICS[metric].unit,
        **percent,
        "share_first_better": pair.share,
        "p_holm": pair.p_holm,
        "better": pair.better.row if pair.better else None,
    }
