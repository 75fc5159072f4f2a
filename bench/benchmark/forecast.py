"""What a plan will cost on this machine, measured before it starts.

Each variant at each latent size is timed once, in a worker, on the plan's device and threads;
the speeds are kept in `mlruns/costs.json` under the machine's signature.
"""

import functools
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from bench.benchmark.stacks import chosen_stacks, may_stack
from bench.core.errors import BenchError
from bench.core.paths import regular
from bench.core.spec import RunSpec, SplitSizes, Stack, TrialSpec, cells_of
from bench.core.store import Store, write_atomically
from bench.execution import EpochEnded, Event, Failed, Finished
from bench.execution.devices import available_cores
from bench.execution.stopwatch import MEASURED, Speeds, Stopwatch
from bench.models.zoo import variant
from bench.tracking import tracking_is_off
from bench.tracking.address import find_address

_WORKER_SECONDS = 3.0
"""Start of a worker's interpreter, torch and the images, once per worker."""
_ROUND_SECONDS = 1.0
"""Scoring, gallery and record of one run, in its worker."""
_TRACKER_SECONDS, _NEW_STORE_SECONDS = 4.0, 3.0
"""Start of MLflow in the head, once per command, and making its store."""
_PUBLISH_SECONDS, _TRIAL_SECONDS = 1.7, 0.4
"""Figures and MLflow, in the head: of one run, of one trial."""
_TRUSTED_SECONDS = 60.0
"""For so long a forecast is not corrected by what was seen; then it counts as much as this."""
STUDY_SECONDS = 4.0
"""Analysis and figures of a search, at its end."""
_TOGETHER = f" | alone and {MEASURED} seeds together"
"""Marks the speeds that `Stopwatch.measure_together` gives."""


@dataclass(frozen=True)
class Machine:
    """What every command on a machine pays besides its trainings.

    `cores` for all processes of the command; 0 where the workers have a GPU or a machine of their
    own. `lead`: seconds until the first worker starts. `publish`: seconds of the head for each
    result.
    """

    cores: int
    lead: float = 0.0
    publish: float = 0.0

    def seconds(
        self, runs: Sequence[float], workers: int, threads: int = 1, *, results: int = 0
    ) -> float:
        """Wall-clock seconds of `runs`, given in seconds on an idle machine, longest first.

        `results`: how many the head publishes, where some of `runs` are stacks of several.
        Workers beyond the cores do not help: the processor time of all processes bounds the whole.
        """
        if not runs:
            return 0.0
        loads = [_WORKER_SECONDS] * workers
        for seconds in sorted(runs, reverse=True):
            loads[loads.index(min(loads))] += seconds
        published = self.publish * (results or len(runs))
        spent = sum(runs) * threads + _WORKER_SECONDS * workers + published
        bound = spent / self.cores if self.cores else 0.0
        return self.lead + max(*loads, bound, published) + self.publish


def machine_of(store: Store, spec: RunSpec, *, local: bool = True) -> Machine:
    """The machine for specs such as this one; `local` false: the workers are a cluster's."""
    on_cores = local and spec.device == "cpu"
    cores = available_cores() if on_cores else 0
    if tracking_is_off():
        return Machine(cores)
    new = not (store.mlruns / "mlflow.db").exists() and find_address(store).database is not None
    lead = _TRACKER_SECONDS + (_NEW_STORE_SECONDS if new else 0.0)
    trial = isinstance(spec, TrialSpec)
    return Machine(cores, lead, _TRIAL_SECONDS if trial else _PUBLISH_SECONDS)


