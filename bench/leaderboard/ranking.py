"""From ledger rows to a ranked table: averages over seeds, ranges of ranks, badges."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.core.recipes import BEST_OF, FEW_STEPS
from bench.core.spec import COPIED
from bench.core.tasks import FURTHER_TASKS, FurtherTask, is_reference
from bench.core.track import REAL_BITS, Track
from bench.leaderboard.csv_rows import cell_text
from bench.leaderboard.ledger import CODE_BITS, FACTS, SIGNS, BoardKey, Ledger
from bench.leaderboard.seeds import is_wide
from bench.leaderboard.significance import (
    Competition,
    Significance,
    cell_name,
    competitions,
    task_competitions,
    why_unranked,
)
from bench.leaderboard.spread import WIDE_SPREAD, WORTH_A_NOTE, loss_at_8_bits, seed_spread
from bench.metrics import METRICS, metrics_of

COLLAPSED_SHARE = 0.1
CONSTANT_SHARE = 0.01
CONSTANT_FLOOR = 1e-4
NOT_COMPARED = "not compared yet"
NO_VALUE = "no value of the metric that ranks"
NO_CODE_TO_MEASURE = "it has no code"
WORSE_THAN_PCA = "worse than PCA"

Ends = tuple[float, float]
UNKNOWN: Ends = (math.nan, math.nan)


@dataclass(frozen=True)
class TableCell:
    """One row of a shown table: a cell of the ledger, averaged over its finished runs.

    `row` is its name within its track, `title` the name of its track in commands. `started`,
    `finished` and `diverged` count runs. `wide`: at the most seeds of its protocol, its mean is not
    known as well as wanted. `facts` (medians of times, else means), `means` and
    `deviations` (standard deviations over seeds) are by column of the ledger; NaN: no run has it.
    `hyperparameters`: the variant's own, as in the ledger. `seed_spread`: by which share the
    highest error of its seeds on validation is above the lowest, as the selection metric has it.
    `margin`: how much lower the test MSE is than PCA's, in %. `interval`, `test_interval`: 95 %
    of the selection metric over seeds and images, on validation and on test. `ranks`: the lowest
    and the highest rank that the comparisons leave it, among `among` rows, None where
    `why_unranked` says why there are none. `in_protocol`: its protocol names it; ranks are among
    such rows, and another row has those that it would have among them. `best_share`: in which share
    of draws of seeds and images it has the lowest error; `first_in_halves`, of the first such row:
    in how many of HALVES random halves of the validation images it stays first.
    """

    board: BoardKey
    selection_metric: str
    track: Track
    model: str
    size_name: str
    recipe: str
    configuration: str
    closed_form: bool
    code_size: int | None
    row: str
    title: str
    rows_digest: str
    why_unranked: str
    started: int
    finished: int
    diverged: int
    seeds: tuple[int, ...]
    facts: Mapping[str, float]
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    hyperparameters: str = ""
    seed_spread: float = math.nan
    margin: float = math.nan
    wide: bool = False
    badges: tuple[str, ...] = ()
    interval: Ends = UNKNOWN
    test_interval: Ends = UNKNOWN
    in_protocol: bool = True
    ranks: tuple[int, int] | None = None
    best_share: float = math.nan
    first_in_halves: int | None = None
    among: int = 0

    def mean(self, column: str) -> float:
        """The mean score of a column such as `test_mse`; NaN: no run has it."""
        return self.means.get(column, math.nan)

    def has(self, column: str) -> bool:
        """Whether a run has the score of a column."""
        return not math.isnan(self.mean(column))

    @property
    def loss_at_8_bits(self) -> float:
        """By which share the error on validation rises at 8 bits per number of the code; NaN:
        unknown, or no code of real numbers."""
        return loss_at_8_bits(self.means, self.selection_metric)

    @property
    def code_bits(self) -> float:
        """Bits of the code as it is sent; NaN: unknown."""
        if not math.isnan(known := self.facts[CODE_BITS]):
            return known
        if self.track.kind == "real":
            return float(REAL_BITS * (self.code_size or 0))
        return float(self.track.size) if self.track.kind == "bits" else math.nan

    @property
    def is_pca(self) -> bool:
        """Whether it is the row that margins are over, if its track has one."""
        return is_reference(self.model) and self.recipe == "default"

    @property
    def may_be_best(self) -> bool:
        """Whether no row is significantly better."""
        return self.ranks is not None and self.ranks[0] == 1

    @property
    def badge_text(self) -> str:
        """Its badges in one line."""
        return "; ".join(self.badges)

    def columns(self) -> dict[str, str | int | float]:
        """Its values by column, for frames and JSON; unknown numbers are NaN."""
        scores = {
            name: value
            for column, mean in self.means.items()
            for name, value in ((column, mean), (f"{column}_std", self.deviations[column]))
        }
        return {
            **self.board._asdict(),
            "selection_metric": self.selection_metric,
            "track": str(self.track),
            "model": self.model,
            "latent_dim": self.size_name,
            "recipe": self.recipe,
            "hyperparameters": self.hyperparameters,
            "configuration": self.configuration,
            "closed_form": cell_text(self.closed_form),
            "code_size": cell_text(self.code_size),
            "row": self.row,
            "title": self.title,
            "rows_digest": self.rows_digest,
            "why_unranked": self.why_unranked,
            "started": self.started,
            "finished": self.finished,
            "diverged": self.diverged,
            "seeds": ",".join(map(str, self.seeds)),
            **self.facts,
            **scores,
            "seed_spread": self.seed_spread,
            "margin": self.margin,
            "badges": self.badge_text,
            **dict(zip(("low", "high"), self.interval, strict=True)),
            **dict(zip(("test_low", "test_high"), self.test_interval, strict=True)),
            **dict(zip(("rank_low", "rank_high"), self.ranks or UNKNOWN, strict=True)),
            "may_be_best": cell_text(self.may_be_best),
            "best_share": self.best_share,
            "first_in_halves": cell_text(self.first_in_halves),
            "in_protocol": cell_text(self.in_protocol),
        }


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


def task_badges(task: str, cell: TableCell) -> Iterator[str]:
    """The badges that a further task gives a row, by its means on validation."""
    for holds, badge in TASK_BADGES.get(task, ()):
        if holds(cell):
            yield badge


def _no_better_than_the_mean(sampler: str, cell: TableCell) -> bool:
    """Whether the features of samples are as far from those of images as the mean image alone."""
    return cell.mean(f"val_fcd_{sampler}") >= cell.mean("val_fcd_mean_image")


MEMORISED = 0.9
"""Of new images a third to one half are nearer to a training image than it is to another one."""


def _memorised(sampler: str, cell: TableCell) -> bool:
    """Whether more than nine of ten samples are nearer to their nearest training image than this
    one is to the training image nearest to it."""
    return cell.mean(f"val_closeness_{sampler}") > MEMORISED


TASK_BADGES: Mapping[str, Sequence[tuple[Callable[[TableCell], bool], str]]] = {
    "representation": ((lambda cell: cell.mean("val_probe_converged") < 1, "probe not converged"),),
    "generation": tuple(
        rule
        for sampler, words in (
            ("prior", "N(0, I)"),
            ("gaussian", "a Gaussian"),
            ("mixture", "10 Gaussians"),
        )
        for rule in (
            (
                partial(_no_better_than_the_mean, sampler),
                f"samples of {words} no better than the mean image",
            ),
            (partial(_memorised, sampler), f"memorised samples of {words}"),
        )
    ),
    "robustness": ((lambda cell: cell.mean("val_ood_auroc") < 0.5, "AUROC below .5"),),
}
"""By further task: when a row gets a badge, and its words. NaN gives none."""


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
    return [dataclasses.replace(cell, badges=tuple(_badges(cell, widest))) for cell in cells]


def _badges(cell: TableCell, widest: float) -> Iterator[str]:
    """Notable properties of a cell, mostly problems; comparisons with NaN are false, so unknown
    values give no badge."""
    if cell.margin < 0:
        yield WORSE_THAN_PCA
    if cell.code_size and cell.facts["active_units"] < COLLAPSED_SHARE * cell.code_size:
        yield "collapsed latent"
    if cell.facts["output_std"] < max(CONSTANT_FLOOR, CONSTANT_SHARE * widest):
        yield "constant output"
    if (missing := _never_called(cell)) > 0:
        yield f"{missing:.2g} classes never predicted"
    if (dead := cell.facts["dead_codes"]) > 0:
        yield f"{dead:.3g} codes never used"
    if cell.track.overcomplete:
        yield "over-complete"
    yield from _of_bits(cell)
    if cell.seed_spread > WIDE_SPREAD:
        yield f"seeds differ by more than {100 * WIDE_SPREAD:g} %"
    if cell.diverged:
        yield f"{cell.diverged} of {cell.started} diverged"
    if cell.wide:
        yield "width not reached"
    if cell.facts[FEW_STEPS] > 0:
        yield "few steps"
    if (trials := cell.facts[BEST_OF]) > 0:
        yield f"best of {trials:.0f} trials"
    if (copies := cell.facts[COPIED]) > 0:
        yield f"{copies:.0f} images in two parts"


def _of_bits(cell: TableCell) -> Iterator[str]:
    if (loss := cell.loss_at_8_bits) > WORTH_A_NOTE:
        yield f"needs more than 8 bits per number: +{100 * loss:.0f} %"


def _never_called(cell: TableCell) -> float:
    """Classes that a classifier never predicts, mean over seeds; NaN for other cells."""
    return (cell.track.size if cell.track.classifies else 0) - cell.facts["predicted_classes"]


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
