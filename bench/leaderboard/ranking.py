"""From ledger rows to a ranked table: averages over seeds, margins, ranges of ranks, the order."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bench.core.tasks import FURTHER_TASKS, FurtherTask
from bench.core.track import Track
from bench.leaderboard.badges import badges, task_badges
from bench.leaderboard.cells import UNKNOWN, TableCell
from bench.leaderboard.competitions import (
    Competition,
    cell_name,
    competitions,
    task_competitions,
    why_unranked,
)
from bench.leaderboard.ledger import FACTS, SIGNS, Ledger
from bench.leaderboard.seeds import is_wide
from bench.leaderboard.significance import Significance
from bench.leaderboard.spread import seed_spread
from bench.metrics import METRICS, metrics_of

NOT_COMPARED = "not compared yet"
NO_VALUE = "no value of the metric that ranks"
NO_CODE_TO_MEASURE = "it has no code"


def rank_table(
    rows: Ledger,
    known: Significance,
    higher_is_better: Mapping[str, bool],
    columns: Sequence[str],
) -> list[TableCell]:
    """One row per cell, for the ledger rows returned by `ledger.current`, in the tables' order.

    A competition is shown without ranks if `known` was not computed from it. `higher_is_better`
    gives the direction of a selection metric; `columns` are the scores that every cell gets.
    """
    table: list[TableCell] = []
    for competition in competitions(rows):
        cells = [_aggregate(competition, group, columns) for group in competition.cells.values()]
        higher = higher_is_better[competition.first.selection_metric]
        cells = _with_ranks(_with_badges(_with_margins(cells)), competition, known)
        table += sorted(cells, key=lambda cell: _order(cell, higher))
    return table


def further_tables(
    rows: Ledger, table: Sequence[TableCell], known: Significance
) -> dict[str, list[TableCell]]:
    """The same rows by further task, for each task that they were measured by.

    `rows` and `table` are what `rank_table` takes and gives. A cell has the headline metric of the
    task as its selection metric, with intervals and ranks by it, and the badges of the task. A cell
    without a value of it has no rank. A task without a headline keeps the order of `table`.
    """
    found: dict[str, list[TableCell]] = {}
    for task in FURTHER_TASKS.values():
        names = {f"{part}_{name}" for name in metrics_of(task.id) for part in ("val", "test")}
        measured = {cell.board for cell in table if any(cell.has(name) for name in names)}
        compared = {
            (each.first.board, each.track): each
            for each in task_competitions(rows)
            if each.task == task.id
        }
        for board in dict.fromkeys(cell.board for cell in table if cell.board in measured):
            tracks: dict[Track, list[TableCell]] = {}
            for cell in table:
                if cell.board == board:
                    tracks.setdefault(cell.track, []).append(cell)
            for track, cells in tracks.items():
                ordered = _of_task(task, cells, compared.get((board, track)), known)
                found.setdefault(task.id, []).extend(ordered)
    return found


def _of_task(
    task: FurtherTask,
    cells: Sequence[TableCell],
    competition: Competition | None,
    known: Significance,
) -> list[TableCell]:
    """The cells of one track, in the order of a further task."""
    compared = {} if competition is None else competition.cells
    bare = [
        dataclasses.replace(
            cell,
            selection_metric=task.headline,
            why_unranked=(
                why_unranked(compared[cell.configuration])
                if cell.configuration in compared
                else NO_VALUE
                if cell.code_size
                else NO_CODE_TO_MEASURE
            ),
            badges=tuple(task_badges(task.id, cell)),
            interval=UNKNOWN,
            test_interval=UNKNOWN,
            ranks=None,
            best_share=math.nan,
            first_in_halves=None,
        )
        for cell in cells
    ]
    if competition is None:
        return bare
    higher = METRICS[task.headline].higher_is_better
    return sorted(_with_ranks(bare, competition, known), key=lambda cell: _order(cell, higher))


def _order(cell: TableCell, higher: bool) -> tuple[bool, float, str]:
    """By mean validation score, best first; rows without one last."""
    score = cell.mean(f"val_{cell.selection_metric}")
    unknown = math.isnan(score)
    return unknown, 0.0 if unknown else -score if higher else score, cell.row


def _aggregate(competition: Competition, rows: Ledger, columns: Sequence[str]) -> TableCell:
    """Averages over the finished runs of a cell; medians for the costs of training."""
    first = rows[0]
    finished = [row for row in rows if row.status == "finished"]
    facts = {}
    for key in (*FACTS, *SIGNS):
        middle = np.median if key in ("train_seconds", "images_per_second") else np.mean
        values = np.array([row.facts[key] for row in finished if key in row.facts])
        facts[key] = float(middle(values)) if len(values) else math.nan
    scores = {
        column: np.array([row.scores[column] for row in finished if column in row.scores])
        for column in columns
    }
    return TableCell(
        board=first.board,
        selection_metric=first.selection_metric,
        track=competition.track,
        model=first.model,
        size_name=first.size_name,
        recipe=first.recipe,
        configuration=first.configuration,
        closed_form=first.closed_form,
        code_size=first.code_size,
        row=cell_name(first),
        title=competition.title,
        rows_digest=competition.digest,
        why_unranked=why_unranked(rows),
        started=len(rows),
        finished=len(finished),
        diverged=sum(row.status == "diverged" for row in rows),
        seeds=tuple(row.seed for row in rows),
        wide=is_wide(rows),
        facts=facts,
        means={key: float(each.mean()) if len(each) else math.nan for key, each in scores.items()},
        deviations={
            key: float(each.std(ddof=1)) if len(each) > 1 else math.nan
            for key, each in scores.items()
        },
        hyperparameters=next((row.hyperparameters for row in rows if row.hyperparameters), ""),
        seed_spread=math.nan if first.closed_form else _seed_spread(finished),
    )


def _seed_spread(finished: Ledger) -> float:
    scores = [score for row in finished if (score := row.selected("val")) is not None]
    return seed_spread(scores, finished[0].selection_metric) if scores else math.nan


def _with_margins(cells: Sequence[TableCell]) -> list[TableCell]:
    """(PCA's test MSE - the cell's) / PCA's, in %: positive is better than PCA."""
    # PCA at its native size is the same network as PCA with that latent size.
    pca = next((cell.mean("test_mse") for cell in cells if cell.is_pca), math.nan)
    if not pca > 0:
        return list(cells)
    return [
        dataclasses.replace(cell, margin=100 * (pca - cell.mean("test_mse")) / pca)
        for cell in cells
    ]


