"""Input of figures over several runs: the cells of a track, or of all tracks of a protocol."""

from dataclasses import dataclass

import numpy as np

from bench.core.palette import Look, look
from bench.core.spec import RunRecord
from bench.core.track import Track
from bench.figures.style import Arrays, counted
from bench.metrics import METRICS, Metric


@dataclass(frozen=True)
class Cell:
    """A row of a table: a variant at one code size under one recipe, with one record per seed.

    `shown` is the finished run with the median validation score (or the lowest seed, if no images
    were held out), `arrays` its stored arrays; both are missing for a cell without a finished
    run.
    """

    name: str
    records: tuple[RunRecord, ...]
    shown: RunRecord | None
    arrays: Arrays

    @property
    def model(self) -> str:
        """The id of the variant."""
        return self.records[0].spec.model

    @property
    def look(self) -> Look:
        """Colour, marker and line style of the variant."""
        return look(self.model)

    @property
    def hollow(self) -> bool:
        """Whether its markers are hollow: it shares its look with the variant's usual row."""
        return self.name != self.model

    @property
    def closed_form(self) -> bool:
        """Whether it was solved in closed form, without epochs."""
        return not any(record.history for record in self.records)

    @property
    def track(self) -> Track:
        """The track it competes in."""
        return self.records[0].track

    def scores(self, part: str, metric: str) -> tuple[float, ...]:
        """The mean score of every finished seed on a part ("val" or "test")."""
        found = (record.scores.get(part, {}).get(metric) for record in self.records)
        return tuple(score for score in found if score is not None and np.isfinite(score))


@dataclass(frozen=True)
class Group:
    """Comparable cells: of one data set, protocol and evaluation, and of one track
    unless the figure is about tracks.

    `about` describes in words what they share, for the line below the title.
    """

    about: str
    cells: tuple[Cell, ...]

    @property
    def metric(self) -> Metric:
        """The selection metric."""
        return METRICS[self.cells[0].records[0].spec.selection_metric]

    @property
    def task(self) -> str:
        """The task of its variants: a track has only one."""
        return self.cells[0].records[0].spec.task

    @property
    def seeds(self) -> str:
        """The number of seeds of the trained cells, in words."""
        counts = {len(cell.records) for cell in self.cells if not cell.closed_form} or {1}
        low, high = min(counts), max(counts)
        return f"{low} to {high} seeds" if low < high else counted(high, "seed")

    @property
    def several(self) -> bool:
        """Whether any cell has more than one seed, and so a range, a mean and a median."""
        return any(len(cell.records) > 1 for cell in self.cells)

    @property
    def shown(self) -> str:
        """Which seed represents its cell (`Cell.shown`), in a word."""
        held_out = any(cell.scores("val", self.metric.id) for cell in self.cells)
        return "median" if held_out else "lowest"

    def best_first(self) -> list[Cell]:
        """The cells with a test score, by the mean over their seeds."""
        name, sign = self.metric.id, -1 if self.metric.higher_is_better else 1
        scored = [cell for cell in self.cells if cell.scores("test", name)]
        return sorted(scored, key=lambda cell: sign * float(np.mean(cell.scores("test", name))))
