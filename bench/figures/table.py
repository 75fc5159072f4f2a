"""The row type of FIGURES, and when a figure can be drawn."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from matplotlib.figure import Figure

from bench.core.spec import RunRecord
from bench.core.tasks import TASKS, ModelKind
from bench.figures.style import Arrays, code_bits, counted


@dataclass(frozen=True)
class FigureRow:
    """One kind of figure of a run.

    `needs`: keys of the arrays it is drawn from; a key that ends in "/" asks for any array below
    it. `epochs`: the fewest epochs in the history. `judges`: the kind of its models; None: any.
    `ordered`: it needs codes whose numbers have an order, unlike the indices of a discrete code.
    `task`: the further task whose runs have it; empty: all. `code_size`: the only size; 0: any.
    """

    id: str
    title: str
    draw: Callable[[RunRecord, Arrays], Figure]
    needs: tuple[str, ...] = ()
    epochs: int = 0
    judges: ModelKind | None = None
    ordered: bool = False
    task: str = ""
    code_size: int = 0

    def suits(self, record: RunRecord) -> bool:
        """Whether the figure applies to this kind of run at all."""
        return self.judges in (None, TASKS[record.spec.task].judges)

    def expected(self, record: RunRecord) -> bool:
        """Whether such a run has the figure, unless something of it is missing."""
        of_task = not self.task or self.task in record.spec.evaluation.tasks
        of_size = self.code_size in (0, record.facts.get("code_size"))
        return self.suits(record) and of_task and of_size

    def lacks(self, record: RunRecord, arrays: Arrays) -> str:
        """What is missing from the run to draw the figure, or why it cannot be drawn;
        empty if nothing is."""
        if len(record.history) < self.epochs:
            return f"{counted(len(record.history), 'epoch')} of training"
        if self.ordered and code_bits(record):
            return "a discrete code: its indices are names, not places on a plane"
        missing = [need for need in self.needs if not _holds(arrays, need)]
        return f"no {', '.join(missing)} in the record" if missing else ""

    def can_draw(self, record: RunRecord, arrays: Arrays) -> bool:
        """Whether the run has everything that the figure needs."""
        return self.suits(record) and not self.lacks(record, arrays)


def _holds(arrays: Arrays, need: str) -> bool:
    return need in arrays or (need.endswith("/") and any(key.startswith(need) for key in arrays))


def table(rows: Iterable[FigureRow]) -> Mapping[str, FigureRow]:
    """The rows by id, in their order."""
    return MappingProxyType({row.id: row for row in rows})