@dataclass(frozen=True)
class Forecast:
    """Seconds by run key, and for the whole plan on `workers` workers of `machine`.

    `later`: the same of seeds that may follow; `longest` is the sum of those of one cell, which
    follow one after the other. `together`: seeds that train as one network; `gains`: how many
    times as fast they do, by run key. `unknown`: runs of models of your own that failed when they
    were measured; they count as no time.
    """

    by_run: Mapping[str, float]
    workers: int
    machine: Machine = Machine(0)
    threads: int = 1
    later: Mapping[str, float] = field(default_factory=dict)
    longest: float = 0.0
    together: tuple[Stack, ...] = ()
    gains: Mapping[str, float] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()

    @property
    def total_seconds(self) -> float:
        """Wall-clock seconds of the whole plan, if no seed follows."""
        return self.on(self.workers)

    @property
    def most_seconds(self) -> float:
        """The same if every seed follows that may."""
        return self.most_on(self.workers)

    @property
    def effective_workers(self) -> float:
        """How many workers make progress at full speed."""
        return min(self.workers, self.machine.cores / self.threads or self.workers)

    def on(self, workers: int) -> float:
        """`total_seconds` for another number of workers."""
        jobs = _jobs(self.by_run, self.together)
        return self.machine.seconds(jobs, workers, self.threads, results=len(self.by_run))

    def most_on(self, workers: int) -> float:
        """`most_seconds` for another number of workers."""
        runs = [*_jobs(self.by_run, self.together), *self.later.values()]
        results = len(self.by_run) + len(self.later)
        in_all = self.machine.seconds(runs, workers, self.threads, results=results)
        return max(in_all, self.on(workers) + self.longest)

    @property
    def unknown_in_words(self) -> str:
        """Which runs the forecast leaves out; empty if none."""
        count = len(self.unknown & self.by_run.keys())
        return f"without {count} runs of unknown speed" if count else ""

    @property
    def stacks_in_words(self) -> str:
        """What trains as one network and how much faster; empty if nothing does."""
        if not self.together:
            return ""
        names = list(dict.fromkeys(stack[0].model for stack in self.together))
        gains = [self.gains[stack[0].run_key] for stack in self.together]
        low, high = f"{min(gains):.2f}", f"{max(gains):.2f}"
        gain = low if low == high else f"{low} to {high}"
        runs, stacks = sum(map(len, self.together)), len(self.together)
        return (
            f"{runs} runs train as {stacks} {'stack' if stacks == 1 else 'stacks'} of seeds "
            f"({', '.join(names)}): measured here, {gain} times as fast as one by one"
        )


def _jobs(by_run: Mapping[str, float], together: Sequence[Stack]) -> list[float]:
    """The seconds of each stack, and of each run that is in none."""
    left, jobs = dict(by_run), []
    for stack in together:
        jobs.append(sum(left.pop(spec.run_key) for spec in stack))
    return [*jobs, *left.values()]


def forecast(
    specs: Iterable[RunSpec],
    sizes: SplitSizes,
    store: Store,
    workers: int,
    progress: Callable[[str], None] = lambda _: None,
    *,
    later: Sequence[RunSpec] = (),
    local: bool = True,
) -> Forecast:
    """The seconds of each spec; measures the variants that were not measured before.

    `later`: seeds that may follow, of the same cells. `local` false: the workers are those of a
    cluster. `progress` gets a line before each measurement, which takes a second or two, and one
    for each model of your own that fails then: its runs are `unknown`.
    """
    known, specs = _read(store), _once(specs)
    unknown = {_signature(spec, sizes): spec for spec in specs}
    unknown = {key: spec for key, spec in unknown.items() if key not in known}
    first = [cell[0] for cell in may_stack(specs, sizes)] if local else []
    stacks = {_signature(spec, sizes) + _TOGETHER: spec for spec in first}
    stacks = {key: spec for key, spec in stacks.items() if key not in known}
    if unknown or stacks:
        try:
            with Stopwatch() as stopwatch:
                for count, (key, spec) in enumerate(unknown.items(), start=1):
                    what = f"{spec.model} at {spec.size_name}" if spec.has_code else spec.model
                    progress(f"measuring the speed of {what} ({count} of {len(unknown)})")
                    _measure(stopwatch.measure, key, spec, sizes, known, progress)
                for count, (key, spec) in enumerate(stacks.items(), start=1):
                    what = f"a stack of {spec.model} at {spec.size_name}"
                    progress(f"measuring the speed of {what} ({count} of {len(stacks)})")
                    _measure(stopwatch.measure_together, key, spec, sizes, known, progress)
        finally:  # measurements before Ctrl-C are kept
            write_atomically(store.costs, json.dumps(known, indent=1, sort_keys=True).encode())
    return _add_up((specs, later), sizes, known, workers, store, local)


def _measure(
    ask: Callable[[RunSpec, SplitSizes], Speeds],
    key: str,
    spec: RunSpec,
    sizes: SplitSizes,
    known: dict[str, Speeds],
    progress: Callable[[str], None],
) -> None:
    """Add a speed to `known`. What a model of your own raises is its own failure: its runs say so,
    and the others go on."""
    try:
        known[key] = ask(spec, sizes)
    except BenchError as error:
        if not spec.source:
            raise
        progress(f"{error}; how long {spec.model} takes is unknown")


def known_forecast(
    specs: Iterable[RunSpec],
    sizes: SplitSizes,
    store: Store,
    workers: int,
    later: Sequence[RunSpec] = (),
) -> Forecast | None:
    """The forecast from earlier measurements; None if one of bench's own models is missing."""
    known, specs = _read(store), _once(specs)
    if any(_signature(spec, sizes) not in known for spec in specs if not spec.source):
        return None
    return _add_up((specs, later), sizes, known, workers, store, local=True)