def _with_badges(cells: Sequence[TableCell]) -> list[TableCell]:
    spreads = [cell.facts["output_std"] for cell in cells]
    widest = max((spread for spread in spreads if not math.isnan(spread)), default=0.0)
    return [dataclasses.replace(cell, badges=tuple(badges(cell, widest))) for cell in cells]


def _with_ranks(
    cells: Sequence[TableCell], competition: Competition, known: Significance
) -> list[TableCell]:
    """Fill in intervals and ranks, if the comparisons were computed from these rows."""
    holds = known.holds_for(competition)
    found = known.of(competition)
    on_part = {(row.configuration, row.part): row for row in found.cells}
    ranges = ranges_of_ranks(found)
    named = {row.configuration for row in found.cells if row.in_protocol}
    ranked = []
    for cell in cells:
        why = cell.why_unranked or ("" if holds else NOT_COMPARED)
        validation = on_part.get((cell.configuration, "val"))
        test = on_part.get((cell.configuration, "test"))
        if validation is None or test is None:
            ranked.append(dataclasses.replace(cell, why_unranked=why))
            continue
        share = validation.best_share
        ranked.append(
            dataclasses.replace(
                cell,
                interval=(validation.low, validation.high),
                test_interval=(test.low, test.high),
                in_protocol=validation.in_protocol,
                best_share=math.nan if share is None else share,
                first_in_halves=validation.first_in_halves,
                why_unranked=why,
                ranks=None if why else ranges[cell.configuration],
                among=len(named | {cell.configuration}),
            )
        )
    return ranked


def ranges_of_ranks(found: Significance) -> dict[str, tuple[int, int]]:
    """The range of ranks of each compared configuration of a competition.

    [1 + rows that are significantly better, K - rows that are significantly worse], among the K
    rows that the protocol names and, for a row that it does not name, among these and itself.
    """
    compared = [row for row in found.cells if row.part == "val"]
    named = {row.configuration for row in compared if row.in_protocol}
    named = named or {row.configuration for row in compared}
    wins = Counter(pair.better for pair in found.pairs if pair.worse in named)
    losses = Counter(pair.worse for pair in found.pairs if pair.better in named)
    return {
        row.configuration: (
            1 + losses[row.configuration],
            len(named | {row.configuration}) - wins[row.configuration],
        )
        for row in compared
    }


def is_better(found: Significance, first: str, second: str) -> bool:
    """Whether configuration `first` is significantly better than `second`."""
    return any((pair.better, pair.worse) == (first, second) for pair in found.pairs)
