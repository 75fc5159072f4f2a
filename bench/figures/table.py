"""What a row of FIGURES is, and when its picture can be drawn."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from matplotlib.figure import Figure

from bench.core.protocol import Task
from bench.core.spec import RunRecord
from bench.figures.style import Arrays, code_bits, counted


@dataclass(frozen=True)
class FigureRow:
    """One kind of picture of a run.

    `needs`: keys of the arrays it is drawn from; a key that ends in "/" asks for any array below
    it. `epochs`: how many epochs the history must hold. `task`: whose runs it is for; none: all.
    `ordered`: it takes the numbers of a code for places, which indices of a discrete one are not.
    """

    id: str
    title: str
    draw: Callable[[RunRecord, Arrays], Figure]
    needs: tuple[str, ...] = ()
    epochs: int = 0
    task: Task | None = None
    ordered: bool = False

    def suits(self, record: RunRecord) -> bool:
        """Whether the picture is one of this kind of run at all."""
        return self.task in (None, record.spec.task)

    def lacks(self, record: RunRecord, arrays: Arrays) -> str:
        """What the run did not leave behind of what the picture shows, or why that cannot be shown;
        empty if it is all there."""
        if len(record.history) < self.epochs:
            return f"{counted(len(record.history), 'epoch')} of training"
        if self.ordered and code_bits(record):
            return "a discrete code: its indices are names, not places on a plane"
        missing = [need for need in self.needs if not _holds(arrays, need)]
        return f"no {', '.join(missing)} in the record" if missing else ""

    def can_draw(self, record: RunRecord, arrays: Arrays) -> bool:
        """Whether a run left behind what this picture shows."""
        return self.suits(record) and not self.lacks(record, arrays)


def _holds(arrays: Arrays, need: str) -> bool:
    return need in arrays or (need.endswith("/") and any(key.startswith(need) for key in arrays))


def table(rows: Iterable[FigureRow]) -> Mapping[str, FigureRow]:
    """The rows by id, in their order."""
    return MappingProxyType({row.id: row for row in rows})
