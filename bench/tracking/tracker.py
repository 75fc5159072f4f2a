"""What the head process sends to MLflow, and what happens if MLflow does not answer."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from bench.core.spec import EpochValues, RunRecord, RunSpec
from bench.core.store import Store
from bench.core.text import without_secrets
from bench.records.files import read_arrays
from bench.records.selection import median_record
from bench.tracking import content, models, views
from bench.tracking.address import Address, interface_address
from bench.tracking.contract import Answer, Began, Ended, Epoch, Moment, Progress, WorkOver
from bench.tracking.experiment import (
    ExperimentPlan,
    ensure_experiment,
    ensure_views,
    known_tracks,
)
from bench.tracking.writing import MEDIAN, RunBook

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


class Connection:
    """Sends runs or trials to MLflow while they happen. No method raises if MLflow is away."""

    _view: ClassVar[str]

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
        self._said: set[str] = set()
        self.offline = ""
        self._attempt(lambda book: None)

    @property
    def missed(self) -> int:
        """Runs that MLflow lacks or has incompletely; `bench sync` sends them."""
        return len(self._missed)

    @property
    def link(self) -> str:
        """A link to this experiment's saved view; "" when offline."""
        if self._book is None:
            return ""
        base = self._address.shown if self._address.is_server else interface_address(self._store)
        return views.deep_link(base, self._book.experiment_id, self._view)

    def watch(self, moment: Moment, /) -> None:
        """Show a run while it happens; `tell` sends what gets lost here."""
        match moment:
            case Began(spec):
                self._attempt(partial(self._begin, moment=moment), spec.run_key)
            case Epoch(spec, values):
                self._epoch(spec, values)
            case Ended(spec, None):
                self._end(spec, "KILLED", {"status": "stopped"})
            case Ended(spec, reason):
                note = f"**FAILED**: {reason}"
                self._end(spec, "FAILED", {"status": "failed", "mlflow.note.content": note})
            case Progress():
                self._attempt(partial(self._progress, moment=moment))
            case WorkOver():
                self._quiet_until = 0.0

    def _begin(self, book: RunBook, moment: Began) -> None:
        book.start(moment.spec, _now())

    def _progress(self, book: RunBook, moment: Progress) -> None:
        """Only studies have a place for it."""

    def _epoch(self, spec: RunSpec, values: EpochValues) -> None:
        """Buffered for up to two seconds or ten epochs, then sent at once."""
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

    def _tell(self, run_key: str, version: str, write: Callable[[RunBook], object]) -> Answer:
        """Write a run or trial unless MLflow has this version of it completely."""
        self._buffer.pop(run_key, None)

        def ask(book: RunBook) -> Answer:
            if self._has(book, run_key, version):
                return "known"
            write(book)
            return "sent"

        answer: Answer = self._attempt(ask, run_key) or "missed"
        if answer != "missed":
            self._missed.discard(run_key)
        return answer

    def _has(self, book: RunBook, run_key: str, version: str) -> bool:
        """Whether MLflow has it completely; looked up again, as others may have sent it, unless
        it is being written from here and nothing of it was missed."""
        entry = book.known(run_key)
        in_work = entry is not None and entry.ours and not entry.complete
        if (entry is None or entry.complete != version) and (
            not in_work or run_key in self._missed
        ):
            entry = book.find(run_key, fresh=True)
        return entry is not None and entry.complete == version

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
        reason = without_secrets(" ".join((str(error) or type(error).__name__).split()))[:300]
        answered = isinstance(error, MlflowException) and error.error_code not in _NO_ANSWER
        if (self._address.is_server and not answered) or seconds > _SLOW_SECONDS:
            pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            self._quiet_until = time.monotonic() + pause
        self._failures += 1
        if not self.offline:
            _log.warning(
                "MLflow at %s did not take a result (%s); results stay on disk "
                "and `bench sync` sends them later",
                self._address.shown,
                reason,
            )
        self.offline = reason

    def _answers(self) -> None:
        if self.offline:
            _log.warning("MLflow at %s answers again", self._address.shown)
        self.offline, self._failures = "", 0


class RunTracker(Connection):
    """Sends the runs of a protocol to MLflow."""

    _view = views.LEADERBOARD

    def tell(self, record: RunRecord, /) -> Answer:
        """Send the whole content of the record, and the run's end state, unless MLflow has it."""

        def write(book: RunBook) -> None:
            book.finish(record, read_arrays(self._store.records, record))
            self._show_track(book, str(record.track))

        return self._tell(record.run_key, content.version(record), write)

    def _show_track(self, book: RunBook, track: str) -> None:
        experiment = book.client.get_experiment(book.experiment_id)
        if track not in known_tracks(experiment):
            ensure_views(book.client, experiment, self._plan, [track])

    def cell_finished(self, records: Sequence[RunRecord], /) -> None:
        """All seeds of a cell are finished: log the model of the median seed, once."""
        median = median_record(records)
        if median is None:
            return
        keys = {record.run_key for record in records}
        if why := models.lacks_code(median):
            if why not in self._said:
                _log.warning("%s", why)
            self._said.add(why)
            return

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


def open_book(
    store: Store, plan: ExperimentPlan, address: Address, study: str = "", run_key: str = ""
) -> RunBook:
    """The runs of an experiment (of one study or one run, if named), which is created if
    missing."""
    client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
    location = None if address.is_server else store.artifacts.as_uri()
    return RunBook(client, ensure_experiment(client, plan, location), study, run_key)


def _now() -> int:
    return int(time.time() * 1000)
