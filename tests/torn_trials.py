"""Scripted trials of which everything but validation by one metric says the opposite."""

import dataclasses
from pathlib import Path

import numpy as np
from sweep_support import Scripted, make_plan

from bench.core.spec import EpochValues, RunSpec, TrialSpec
from bench.core.store import Store
from bench.execution import EpochEnded, Event, TrialEnded
from bench.sweep.events import TrialDone
from bench.sweep.plan import StudyPlan
from bench.sweep.results import TRIAL_SCHEMA, TrialRecord
from bench.sweep.trials import Ticket

EPOCHS = 9


class Torn(Scripted):
    """Every score but that of `metric` on validation says the opposite.

    Scores get worse in every second epoch, so that the last one is not the best. `late`: how many
    epochs a worker trains on before it hears of a stop.
    """

    def __init__(self, metric: str, slots: int = 2, late: int = 0) -> None:
        super().__init__(slots)
        self.metric = metric
        self.late = late
        self.most = 0
        self._stops: list[tuple[int, RunSpec]] = []

    def submit(self, spec: RunSpec) -> None:
        assert len(self.trained) < 100, "a search without end"
        super().submit(spec)

    def stop(self, spec: RunSpec) -> None:
        self._stops.append((self.late, spec))

    def events(self, timeout: float) -> list[Event]:
        for wait, spec in self._stops:
            if wait == 0:
                super().stop(spec)
        self._stops = [(wait - 1, spec) for wait, spec in self._stops if wait > 0]
        self.most = max(self.most, len(self.running))
        return [self._torn(event) for event in super().events(timeout)]

    def _torn(self, event: Event) -> Event:
        if isinstance(event, EpochEnded):
            return EpochEnded(event.spec, self._values(event.values))
        if isinstance(event, TrialEnded):
            history = tuple(self._values(values) for values in event.result.history)
            return TrialEnded(event.spec, dataclasses.replace(event.result, history=history))
        return event

    def _values(self, values: EpochValues) -> EpochValues:
        true = values.values["val/mse"] * (1 if values.epoch % 2 else 1.5)
        false = 1 / true
        torn = {"train/loss": false, "val/mae": false}
        for part in ("val", "test"):
            torn |= {f"{part}/mse": false, f"{part}/psnr": true}
        torn[f"val/{self.metric}"] = true if self.metric == "mse" else false
        return dataclasses.replace(values, values=torn)


def distance(spec: TrialSpec) -> float:
    """How bad a scripted trial truly is."""
    return abs(np.log(spec.train.lr / 5e-3))


def torn_plan(
    tiny_protocol: str, store: Store, metric: str = "mse", trials: int = 16, **options: object
) -> StudyPlan:
    """A study of the tiny protocol with more epochs, chosen by `metric`."""
    path = Path(tiny_protocol)
    text = path.read_text().replace("epochs = 3", f"epochs = {EPOCHS}")
    path.write_text(text.replace("[split]", f'selection_metric = "{metric}"\n[split]'))
    return make_plan(tiny_protocol, store, trials, **{"sampler": "random", **options})


def done_of(events: list[object]) -> list[TrialRecord]:
    """The results of the trials that count."""
    return [event.record for event in events if isinstance(event, TrialDone)]


def trial_record(
    ticket: Ticket, plan: StudyPlan, value: float, outcome: str = "complete"
) -> TrialRecord:
    """The result of a trial that was asked for."""
    return TrialRecord(
        schema_version=TRIAL_SCHEMA,
        study=plan.name,
        number=ticket.number,
        source=ticket.source,
        settings=dict(ticket.settings),
        spec=ticket.spec,
        outcome=outcome,  # type: ignore[arg-type]
        value=value,
        history=(),
        started_unix_ms=0,
        finished_unix_ms=1,
    )
