"""From ledger rows to a ranked table: averages over seeds, ranks on validation, badges.

| column of the result        | meaning                                                       |
|-----------------------------|---------------------------------------------------------------|
| BOARD, CELL, track, row,    | the cell; `title` is the name of its track in commands        |
| title, configuration, ...   |                                                               |
| rank                        | 1 + rows that are significantly better; 0: not ranked         |
| why_unranked                | the reason if there is no rank                                |
| started, finished, diverged | number of runs                                                |
| val_METRIC, test_METRIC     | mean over seeds; with `_std`: standard deviation over seeds   |
| low, high, test_low,        | 95 % interval of the selection metric over seeds and images,  |
| test_high                   | on validation and on test                                     |
| margin                      | how much lower the test MSE is than PCA's, in %               |
| badges                      | notable properties of the cell, separated by "; "             |
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from bench.core.recipes import BEST_OF
from bench.core.track import Track
from bench.leaderboard.ledger import BOARD, CELL, FACTS, SIGNS, Row, rows_in
from bench.leaderboard.significance import (
    Competition,
    Significance,
    cell_name,
    competitions,
    why_unranked,
)
from bench.leaderboard.statistics import ALPHA, holm

COLLAPSED_SHARE = 0.1
CONSTANT_SHARE = 0.01
CONSTANT_FLOOR = 1e-4
NOT_COMPARED = "not compared yet"
_AGREED = (*BOARD, "selection_metric", "track", *CELL, "configuration", "closed_form", "code_size")

TableRow = dict[str, object]


def rank_table(
    rows: pd.DataFrame, known: Significance, higher_is_better: Mapping[str, bool]
) -> pd.DataFrame:
    """One row per cell, for the ledger rows returned by `ledger.current`, in the tables' order.

    A competition is shown without ranks if `known` was not computed from it. `higher_is_better`
    gives the direction of a selection metric.
    """
    table: list[TableRow] = []
    for competition in competitions(rows):
        cells = [_aggregate(competition, group) for group in competition.cells.values()]
        _add_margins(cells)
        _add_badges(cells)
        higher = higher_is_better[competition.first["selection_metric"]]
        _add_ranks(cells, competition, known, higher)
        table += sorted(cells, key=lambda cell: _order(cell, higher))
    return pd.DataFrame(table)


def _order(cell: TableRow, higher: bool) -> tuple[bool, float, bool, float, str]:
    """Ranked rows first, by rank and then by validation score; the rest by score."""
    rank, score = _float(cell["rank"]), _float(cell.get(f"val_{cell['selection_metric']}"))
    sign = -1.0 if higher else 1.0
    unknown = math.isnan(score)
    return rank == 0, rank, unknown, 0.0 if unknown else sign * score, str(cell["row"])


def _aggregate(competition: Competition, rows: list[dict[str, str]]) -> TableRow:
    """Averages over the finished runs of a cell; medians for the costs of training."""
    first = rows[0]
    finished = [row for row in rows if row["status"] == "finished"]
    cell: TableRow = {key: first[key] for key in _AGREED}
    cell |= {
        "row": cell_name(first),
        "title": competition.title,
        "rows_digest": competition.digest,
        "why_unranked": why_unranked(rows),
        "started": len(rows),
        "finished": len(finished),
        "diverged": sum(row["status"] == "diverged" for row in rows),
        "seeds": ",".join(row["seed"] for row in rows),
    }
    for key in (*FACTS, *SIGNS):
        middle = np.median if key in ("train_seconds", "images_per_second") else np.mean
        values = _values(finished, key)
        cell[key] = float(middle(values)) if len(values) else math.nan
    for key in (name for name in first if name.startswith(("val_", "test_"))):
        values = _values(finished, key)
        cell[key] = float(values.mean()) if len(values) else math.nan
        cell[f"{key}_std"] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return cell


def _values(rows: Iterable[Row], key: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([float(row[key]) for row in rows if row.get(key)], dtype=np.float64)


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _add_margins(cells: list[TableRow]) -> None:
    """(PCA's test MSE - the cell's) / PCA's, in %: positive is better than PCA."""
    reference = [cell for cell in cells if cell["model"] == "pca" and cell["recipe"] == "default"]
    # PCA at its native size is the same network as PCA with that latent size.
    pca = _float(reference[0].get("test_mse")) if reference else math.nan
    for cell in cells:
        mse = _float(cell.get("test_mse"))
        cell["margin"] = 100 * (pca - mse) / pca if pca > 0 else math.nan


