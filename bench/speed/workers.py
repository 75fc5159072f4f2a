"""`bench speed --workers`: what a second worker adds to a search, measured within one run.

Trials per minute of a whole search (ask, train, report to Optuna and MLflow) with one worker and
with two, compared with what the machine allows: two independent training processes against one.
Counting starts once every worker has ended a trial, which leaves out the start-up.
"""

import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.core.protocol import DEFAULT_PROTOCOL, load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import Executor, Failed, LocalPool, TrialEnded
from bench.execution.places import Workers
from bench.sweep.events import TrialDone
from bench.sweep.plan import StudyPlan, SweepRequest, plan_studies
from bench.sweep.running import at_study, search_study

_MODEL = "fc_ae"


def measure_workers(trials: int = 16) -> list[dict[str, Any]]:
    """Two rows (`what, ours, against, theirs, ratio, wanted`), in trials per minute."""
    with _own_workspace() as store:
        plan = _plan(store, trials)
        alone, both = _search_rate(plan, store, 1), _search_rate(plan, store, 2)
        lone, pair = _process_rate(plan, store, 1), _process_rate(plan, store, 2)
    allowed = pair / lone
    wanted = f">= 1.5 (this machine allows {allowed:.2f})"
    return [
        _row("search, 2 workers", both, "1 worker", alone, wanted),
        _row("2 training processes on their own", pair, "1 process", lone, ""),
    ]


def _row(what: str, ours: float, against: str, theirs: float, wanted: str) -> dict[str, Any]:
    return {
        "what": what,
        "ours": f"{ours:.1f} trials/min",
        "against": against,
        "theirs": f"{theirs:.1f} trials/min",
        "ratio": f"{ours / theirs:.2f}",
        "wanted": wanted,
    }


@contextlib.contextmanager
def _own_workspace() -> Iterator[Store]:
    """A temporary store, without MLflow."""
    told = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-speed-") as folder:
            yield Store(Path(folder)).prepare()
    finally:
        if told is not None:
            os.environ["MLFLOW_TRACKING_URI"] = told


def _plan(store: Store, trials: int) -> StudyPlan:
    """Trials of equal cost, some seconds each: nothing is pruned."""
    protocol = load_protocol(DEFAULT_PROTOCOL)
    train = dataclasses.replace(protocol.train, epochs=max(2, protocol.train.epochs // 4))
    protocol = dataclasses.replace(protocol, train=train)
    request = SweepRequest(
        protocol,
        (_MODEL,),
        trials=trials,
        sampler="random",
        pruner="none",
        device="cpu",
        new_study=True,
    )
    return plan_studies(request, store)[0]


def _search_rate(plan: StudyPlan, store: Store, count: int) -> float:
    ends = []
    with Workers(count, store) as workers, at_study(plan, store) as desk:
        for event in search_study(desk, workers):
            if isinstance(event, TrialDone):
                ends.append(time.monotonic())
    return _per_minute(ends[count - 1 :])


def _process_rate(plan: StudyPlan, store: Store, count: int) -> float:
    """Each process has its own trials from the start; without Optuna and pruning."""
    specs: list[RunSpec] = [
        dataclasses.replace(plan.base, seed=plan.base.seed + number)
        for number in range(plan.request.trials)
    ]
    pools = [LocalPool(1, store) for _ in range(count)]
    try:
        for number, spec in enumerate(specs):
            pools[number % count].submit(spec)
        return _per_minute(_ends(pools, len(specs)))
    finally:
        for pool in pools:
            pool.close()


def _ends(pools: Sequence[Executor], wanted: int) -> list[float]:
    """When trials ended, counted from the moment when each pool had ended one."""
    ends: list[float] = []
    begun: set[int] = set()
    count = 0
    while count < wanted:
        for number, pool in enumerate(pools):
            for event in pool.events(timeout=0.02):
                if isinstance(event, Failed):
                    raise BenchError(f"a trial of the measurement failed: {event.reason}")
                if isinstance(event, TrialEnded):
                    count += 1
                    begun.add(number)
                    ends += [time.monotonic()] if len(begun) == len(pools) else []
    return ends


def _per_minute(ends: Sequence[float]) -> float:
    return 60 * (len(ends) - 1) / (ends[-1] - ends[0])