def _once(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Each run once: the default of a search may be a run of the table as well."""
    return list({spec.run_key: spec for spec in specs}.values())


def _add_up(
    runs: tuple[Sequence[RunSpec], Sequence[RunSpec]],
    sizes: SplitSizes,
    known: Mapping[str, Speeds],
    workers: int,
    store: Store,
    local: bool,
) -> Forecast:
    """Seconds of each run, and of each that may follow, from its variant's speeds and the sizes of
    the split; and the stacks that shorten the whole, of those whose gain is known."""

    def seconds(spec: RunSpec, gain: float = 1.0) -> float:
        speeds = known.get(_signature(spec, sizes))
        if speeds is None:
            return 0.0
        train, score = speeds
        scored = (spec.train.epochs + 1) * sizes.validation + sizes.test
        trained = 1 if variant(spec.model).closed_form else spec.train.epochs * sizes.train
        return trained * train / gain + scored * score + _ROUND_SECONDS

    specs, later = runs
    by_run, more = ({spec.run_key: seconds(spec) for spec in given} for given in runs)
    in_a_row = [sum(more[spec.run_key] for spec in cell) for cell in cells_of(later).values()]
    machine = machine_of(store, specs[0], local=local) if specs else Machine(0)
    threads = specs[0].threads if specs else 1
    workers = max(1, min(workers, len(by_run)))
    cells: list[list[RunSpec]] = []
    gains: dict[str, float] = {}
    for cell in may_stack(specs, sizes) if local else []:
        if (found := known.get(_signature(cell[0], sizes) + _TOGETHER)) is not None:
            cells.append(cell)
            gains |= {spec.run_key: found[0] / found[1] for spec in cell}

    def with_stacks(stacks: Sequence[Stack]) -> dict[str, float]:
        members = (spec for stack in stacks for spec in stack)
        return by_run | {spec.run_key: seconds(spec, gains[spec.run_key]) for spec in members}

    def in_all(stacks: Sequence[Stack]) -> float:
        jobs = _jobs(with_stacks(stacks), stacks)
        return machine.seconds(jobs, workers, threads, results=len(by_run))

    together = chosen_stacks(cells, gains, workers, in_all)
    longest = max(in_a_row, default=0.0)
    unknown = frozenset(
        spec.run_key for spec in [*specs, *later] if _signature(spec, sizes) not in known
    )
    by_run = with_stacks(together)
    return Forecast(by_run, workers, machine, threads, more, longest, together, gains, unknown)


def _read(store: Store) -> dict[str, Speeds]:
    """Speeds measured before; an unreadable file is only a lost cache: measure again."""
    regular(store.costs)
    try:
        found = json.loads(store.costs.read_text())
        return {str(key): (float(a), float(b)) for key, (a, b) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


@functools.cache
def _torch_version() -> str:
    """Read from a file of the installed package, which takes 10 ms; torch itself takes seconds."""
    return version("torch")


def _signature(spec: RunSpec, sizes: SplitSizes) -> str:
    """What a speed depends on: machine, network, image shape, batch size, device, threads."""
    size = spec.size_name
    shape = "x".join(map(str, sizes.image_shape))
    machine = f"{platform.node()} {os.cpu_count()} cores torch {_torch_version()}"
    closed = f" {sizes.train} images" if variant(spec.model).closed_form else ""
    code = f"r{spec.model_revision}{spec.source}"
    return (
        f"{machine} | {spec.model} {code} {size} {dict(spec.hyperparameters)} "
        f"{shape} batch {spec.train.batch_size} {spec.device} {spec.threads} threads{closed}"
    )


class Remaining:
    """Time left in a plan: the forecast, corrected by the speed of the runs so far."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._by_run = dict(forecast.by_run)
        self._shares: dict[str, float] = {}
        self._begun = time.monotonic()

    def add(self, spec: RunSpec) -> None:
        """A seed follows that the forecast has among `later`."""
        self._by_run[spec.run_key] = self._forecast.later.get(spec.run_key, 0.0)

    def hear(self, event: Event) -> None:
        """Update with an event of the executor."""
        match event:
            case EpochEnded(spec, values):
                self._shares[spec.run_key] = values.epoch / spec.train.epochs
            case Finished(spec) | Failed(spec):
                self._shares[spec.run_key] = 1.0

    @property
    def seconds(self) -> float:
        """Remaining wall-clock seconds."""
        by_run, workers = self._by_run, self._forecast.effective_workers
        done = sum(by_run.get(key, 0.0) * share for key, share in self._shares.items())
        total = sum(by_run.values())
        spent = time.monotonic() - self._begun
        ahead = (total - done) / workers
        if spent <= _TRUSTED_SECONDS:  # workers are still starting
            return ahead
        # A closed form that was forecast in no time takes its evaluation and says nothing about
        # trainings: the forecast counts as much as a minute of experience.
        trusted = _TRUSTED_SECONDS * workers
        return ahead * (spent * workers + trusted) / (done + trusted)
