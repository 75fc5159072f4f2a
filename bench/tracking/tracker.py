"""Tracker: what the head process sends to MLflow, and what happens if MLflow does not answer."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from bench.core.protocol import Protocol
from bench.core.spec import EpochValues, RunRecord, RunSpec
from bench.core.store import Store
from bench.records.files import read_arrays
from bench.records.selection import median_record
from bench.tracking import content, models, views
from bench.tracking.address import Address
from bench.tracking.database import prepared_address
from bench.tracking.experiment import (
    ExperimentPlan,
    ensure_experiment,
    ensure_views,
    known_tracks,
    plan_for_protocol,
)
from bench.tracking.writing import MEDIAN, RunBook

LOCAL_SERVER = "http://127.0.0.1:5000"
_FLUSH_SECONDS, _FLUSH_EPOCHS = 2.0, 10
_SLOW_SECONDS = 0.5
_PAUSES = (15.0, 30.0, 60.0)
"""Seconds to leave a silent server alone after its first, second and later failures."""
_NO_ANSWER = {ErrorCode.Name(INTERNAL_ERROR), ErrorCode.Name(TEMPORARILY_UNAVAILABLE)}
"""Error codes of MLflow's client if no server, or no store behind it, answers."""

_log = logging.getLogger("bench.tracking")
T = TypeVar("T")
Failure = (MlflowException, SQLAlchemyError, OSError)
"""Raised by a store that is away, full or locked (requests' exceptions are OSErrors)."""


@dataclass(frozen=True)
class SyncReport:
    """Number of runs that MLflow already had, that were sent now, and that could not be sent."""

    known: int
    told: int
    missed: int


def open_tracker(store: Store, protocol: Protocol, dataset_label: str) -> "Tracker":
    """A tracker for the runs of a protocol on one data set.

    `MLFLOW_TRACKING_URI` wins over `mlruns/mlflow.db`. Raises BadInput at once if the local
    store cannot be written or read. A server that does not answer is not an error: results stay on
    disk and `bench sync` sends them later.
    """
    return Tracker(store, plan_for_protocol(protocol, dataset_label), prepared_address(store))


