"""Studies in MLflow: one parent run per study, one child run per trial, in a separate experiment.

Trials stay out of the protocol's experiment, where every row is a result. A trial has curves but
no model files; the parent has the study's figures, the winner and how to repeat it.

| metric of a trial | meaning                                                              |
|-------------------|----------------------------------------------------------------------|
| train/..., val/...| by epoch                                                             |
| search/value      | validation selection metric of the weights that would be kept        |
| search/epochs     | epochs trained                                                       |
| search/seconds    | from start to end                                                    |

The parent has `search/best` and `search/epochs` by number of finished trials.
"""

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, RunTag

from bench.core.owners import owner
from bench.core.protocol import Protocol
from bench.core.spec import RunSpec, TrialSpec
from bench.core.store import Store
from bench.tracking import content, pictures, views
from bench.tracking.contract import Answer, Began, Draw, Mutex, Progress, StudyCard, Trial
from bench.tracking.database import prepared_address
from bench.tracking.experiment import ExperimentPlan, plan_for_protocol, set_tag
from bench.tracking.tracker import Connection
from bench.tracking.writing import Entry, RunBook

_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "diverged": "FAILED"}
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"


def plan_beside(protocol: Protocol, dataset_label: str) -> ExperimentPlan:
    """The experiment of a protocol's studies, beside that of its runs."""
    plan = plan_for_protocol(protocol, dataset_label)
    return dataclasses.replace(
        plan,
        name=f"{plan.name} sweeps",
        protocol=f"{plan.protocol} sweeps",
        description=f"Studies that tune the variants of {plan.name}: trials see training and "
        "validation images only.\n\nA parent run is a study, its children are trials. The "
        "winner's runs with fresh seeds are in the protocol's own experiment.",
    )


