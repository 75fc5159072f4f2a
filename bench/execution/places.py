"""Choice of the executor by the options that the user gives."""

import functools
from dataclasses import dataclass

from bench.core.errors import BadInput, unknown_name
from bench.core.store import Store
from bench.execution.cluster import RayPool, Resources, connect
from bench.execution.events import Executor
from bench.execution.local import LocalPool

EXECUTORS = ("local", "ray")
ANY = "auto"
"""Stands for the cluster that this machine belongs to."""


@dataclass(frozen=True)
class Place:
    """This machine, or the Ray cluster at `address`; the cluster is joined on first use."""

    executor: str = "local"
    address: str = ANY
    threads: int = 1

    @property
    def is_local(self) -> bool:
        """Whether specs run on this machine."""
        return self.executor == "local"

    @functools.cached_property
    def cluster(self) -> Resources:
        """The cluster's resources; raises as `connect` does."""
        return connect(self.address)

    @property
    def slots(self) -> int:
        """How many workers a cluster carries; 0 for this machine."""
        return 0 if self.is_local else self.cluster.slots(self.threads)

    @property
    def planned_slots(self) -> int:
        """As `slots`, but 0 if `auto` finds no cluster: a plan can be costed without one."""
        try:
            return self.slots
        except BadInput:
            if self.address != ANY:
                raise
            return 0

    @property
    def in_words(self) -> str:
        """How a forecast refers to the place."""
        if self.is_local:
            return ""
        which = "a Ray cluster" if self.address == ANY else f"the Ray cluster at {self.address}"
        return f" of {which}, if they are as fast as this machine's"

    def planned_device(self, asked: str) -> str:
        """The device to plan and measure with: this machine may lack the cluster's."""
        return asked if self.is_local else "cpu"

    def device(self, asked: str) -> str:
        """The device of the workers: `asked`, or the GPUs that a cluster has; "" (as planned)
        on this machine."""
        if self.is_local:
            return ""
        return ("cuda" if self.cluster.gpus else "cpu") if asked == "auto" else asked

    def open(self, workers: int, store: Store) -> Executor:
        """Start an executor with `workers` workers."""
        if self.is_local:
            return LocalPool(workers, store)
        return RayPool(workers, store, self.threads, self.cluster.gpu_share(workers))


class Workers:
    """The workers of a command on a store, started on first use; a context stops them."""

    def __init__(self, count: int, store: Store, place: Place | None = None) -> None:
        self.count = count
        self.store = store
        self.place = place or Place()
        self._pool: Executor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()

    @property
    def measured_on(self) -> str:
        """The device that forecasts are measured on; "" for the planned one."""
        return "" if self.place.is_local else self.place.planned_device("")

    def pool(self) -> Executor:
        """The executor that runs specs."""
        if self._pool is None:
            self._pool = self.place.open(self.count, self.store)
        return self._pool


def choose_place(executor: str, address: str, threads: int) -> Place:
    """The place with the given options; BadInput for an unknown executor or an extra address."""
    if executor not in EXECUTORS:
        raise unknown_name("executor", executor, EXECUTORS)
    if executor == "local" and address != ANY:
        raise BadInput(
            f"--address {address}: only --executor ray has one; add it, or leave --address out"
        )
    return Place(executor, address, threads)
