"""Progress of a search: a live table of trials on a terminal, one line per trial elsewhere."""

import statistics
import time
from typing import TYPE_CHECKING, Any

from bench.cli import console
from bench.metrics import METRICS

if TYPE_CHECKING:
    from bench.sweep.events import SweepEvent
    from bench.sweep.plan import StudyPlan
    from bench.sweep.running import Recovered

_SHOWN = 14


class TrialsProgress:
    """Receives the events of one study and shows its state, on stderr."""

    def __init__(self, plan: "StudyPlan", workers: int, expected: float) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._display = Live(console=self._console, auto_refresh=False, transient=True)
        self._plan, self._workers, self._expected = plan, workers, expected
        self._study = plan.name
        self._higher = METRICS[plan.base.selection_metric].higher_is_better
        self._rows: dict[int, tuple[str, str, str, str]] = {}
        self._counts = {"complete": 0, "pruned": 0, "diverged": 0, "put back": 0}
        self._before = 0
        self._best: tuple[float, int] | None = None
        self._seconds: list[float] = []
        self._drawn = 0.0
        self._spoke = time.monotonic()

    def __enter__(self) -> "TrialsProgress":
        if self._live:
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._display.stop()

    def hear(self, event: "SweepEvent | Recovered") -> None:
        """Show an event."""
        from bench.execution import Waiting
        from bench.sweep.events import (
            StudyProgress,
            TrialBegun,
            TrialDone,
            TrialEpoch,
            TrialPutBack,
        )
        from bench.sweep.running import Recovered

        if not isinstance(event, TrialDone | TrialPutBack):
            self._speak_if_silent()
        match event:
            case Recovered(study, finished, best, lines):
                self._best = best
                self._recovered(study, finished, lines)
            case StudyProgress(finished, best, lines):
                self._before += finished - self._finished
                self._best = best
                for line in lines:
                    self._print(line)
            case TrialBegun(ticket):
                note = f"{ticket.source} recipe" if ticket.source else ""
                self._rows[ticket.number] = (_settings(ticket), "running", note, "")
            case TrialEpoch(ticket, epoch, value):
                shown = f"{epoch}/{ticket.spec.train.epochs}"
                state = (_settings(ticket), "running", _number(value), shown)
                self._rows[ticket.number] = state
            case TrialDone(ticket, record):
                self._done(ticket, record)
            case Waiting():
                pass
            case TrialPutBack(ticket, reason):
                self._counts["put back"] += 1
                self._rows[ticket.number] = (_settings(ticket), "put back", "", "")
                self._print(f"trial {ticket.number}: {reason}")
        self._draw(force=not isinstance(event, TrialEpoch | Waiting))

    def _recovered(self, study: str, finished: int, lines: tuple[str, ...]) -> None:
        self._study, self._before = study, finished
        for line in lines:
            self._print(line)
        if finished:
            trials = self._plan.request.trials
            self._print(
                f"study {study} resumes: {finished} of {trials} trials finished"
                if finished < trials
                else f"study {study} has {finished} finished trials, {trials} were asked for"
            )

    def _done(self, ticket: Any, record: Any) -> None:
        self._counts[record.outcome] += 1
        self._seconds.append(record.seconds)
        value = record.value
        if record.outcome == "complete" and value is not None:
            better = self._best is None or (
                value > self._best[0] if self._higher else value < self._best[0]
            )
            if better:
                self._best = (value, ticket.number)
        epochs = f"{len(record.history)}/{ticket.spec.train.epochs}"
        self._rows[ticket.number] = (_settings(ticket), record.outcome, _number(value), epochs)
        if not self._live:
            # The table's "default" has the protocol's seeds, the search one of its own.
            source = f" ({ticket.source} recipe, the search's seed)" if ticket.source else ""
            note = record.message or f"complete after {console.duration(record.seconds)}"
            self._print(
                f"[{self._finished}/{self._plan.request.trials}] trial {ticket.number}{source}: "
                f"{_settings(ticket)}: {self._plan.base.selection_metric} {_number(value)}, "
                f"{note}; {self._standing()}"
            )

    @property
    def _finished(self) -> int:
        return self._before + sum(self._counts[k] for k in ("complete", "pruned", "diverged"))

    def _standing(self) -> str:
        best = f"best {_number(self._best[0])} (trial {self._best[1]})" if self._best else "no best"
        left = max(0, self._plan.request.trials - self._finished)
        each = statistics.median(self._seconds) if self._seconds else self._expected
        return f"{best}; about {console.duration(left * each / self._workers)} left"

    def _speak_if_silent(self) -> None:
        """Without a terminal: where the trials are, if nothing was said for a while."""
        if self._live or time.monotonic() - self._spoke < console.SILENCE_SECONDS:
            return
        running = (
            f"trial {number}: epoch {row[3] or 0}"
            for number, row in sorted(self._rows.items())
            if row[1] == "running"
        )
        done = f"{self._finished} of {self._plan.request.trials} trials"
        self._print("; ".join([done, *running, self._standing()]))

    def _print(self, line: str) -> None:
        self._spoke = time.monotonic()
        self._console.print(console.shown(line), markup=False, highlight=False, soft_wrap=True)

    def _draw(self, *, force: bool) -> None:
        if not self._live or not (force or time.monotonic() - self._drawn > 0.2):
            return
        from rich.table import Table
        from rich.text import Text

        self._drawn = time.monotonic()
        counts = ", ".join(f"{count} {name}" for name, count in self._counts.items() if count)
        table = Table(
            title=f"{self._study}: {self._finished} of {self._plan.request.trials} trials "
            f"({counts or 'none yet'}); {self._standing()}",
            title_justify="left",
        )
        for name in ("trial", "settings", "state", self._plan.base.selection_metric, "epochs"):
            table.add_column(name)
        for number, row in sorted(self._rows.items())[-_SHOWN:]:
            mark = "bold green" if self._best and self._best[1] == number else ""
            table.add_row(*(Text(cell, style=mark) for cell in (str(number), *row)))
        self._display.update(table, refresh=True)


def _settings(ticket: Any) -> str:
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in ticket.settings.items()
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"