class MLflowStudy(Connection):
    """Sends one study to MLflow."""

    _view = views.TRIALS

    def __init__(self, store: Store, plan: ExperimentPlan, card: StudyCard, mutex: Mutex) -> None:
        super().__init__(store, plan, prepared_address(store), card.name)
        self._card = card
        self._mutex = mutex
        self._parent_id = ""

    def _parent(self, book: RunBook) -> str:
        """The study's own run, existing or new; its state is RUNNING."""
        if not self._parent_id:
            with self._mutex():
                self._find_parent(book)
        return self._parent_id

    def _find_parent(self, book: RunBook) -> None:
        card = self._card
        spec = card.base
        key = f"study:{card.name}:{card.id}"
        tags = {
            content.KEY: key,
            content.OWNER: owner(),
            "study": card.name,
            "status": "running",
            **card.options,
        }
        known = book.find(key)
        if known is not None:
            book.client.update_run(known.run_id, status="RUNNING")
            book.say(known, tags)
            self._parent_id = known.run_id
            return
        run = book.client.create_run(
            book.experiment_id, start_time=_now(), tags=tags, run_name=card.name
        )
        self._parent_id = run.info.run_id
        for name, text in {
            **content.parameters(spec),
            **{f"range of {key}": text for key, text in card.space.items()},
        }.items():
            book.client.log_param(self._parent_id, name, text)
        _ensure_view(book, self._plan.view, spec, tuple(card.space))

    def _begin(self, book: RunBook, moment: Began) -> None:
        self._start(book, moment.spec, moment.trial, moment.source)

    def _start(self, book: RunBook, spec: RunSpec, number: int, source: str) -> Entry:
        parent = self._parent(book)
        entry = book.start(spec, _now())
        # The settings of a variant are one parameter, which the view could not show by column.
        for key in self._card.space:
            if key in spec.hyperparameters:
                book.client.log_param(entry.run_id, key, spec.hyperparameters[key])
        name = f"trial {number}" + (f" ({source} recipe)" if source else "")
        book.say(
            entry,
            {
                _PARENT: parent,
                _NAME: name,
                "study": self._card.name,
                "trial": str(number),
                "source": source or "sampler",
            },
        )
        return entry

    def tell(self, trial: Trial, /) -> Answer:
        """Send everything about a trial that counts, and its end state, unless MLflow has it."""

        def write(book: RunBook) -> None:
            entry = book.known(trial.spec.run_key)
            if entry is None or entry.complete or not entry.ours:
                entry = self._start(book, trial.spec, trial.number, trial.source)
            if entry.epochs - {values.epoch for values in trial.history}:
                # A cut-off attempt trained longer than the one that counts.
                book.drop(trial.spec.run_key, entry)
                entry = self._start(book, trial.spec, trial.number, trial.source)
            book.write_epochs(entry, trial.history)
            ended = trial.finished_unix_ms
            finals: dict[str, float] = {
                "search/epochs": len(trial.history),
                "search/seconds": (ended - trial.started_unix_ms) / 1000,
            }
            if trial.value is not None and math.isfinite(trial.value):
                finals["search/value"] = trial.value
            book.client.log_batch(
                entry.run_id,
                metrics=[Metric(key, value, ended, 0) for key, value in finals.items()],
                tags=[
                    RunTag("status", trial.outcome),
                    RunTag("mlflow.note.content", trial.message or trial.outcome),
                ],
            )
            book.end(entry, _STATUS[trial.outcome], ended)
            book.say(entry, {content.COMPLETE: _version(trial)})
            entry.complete = _version(trial)

        return self._tell(trial.spec.run_key, _version(trial), write)

    def _progress(self, book: RunBook, moment: Progress) -> None:
        values = {"search/epochs": float(moment.epochs)}
        if moment.best is not None:
            values["search/best"] = moment.best
        book.client.log_batch(
            self._parent(book),
            metrics=[Metric(key, value, _now(), moment.finished) for key, value in values.items()],
        )

    def study_ended(
        self, figures: Mapping[str, Draw], texts: Mapping[str, str], status: str, /
    ) -> None:
        """Figures and texts of the study, by file name; `status`: "finished" or "stopped"."""
        self._flush()

        def write(book: RunBook) -> None:
            parent = self._parent(book)
            pictures.log_figures(book.client, parent, figures)
            for name, text in texts.items():
                book.client.log_text(parent, text, name)
            if "study.md" in texts:
                book.client.set_tag(parent, "mlflow.note.content", texts["study.md"])
            book.client.set_tag(parent, "status", status)
            state = "FINISHED" if status == "finished" else "KILLED"
            book.client.set_terminated(parent, state, end_time=_now())

        self._attempt(write)


def _version(trial: Trial) -> str:
    return f"{trial.number}-{trial.finished_unix_ms}"


def _ensure_view(
    book: RunBook, plan: views.ViewPlan, spec: TrialSpec, space: Sequence[str]
) -> None:
    """A view with the columns of a search, sorted by the trials' values."""
    experiment = book.client.get_experiment(book.experiment_id)
    keys = [*_searched(experiment.tags.get("bench.searched", "")), *space]
    searched = tuple(dict.fromkeys(keys))
    columns = [
        *(f"metrics.`search/{name}`" for name in ("value", "epochs", "seconds")),
        "params.`model`",
        "params.`latent_dim`",
        *(f"params.`{_parameter(key, spec)}`" for key in searched),
        *(f"tags.`{name}`" for name in ("status", "source", "study")),
    ]
    state: dict[str, Any] = {
        **views.view_state(plan, "attributes.run_name LIKE 'trial%'"),
        "orderByKey": "metrics.`search/value`",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {},
        "compareRunCharts": None,
        "compareRunSections": None,
    }
    now = _now()
    view = {"name": "Trials", "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    client, where = book.client, book.experiment_id
    set_tag(client, where, f"{views.VIEW_TAG}{views.TRIALS}", json.dumps(view))
    set_tag(client, where, "bench.searched", ",".join(searched))


def _parameter(setting: str, spec: RunSpec) -> str:
    """The name of a searched setting among the parameters of a trial."""
    of_recipe = f"train.{setting}"
    return of_recipe if of_recipe in content.parameters(spec) else setting


def _searched(text: str) -> list[str]:
    return [key for key in text.split(",") if key]


def _now() -> int:
    return int(time.time() * 1000)
