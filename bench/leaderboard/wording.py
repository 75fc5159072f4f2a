"""Formats the cells of the tables."""

import math
from collections.abc import Callable, Iterator, Sequence

from bench.leaderboard.badges import WORSE_THAN_PCA
from bench.leaderboard.cells import TableCell
from bench.metrics import BYTES, METRICS, short_title, within

DASH = "–"
MAY_BE_BEST = "may be the best"
OUTSIDE = "not of the protocol"


def title(metric: str) -> str:
    """A metric's name within a sentence."""
    return within(METRICS[metric].title) if metric in METRICS else metric


def test_title(metric: str) -> str:
    """`test MSE`: the column of a score on test; a cost is no score, so its title stands alone."""
    costs = metric in METRICS and METRICS[metric].task == "cost"
    return short_title(metric) if costs else f"test {short_title(metric)}"


def shown_score(value: float, metric: str) -> str:
    """A score with the number of decimals of its metric; a dash for NaN."""
    decimals = METRICS[metric].decimals if metric in METRICS else 4
    if math.isnan(value):
        return DASH
    if metric in METRICS and METRICS[metric].unit == BYTES:
        return _bytes(value)
    return f"{value:.{decimals}f}" if decimals else f"{value:,.0f}"


def _bytes(value: float) -> str:
    """`3,136 B`, `889.5 kB`, `2.72 MB`."""
    if value < 1e4:
        return f"{value:,.0f} B"
    return f"{value / 1e3:,.1f} kB" if value < 1e6 else f"{value / 1e6:,.2f} MB"


def score(cell: TableCell, column: str, metric: str) -> str:
    """Mean ± standard deviation over seeds."""
    mean, spread = cell.mean(column), cell.deviations.get(column, math.nan)
    # A closed form has no spread, rather than a small one.
    return with_spread(mean, None if cell.closed_form else spread, metric)


def with_spread(mean: float, spread: float | None, metric: str) -> str:
    """`0.0142 ± 0.0001`; without ± where a spread is not known or exactly 0, as of bytes."""
    if not spread or math.isnan(spread):
        return shown_score(mean, metric)
    return f"{shown_score(mean, metric)} ± {shown_score(spread, metric)}"


def interval(cell: TableCell, metric: str) -> str:
    """The 95 % interval on validation; a dash where nothing varies, as of one value of all images
    by a closed form."""
    low, high = cell.interval
    if math.isnan(low) or low == high:
        return DASH
    return f"{shown_score(low, metric)} to {shown_score(high, metric)}"


def ranks(cell: TableCell) -> str:
    """The range of ranks of a row."""
    return ranks_text(cell.ranks)


def ranks_text(found: tuple[int, int] | None) -> str:
    """`3`, `1 to 4`, or a dash."""
    if found is None:
        return DASH
    low, high = found
    return str(low) if low == high else f"{low} to {high}"


def rank_words(found: tuple[int, int] | None) -> str:
    """`rank 3`, `ranks 1 to 4`: a range of ranks within a sentence."""
    single = found is not None and found[0] == found[1]
    return f"{'rank' if single else 'ranks'} {ranks_text(found)}"


def or_others(rows: Sequence[str], mark: Callable[[str], str]) -> str:
    """``a``, ``a` or `b``, ``a` (or one of 5 others)`: the row to use, and how many others may be
    the best as well; `mark` sets a row's name off."""
    first, *others = rows
    if len(others) > 1:
        return f"{mark(first)} (or one of {len(others)} others)"
    return " or ".join(map(mark, rows))


def best_share(cell: TableCell) -> str:
    """In what share of draws the row is the best."""
    return share_text(None if math.isnan(cell.best_share) else cell.best_share)


def share_text(share: float | None) -> str:
    """`41 %`, `< 1 %`, `> 99 %`, or a dash."""
    if share is None:
        return DASH
    if 0 < share < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def seeds(cell: TableCell) -> str:
    """How many seeds the means are over."""
    return "solved" if cell.closed_form else str(cell.finished)


def margin(cell: TableCell) -> str:
    """The margin over PCA, in %, with its sign."""
    if math.isnan(cell.margin) or cell.is_pca:
        return DASH
    return f"{cell.margin:+.1f} %".replace("-", "−")


def active(cell: TableCell) -> str:
    """`2 of 8`: how many numbers of a real code vary over images, mean over seeds, of how many; a
    dash without such a code."""
    units = cell.facts["active_units"]
    if cell.track.kind not in ("real", "overcomplete") or math.isnan(units):
        return DASH
    return f"{units:,.1f} of {cell.code_size:,}".replace(".0 ", " ")


def settings(cell: TableCell) -> str:
    """`beta = 4`: the variant's own hyperparameters; empty if it has none."""
    pairs = (pair.partition("=") for pair in cell.hyperparameters.split(", ") if pair)
    return ", ".join(f"{name} = {_short(value)}" for name, _, value in pairs)


def _short(value: str) -> str:
    """A number with four digits (a study draws many more); words as they are."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def notes(cell: TableCell, ranked: bool = True) -> str:
    """Hyperparameters, badges, why there is no margin over PCA, and why a row has no rank (where
    rows are `ranked`)."""
    why = f"not ranked: {cell.why_unranked}" if cell.why_unranked and ranked else ""
    best = MAY_BE_BEST if cell.may_be_best else ""
    outside = OUTSIDE if cell.ranks is not None and not cell.in_protocol else ""
    further = cell.selection_metric in METRICS and METRICS[cell.selection_metric].further
    margin_note = "" if further or not ranked else _why_no_margin(cell)
    found = [best, settings(cell), outside, *cell.badges, margin_note, why]
    return "; ".join(filter(None, found))


def _why_no_margin(cell: TableCell) -> str:
    """Why a scored autoencoder has no margin over PCA; empty if it has one."""
    scored = not math.isnan(cell.mean("test_mse"))
    if cell.is_pca or cell.track.classifies or not scored or not math.isnan(cell.margin):
        return ""
    if cell.track.kind == "bits":
        return "no PCA: a discrete code"
    if cell.track.overcomplete:
        return "no PCA: not a bottleneck"
    if cell.track.size > (most := cell.facts["train_images"] - 1):
        return f"no PCA: at most {most:,.0f} components from so few images"
    return "no PCA run at this code size"


def remarks(cells: Sequence[TableCell], ranked: bool = True) -> Iterator[str]:
    """`seeds differ by more than 3 %: fc_ae (8, 32), deep_ae (32)`, one line for each remark; why
    rows have no rank where rows are `ranked`."""
    found: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        why = [f"not ranked: {cell.why_unranked}"] if cell.why_unranked and ranked else []
        # The column "over PCA" says the first badge already.
        for remark in [*(badge for badge in cell.badges if badge != WORSE_THAN_PCA), *why]:
            size = cell.track.size_words
            found.setdefault(remark, {}).setdefault(cell.row, []).append(size)
    for remark, rows in found.items():
        named = (f"{row} ({', '.join(dict.fromkeys(sizes))})" for row, sizes in rows.items())
        yield f"{remark}: {', '.join(named)}"


def whole(value: float) -> str:
    """Thousands apart."""
    return DASH if math.isnan(value) else f"{value:,.0f}"


def millions(value: float) -> str:
    """Multiply-adds in millions."""
    return DASH if math.isnan(value) else f"{value / 1e6:.2f} M"


def seconds(value: float) -> str:
    """A training time."""
    if math.isnan(value):
        return DASH
    if value < 0.1:
        return "< 0.1 s"
    return f"{value:.1f} s" if value < 60 else f"{value / 60:.1f} min"