def _add_badges(cells: list[TableRow]) -> None:
    spreads = [_float(cell["output_std"]) for cell in cells]
    widest = max((spread for spread in spreads if not math.isnan(spread)), default=0.0)
    for cell in cells:
        cell["badges"] = "; ".join(_badges(cell, widest))


def _badges(cell: TableRow, widest: float) -> Iterable[str]:
    """Notable properties of a cell, mostly problems; comparisons with NaN are false, so unknown
    values give no badge."""
    if _float(cell["margin"]) < 0:
        yield "worse than PCA"
    code_size = int(str(cell["code_size"]) or 0)
    if code_size and _float(cell["active_units"]) < COLLAPSED_SHARE * code_size:
        yield "collapsed latent"
    if _float(cell["output_std"]) < max(CONSTANT_FLOOR, CONSTANT_SHARE * widest):
        yield "constant output"
    if (missing := _never_called(cell)) > 0:
        yield f"{missing:.2g} classes never predicted"
    if (dead := _float(cell["dead_codes"])) > 0:
        yield f"{dead:.3g} codes never used"
    if Track.parse(str(cell["track"])).overcomplete:
        yield "over-complete"
    if cell["diverged"]:
        yield f"{cell['diverged']} of {cell['started']} diverged"
    if (trials := _float(cell[BEST_OF])) > 0:
        yield f"best of {trials:.0f} trials"


def _never_called(cell: TableRow) -> float:
    """Classes that a classifier never predicts, mean over seeds; NaN for other cells."""
    track = Track.parse(str(cell["track"]))
    return (track.size if track.classifies else 0) - _float(cell["predicted_classes"])


def _add_ranks(
    cells: list[TableRow], competition: Competition, known: Significance, higher: bool
) -> None:
    """Fill in intervals and ranks, if the comparisons were computed from these rows."""
    holds = known.holds_for(competition)
    found = known.of(competition)
    ends = {
        (row["configuration"], row["part"]): (float(row["low"]), float(row["high"]))
        for row in rows_in(found.cells)
    }
    beaten = beaten_by(rows_in(found.pairs), higher)
    for cell in cells:
        key = str(cell["configuration"])
        cell["low"], cell["high"] = ends.get((key, "val"), (math.nan, math.nan))
        cell["test_low"], cell["test_high"] = ends.get((key, "test"), (math.nan, math.nan))
        if not cell["why_unranked"] and not holds:
            cell["why_unranked"] = NOT_COMPARED
        cell["rank"] = 0 if cell["why_unranked"] else 1 + beaten[key]


def beaten_by(pairs: Iterable[Row], higher_is_better: bool) -> Counter[str]:
    """How many rows are significantly better than each configuration.

    A rank is a claim about one row, so Holm's correction covers only the comparisons of that row;
    over all pairs of a long table, three seeds could never show a difference.
    """
    of_row: dict[str, list[tuple[float, bool]]] = {}
    for pair in pairs:
        first_is_better = (float(pair["difference"]) > 0) == higher_is_better
        p = float(pair["p"])
        of_row.setdefault(pair["configuration_a"], []).append((p, not first_is_better))
        of_row.setdefault(pair["configuration_b"], []).append((p, first_is_better))
    beaten: Counter[str] = Counter()
    for configuration, found in of_row.items():
        corrected = holm(np.array([p for p, _ in found]))
        beaten[configuration] = sum(
            worse for p, (_, worse) in zip(corrected.tolist(), found, strict=True) if p < ALPHA
        )
    return beaten


def losing(pair: Row, higher_is_better: bool) -> str:
    """The configuration that a row of `comparisons.csv` shows to be worse, corrected over all
    pairs of the table; empty for a tie."""
    if float(pair["p_holm"]) >= ALPHA:
        return ""
    first_is_better = (float(pair["difference"]) > 0) == higher_is_better
    return pair["configuration_b" if first_is_better else "configuration_a"]


def is_better(found: Significance, first: str, second: str, higher_is_better: bool) -> bool:
    """Whether configuration `first` is significantly better than `second` (Holm, 5 %)."""
    return any(
        losing(row, higher_is_better) == second
        for row in rows_in(found.pairs)
        if {row["configuration_a"], row["configuration_b"]} == {first, second}
    )
