"""A Ray cluster: the same stateless workers on the cores and GPUs of other machines.

Each slot is a Ray actor that trains in its own folder and returns the content of its record. Only
the head writes to the store, so no shared folder is needed. Ray places the actors by their
resources and reports lost workers and nodes.
"""

import contextlib
import os
import queue
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bench
from bench.core.errors import BadInput
from bench.core.spec import EpochValues, RunSpec
from bench.core.store import Store
from bench.execution.events import (
    STOP_SECONDS,
    EpochEnded,
    Event,
    Failed,
    Finished,
    Halted,
    Lost,
    Started,
)
from bench.execution.parcel import Parcel, pack, unpack
from bench.execution.software import running_software
from bench.execution.worker import attempt, no_room
from bench.models.own import adopt, code_of
from bench.records.files import record_folder

_LISTEN_SECONDS = 2.0
_KNOCK_SECONDS = 5.0
_Said = tuple[Event, Parcel | None]


@dataclass(frozen=True)
class Resources:
    """The cores and GPUs of a cluster."""

    cpus: int
    gpus: int

    def slots(self, threads: int) -> int:
        """One slot per GPU, or as many as the cores carry."""
        return max(1, self.gpus or self.cpus // threads)

    def gpu_share(self, workers: int) -> float:
        """Each worker's share of a GPU; Ray never splits a worker over two GPUs."""
        return 1 / -(-workers // self.gpus) if self.gpus else 0.0


def connect(address: str) -> Resources:
    """Join a running cluster (`auto`: the one this machine belongs to).

    Raises BadInput if Ray is not installed or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise BadInput(
            "--executor ray needs the library ray; install it (pip install ray, or this package "
            "with [ray])"
        ) from None
    try:
        if not ray.is_initialized():
            _knock(address)
            ray.init(address=address, namespace="bench", log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0]
        raise BadInput(
            f"--address {address}: no Ray cluster answers ({why}); start one (`ray start --head`) "
            "or give its address"
        ) from None
    found = ray.cluster_resources()
    return Resources(int(found.get("CPU", 0)), int(found.get("GPU", 0)))


def _knock(address: str) -> None:
    """Check that a machine answers: Ray itself would wait for ever."""
    if address == "auto" and not (address := _current_cluster()):
        return  # Ray says at once that there is none
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()) or "/" in host:
        raise ValueError("expected auto or HOST:PORT of the head node, such as 10.0.0.1:6379")
    with socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS):
        pass


def _current_cluster() -> str:
    """The address that Ray takes for `auto`: of RAY_ADDRESS, or of the file that `ray start`
    leaves, also when its cluster ended long ago; "" without one."""
    if given := os.environ.get("RAY_ADDRESS", ""):
        return "" if given == "local" or "://" in given else given
    place = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        return (Path(place) / "ray" / "ray_current_cluster").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


class Trainer:
    """A worker on a node: trains one spec at a time and reports its events meanwhile."""

    def __init__(self) -> None:
        self._said: queue.Queue[_Said] = queue.Queue()
        self._stops: set[str] = set()
        running_software()  # of this node; before its files can change
        self._store = Store(Path(tempfile.mkdtemp(prefix="bench-worker-"))).prepare()

    def ready(self) -> tuple[str, str, int]:
        """The version of bench on the node, its host name and the process id."""
        return bench.__version__, socket.gethostname(), os.getpid()

    def train(self, spec: RunSpec, parcel: Parcel) -> None:
        """Execute a spec; its events are returned by `listen`."""
        unpack(parcel, spec, self._store)
        if parcel.code is not None:
            adopt(parcel.code.written_to(self._store.root / "code" / spec.source))

        def on_epoch(values: EpochValues) -> bool:
            self._said.put((EpochEnded(spec, values), None))
            return spec.run_key in self._stops

        event = attempt(spec, self._store, on_epoch)
        kept = pack(self._store, spec) if isinstance(event, Finished | Halted) else None
        self._stops.discard(spec.run_key)
        self._said.put((event, kept))
        shutil.rmtree(record_folder(self._store.records, spec.run_key), ignore_errors=True)

    def stop(self, run_key: str) -> None:
        """Ask a run to stop after the current epoch."""
        self._stops.add(run_key)

    def listen(self) -> list[_Said]:
        """Events since the last call; waits briefly for one."""
        try:
            said = [self._said.get(timeout=_LISTEN_SECONDS)]
        except queue.Empty:
            return []
        with contextlib.suppress(queue.Empty):
            while True:
                said.append(self._said.get_nowait())
        return said


@dataclass
class _Slot:
    """An actor, its pending answer, and the spec it trains."""

    actor: Any
    answer: Any
    is_ready: bool = False
    where: str = ""
    spec: RunSpec | None = None


class RayPool:
    """Actors on a Ray cluster that this process has joined (see `connect`)."""

    def __init__(self, workers: int, store: Store, threads: int, gpu_share: float) -> None:
        import ray

        self._ray = ray
        self._store = store
        self._options = {"num_cpus": threads, "num_gpus": gpu_share, "max_concurrency": 4}
        self._queue: deque[RunSpec] = deque()
        self._deaths: dict[str, int] = {}
        self._slots = [self._hire() for _ in range(workers)]

    @property
    def slots(self) -> int:
        """How many specs run at the same time: fewer while a node is gone."""
        return max(1, sum(slot.is_ready for slot in self._slots))

    @property
    def running(self) -> list[RunSpec]:
        """The specs that workers are training."""
        return [slot.spec for slot in self._slots if slot.spec is not None]

    def submit(self, *specs: RunSpec) -> None:
        """Queue specs, each for the next free worker: a cluster trains seeds one by one."""
        self._queue.extend(specs)

    def stop(self, spec: RunSpec) -> None:
        """Remove the spec from the queue, or ask its worker to stop after the epoch."""
        with contextlib.suppress(ValueError):
            self._queue.remove(spec)
        for slot in self._slots:
            if slot.spec == spec:
                slot.actor.stop.remote(spec.run_key)

    def events(self, timeout: float) -> list[Event]:
        """Hand out queued specs, then collect the workers' events for up to `timeout` seconds.

        Raises BadInput if workers cannot start, or run another version of bench.
        """
        happened: list[Event] = list(self._hand_out())
        awaited = {slot.answer: slot for slot in self._slots if slot.answer is not None}
        if not awaited:
            time.sleep(0.0 if happened else timeout)
            return happened
        first, _ = self._ray.wait(list(awaited), timeout=0.0 if happened else timeout)
        if first:
            answered, _ = self._ray.wait(list(awaited), num_returns=len(awaited), timeout=0.0)
            for answer in {*first, *answered}:
                happened += self._hear(awaited[answer])
        return happened

    def close(self) -> None:
        """End idle workers at once, give busy ones time to save, then end them and leave the
        cluster."""
        self._queue.clear()
        for spec in self.running:
            self.stop(spec)
        deadline = time.monotonic() + STOP_SECONDS
        while self.running and time.monotonic() < deadline:
            self.events(0.2)
            self._queue.clear()
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._ray.shutdown()

    def _hire(self) -> _Slot:
        actor = self._ray.remote(Trainer).options(**self._options).remote()
        return _Slot(actor, actor.ready.remote())

    def _hand_out(self) -> Iterator[Event]:
        for slot in self._slots:
            if slot.is_ready and slot.spec is None and self._queue:
                slot.spec = self._queue.popleft()
                parcel = replace(pack(self._store, slot.spec), code=code_of(slot.spec.model))
                slot.actor.train.remote(slot.spec, parcel)
                slot.answer = slot.actor.listen.remote()
                yield Started(slot.spec)

    def _hear(self, slot: _Slot) -> list[Event]:
        """A worker's events, or its death."""
        try:
            said = self._ray.get(slot.answer)
        except self._ray.exceptions.RayTaskError:
            raise  # a bug in bench
        except self._ray.exceptions.RayError as error:  # the actor, its answer or its node is gone
            return self._replace(slot, error)
        if not slot.is_ready:
            self._welcome(slot, *said)
            return []
        heard = [self._received(event, parcel) for event, parcel in said]
        if any(not isinstance(event, EpochEnded) for event in heard):
            slot.spec = None
        slot.answer = None if slot.spec is None else slot.actor.listen.remote()
        return heard

    def _welcome(self, slot: _Slot, version: str, host: str, process: int) -> None:
        if version != bench.__version__:
            raise BadInput(
                f"node {host} has bench {version}, this machine {bench.__version__}; install "
                "the same version on every node of the cluster"
            )
        slot.is_ready, slot.where, slot.answer = True, f"process {process} on {host}", None

    def _received(self, event: Event, parcel: Parcel | None) -> Event:
        """Put an event's record or checkpoint into the store before passing it on."""
        if parcel is None:
            return event
        try:
            record = unpack(parcel, event.spec, self._store)
        except OSError as error:
            return no_room(event.spec, error, self._store)
        return Finished(event.spec, record) if record is not None else event

    def _replace(self, dead: _Slot, error: Any) -> list[Event]:
        """Start a new worker; retry the dead one's spec once."""
        if getattr(error, "actor_init_failed", False):
            why = str(error).strip().splitlines()[-1]
            raise BadInput(
                f"workers of the Ray cluster cannot start: {why}; install bench on every node"
            )
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(dead.actor)
        self._slots[self._slots.index(dead)] = self._hire()
        if dead.spec is None:
            return []
        key = dead.spec.run_key
        self._deaths[key] = self._deaths.get(key, 0) + 1
        if self._deaths[key] == 1:
            self._queue.appendleft(dead.spec)
            return [Lost(dead.spec, f"its worker is gone ({dead.where}); trying once more")]
        return [Failed(dead.spec, f"its worker died twice, the second time {dead.where}")]