class Tracker:
    """Sends runs to MLflow while they happen. No method raises if MLflow is away."""

    def __init__(
        self, store: Store, plan: ExperimentPlan, address: Address, study: str = ""
    ) -> None:
        self._study = study
        self._store = store
        self._plan = plan
        self._address = address
        self._book: RunBook | None = None
        self._buffer: dict[str, list[EpochValues]] = {}
        self._flushed_at = time.monotonic()
        self._failures = 0
        self._quiet_until = 0.0
        self._missed: set[str] = set()
        self.offline = ""
        self._attempt(lambda book: None)

    @property
    def missed(self) -> int:
        """Runs that MLflow lacks or has incompletely; `bench sync` sends them."""
        return len(self._missed)

    def run_started(self, spec: RunSpec) -> None:
        """A run starts, or resumes where it was cut off."""
        self._attempt(lambda book: book.start(spec, _now()), spec.run_key)

    def epoch(self, spec: RunSpec, values: EpochValues) -> None:
        """Values of an epoch; buffered for up to two seconds or ten epochs, then sent at once."""
        waiting = self._buffer.setdefault(spec.run_key, [])
        waiting.append(values)
        late = time.monotonic() - self._flushed_at > _FLUSH_SECONDS
        if late or len(waiting) >= _FLUSH_EPOCHS:
            self._flush()

    def _flush(self) -> None:
        """Send the buffered values; those that cannot be sent are kept for the next time."""
        self._flushed_at = time.monotonic()
        for run_key, waiting in list(self._buffer.items()):
            if waiting:
                self._attempt(partial(self._send, run_key=run_key), run_key)

    def _send(self, book: RunBook, run_key: str) -> None:
        entry = book.known(run_key)
        if entry is not None and not entry.complete:
            book.write_epochs(entry, self._buffer[run_key])
        self._buffer[run_key].clear()

    def run_finished(self, record: RunRecord) -> None:
        """Send the whole content of the record, and the run's end state."""
        self._buffer.pop(record.run_key, None)
        self._tell(record)

    def _tell(self, record: RunRecord) -> bool:
        def write(book: RunBook) -> bool:
            book.finish(record, read_arrays(self._store.records, record))
            self._show_track(book, record.track)
            return True

        done = bool(self._attempt(write, record.run_key))
        if done:
            self._missed.discard(record.run_key)
        return done

    def _show_track(self, book: RunBook, track: str) -> None:
        experiment = book.client.get_experiment(book.experiment_id)
        tracks = known_tracks(experiment)
        if track not in tracks:
            ensure_views(book.client, experiment, self._plan, sorted({*tracks, track}))

    def run_failed(self, spec: RunSpec, reason: str) -> None:
        """The run left no record; the reason is put on its page."""
        note = f"**FAILED**: {reason}"
        self._end(spec, "FAILED", {"status": "failed", "mlflow.note.content": note})

    def run_stopped(self, spec: RunSpec) -> None:
        """The run was stopped or its worker died; the same command resumes it."""
        self._end(spec, "KILLED", {"status": "stopped"})

    def _end(self, spec: RunSpec, status: str, tags: Mapping[str, str]) -> None:
        self._flush()
        self._buffer.pop(spec.run_key, None)

        def write(book: RunBook) -> None:
            entry = book.known(spec.run_key)
            if entry is not None and not entry.complete:
                book.say(entry, tags)
                book.end(entry, status, _now())

        self._attempt(write)
        # Without a record `bench sync` would have nothing to send.
        self._missed.discard(spec.run_key)

    def cell_finished(self, records: Sequence[RunRecord]) -> None:
        """All seeds of a cell are finished: log the model of the median seed, once."""
        median = median_record(records)
        if median is None:
            return
        keys = {record.run_key for record in records}

        def write(book: RunBook) -> None:
            entry = book.find(median.run_key, fresh=True)
            if entry is None or not entry.complete or (entry.median and entry.model_id):
                return
            for key, other in book.medians().items():
                if key in keys and key != median.run_key:
                    models.withdraw_model(book, other)
            entry.model_id = models.log_model(book.client, entry.run_id, self._store, median)
            book.say(entry, {MEDIAN: "true", models.MODEL_ID: entry.model_id})
            entry.median = True

        self._attempt(write)

    def sync(self, records: Iterable[RunRecord]) -> SyncReport:
        """Send MLflow the records that it lacks or has incompletely; nothing is sent twice."""
        known = told = missed = 0
        for record in records:
            if self._attempt(partial(_has, record=record), record.run_key):
                known += 1
                self._missed.discard(record.run_key)
            elif self._tell(record):
                told += 1
            else:
                missed += 1
        return SyncReport(known, told, missed)

    def link(self, *, compare: bool = False) -> str:
        """A link to this experiment's saved view (its charts with `compare`); "" when offline."""
        if self._book is None:
            return ""
        base = self._address.uri if self._address.is_server else LOCAL_SERVER
        return views.deep_link(base, self._book.experiment_id, views.LEADERBOARD, compare=compare)

    def rouse(self) -> None:
        """Retry an MLflow that was away: the work is over, so waiting delays no training."""
        self._quiet_until = 0.0

    def close(self) -> None:
        """Send what is buffered, and report once what MLflow missed."""
        self._flush()
        if self._missed:
            _log.warning(
                "MLflow lacks %d runs; they are on disk, `bench sync` sends them",
                self.missed,
            )

    def _attempt(self, what: Callable[[RunBook], T], run_key: str = "") -> T | None:
        """Do something in MLflow; if it fails, note that it was missed and return None."""
        begun = time.monotonic()
        if begun >= self._quiet_until:
            try:
                result = what(self._connected())
            except Failure as error:
                self._failed(error, time.monotonic() - begun)
            else:
                self._answers()
                return result
        if run_key:
            self._missed.add(run_key)
        return None

    def _connected(self) -> RunBook:
        """The experiment's runs, after checking that the server answers."""
        if self.offline or self._book is None:
            reason = self._address.why_not()
            if reason:
                raise ConnectionError(reason)
        if self._book is None:
            self._book = open_book(self._store, self._plan, self._address, self._study)
        return self._book

    def _failed(self, error: Exception, seconds: float) -> None:
        """Report once why MLflow did not take something; pause if retrying would cost time."""
        reason = " ".join((str(error) or type(error).__name__).split())[:300]
        answered = isinstance(error, MlflowException) and error.error_code not in _NO_ANSWER
        if (self._address.is_server and not answered) or seconds > _SLOW_SECONDS:
            pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            self._quiet_until = time.monotonic() + pause
        self._failures += 1
        if not self.offline:
            _log.warning(
                "MLflow at %s did not take a result (%s); results stay on disk "
                "and `bench sync` sends them later",
                self._address.uri,
                reason,
            )
        self.offline = reason

    def _answers(self) -> None:
        if self.offline:
            _log.warning("MLflow at %s answers again", self._address.uri)
        self.offline, self._failures = "", 0


def open_book(store: Store, plan: ExperimentPlan, address: Address, study: str = "") -> RunBook:
    """The runs of an experiment (of one study, if named), which is created if missing."""
    client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
    location = None if address.is_server else store.artifacts.as_uri()
    return RunBook(client, ensure_experiment(client, plan, location), study)


def _has(book: RunBook, record: RunRecord) -> bool:
    """Whether MLflow has the complete record; looked up again, as others may have sent it."""
    version = content.version(record)
    for fresh in (False, True):
        entry = book.find(record.run_key, fresh=fresh)
        if entry is not None and entry.complete == version:
            return True
    return False


def _now() -> int:
    return int(time.time() * 1000)
