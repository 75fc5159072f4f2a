"""The work of `bench sweep`: plan studies, search them one by one, confirm their winners."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from bench.cli import console, gains, plan_view
from bench.core.disk import StorageFailed
from bench.core.errors import BadInput, CellsFailed, CheckFailed

if TYPE_CHECKING:
    from bench.benchmark.plan import Plan
    from bench.core.spec import RunSpec, SplitSizes
    from bench.core.store import Store
    from bench.execution.places import Place, Workers
    from bench.sweep.opening import Before
    from bench.sweep.plan import StudyPlan, SweepRequest
    from bench.sweep.running import StudyEvent, StudyOutcome


@dataclass(frozen=True)
class Where:
    """A place, the device requested there, and the number of workers (None: as many as fit)."""

    place: "Place"
    device: str
    slots: int | None

    def moved(self, plans: list["StudyPlan"]) -> list["StudyPlan"]:
        """The studies on the place's device."""
        return [plan.on_device(self.place.device(self.device)) for plan in plans]

    def check_memory(self, specs: Sequence["RunSpec"], sizes: "SplitSizes", workers: int) -> None:
        """Refuse what the workers of this machine cannot hold; other machines are not known."""
        from bench.benchmark.memory import require_memory

        if self.place.is_local:
            require_memory(specs, sizes, workers)


def train_winner(
    winner: str,
    request: "SweepRequest",
    where: Where,
    store: "Store",
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run a winner's recipe (a study's name, or a file) with the protocol's seeds."""
    from bench.benchmark.plan import forecast_plan
    from bench.sweep.winner import plan_winner, winner_path

    made = plan_winner(winner_path(winner, store), store, request.device, request.threads)
    count = where.slots or _slots(request, made)
    where.check_memory(made.missing, made.sizes, count)
    cost = forecast_plan(made, store, count)
    if dry_run:
        plan_view.show_plan(made, cost, in_json=as_json)
        return
    made = made.on_device(where.place.device(where.device))
    plan_view.execute_plan(made, cost, store, as_json, place=where.place)


def _slots(request: "SweepRequest", runs: "Plan") -> int:
    from bench.benchmark.plan import Request, default_workers

    return default_workers(Request(request.protocol, threads=request.threads), runs.specs[0].device)


def search_all(
    request: "SweepRequest", where: Where, store: "Store", *, dry_run: bool, as_json: bool
) -> None:
    """Search every study, one after the other, then report."""
    from bench.execution.places import Workers
    from bench.registry.results import uncommitted_changes
    from bench.sweep.opening import look_up
    from bench.sweep.plan import plan_studies

    plans = plan_studies(request, store)
    before = look_up(plans, store)  # refuses what cannot go on before anything is trained
    count = where.slots or _slots(request, plans[0].defaults)
    for plan in plans:
        where.check_memory([plan.largest] * count, plan.defaults.sizes, count)
    local = where.place.is_local
    costs = [
        _cost(plan, store, count, found, local) for plan, found in zip(plans, before, strict=True)
    ]
    console.say_where(store)
    if warning := uncommitted_changes(store):
        console.say(warning)
    for note in dict.fromkeys(note for plan in plans for note in plan.defaults.notes):
        console.say(note)
    if dry_run:
        _show_plans(plans, costs, count, local, as_json)
        return
    outcomes: list[StudyOutcome] = []
    failures: list[str] = []
    with Workers(count, store, where.place) as workers:
        for number, (plan, cost) in enumerate(zip(where.moved(plans), costs, strict=True)):
            _announce_all(costs[number:])
            _announce(plan, cost, count)
            try:
                outcomes.append(_study(plan, cost["trial_seconds"], workers))
            except (BadInput, CellsFailed, CheckFailed) as error:
                if len(plans) == 1 or isinstance(error, StorageFailed):
                    raise
                failures.append(f"study {plan.name}: {error}")
                console.say(f"{failures[-1]}; continuing with the others")
            else:
                failures += _failures(outcomes[-1])
    if outcomes or as_json:
        gains.show(outcomes, as_json)
    if failures:
        raise CellsFailed(f"{len(failures)} failed, the first: {failures[0]}")


def _study(plan: "StudyPlan", trial_seconds: float, workers: "Workers") -> "StudyOutcome":
    """One study from its first trial to its winner's runs, under two displays in turn."""
    from bench.sweep.running import tune_study

    with StudyDisplay(plan, trial_seconds, workers) as display:
        return tune_study(plan, workers, display.hear)


def _failures(outcome: "StudyOutcome") -> list[str]:
    if outcome.confirmation is None and not outcome.closer:
        return [f"study {outcome.study}: no trial finished, so there is no winner"]
    return [f"{failed.spec.title}: {failed.reason}" for failed in outcome.failures]


class StudyDisplay:
    """Shows the events of one study: its trials first, then the runs of its winner."""

    def __init__(self, plan: "StudyPlan", trial_seconds: float, workers: "Workers") -> None:
        self._plan, self._trial_seconds, self._workers = plan, trial_seconds, workers
        self._shown = contextlib.ExitStack()

    def __enter__(self) -> "StudyDisplay":
        from bench.cli.trials import TrialsProgress

        trials = TrialsProgress(self._plan, self._workers.count, self._trial_seconds)
        self._show: Callable[[Any], None] = self._shown.enter_context(trials).hear
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def hear(self, event: "StudyEvent") -> None:
        """Show an event."""
        from bench.sweep.running import Confirming

        if isinstance(event, Confirming):
            self._shown.close()
            self._confirming(event.outcome)
        else:
            self._show(event)

    def _confirming(self, outcome: "StudyOutcome") -> None:
        from bench.benchmark.plan import forecast_plan

        plan, workers = outcome.confirmation, self._workers
        if outcome.closer:
            still = "still works on it, or on its winner"
            console.say(f"study {outcome.study}: {outcome.closer} {still}")
        elif plan is not None:
            if outcome.is_default:
                console.say("the default recipe won: its runs are the winner's")
            measured = plan.on_device(workers.measured_on)
            local = workers.place.is_local
            cost = forecast_plan(
                measured, workers.store, workers.count, console.saying_seldom(), local=local
            )
            progress = console.RunProgress(len(plan.missing))
            self._show = plan_view.shown_in(self._shown.enter_context(progress), cost)


class _Cost(TypedDict):
    """A study as it starts or resumes, and seconds: of a trial of the default recipe, of the rest
    of the search, and of confirming the winner with every seed that may follow. Runs that do so:
    `of_winner` and `beside` it, to `..._at_most`."""

    study: str
    finished_trials: int
    of_winner: int
    of_winner_at_most: int
    beside: int
    beside_at_most: int
    trial_seconds: float
    search_seconds: float
    confirm_seconds: float


def _cost(plan: "StudyPlan", store: "Store", workers: int, before: "Before", local: bool) -> _Cost:
    from bench.benchmark.forecast import STUDY_SECONDS, forecast, machine_of

    sizes, first = plan.defaults.sizes, plan.defaults.specs[0]
    beside, later = plan.missing_beside(store), plan.defaults.later
    least, most = plan.winner_runs
    each = forecast([plan.base, first, *beside], sizes, store, 1, console.say).by_run
    one, of_winner = each[plan.base.run_key], each[first.run_key]
    left = max(0, plan.request.trials - before.finished)
    threads = plan.request.threads
    search = machine_of(store, plan.base, local=local).seconds([one] * left, workers, threads)
    planned = [of_winner] * least + [each[spec.run_key] for spec in beside]
    # Every seed that may follow; those of one recipe follow one after the other.
    more = (most - least) + len(later)
    confirm = machine_of(store, first, local=local)
    together, at_once = planned + [of_winner] * more, min(workers, len(planned))
    in_a_row = of_winner * max(most - least, len(later))
    return {
        "study": before.name,
        "finished_trials": before.finished,
        "of_winner": least,
        "of_winner_at_most": most,
        "beside": len(beside),
        "beside_at_most": len(beside) + len(later),
        "trial_seconds": one,
        "search_seconds": search + STUDY_SECONDS,
        "confirm_seconds": max(
            confirm.seconds(together, at_once, threads),
            confirm.seconds(planned, at_once, threads) + in_a_row,
        ),
    }


def _announce(plan: "StudyPlan", cost: _Cost, workers: int) -> None:
    before, beside = cost["finished_trials"], cost["beside_at_most"]
    total = cost["search_seconds"] + cost["confirm_seconds"]
    console.say(
        f"study {cost['study']}: {plan.request.trials} trials of {', '.join(plan.space)} "
        f"({plan.request.sampler}, pruner {plan.request.pruner}), "
        + (f"{before} of them finished, " if before else "")
        + f"then {_range(cost['of_winner'], cost['of_winner_at_most'])} runs of the winner"
        + (f" and {_range(cost['beside'], beside)} to compare it with" if beside else "")
        + f"; at most about {console.duration(total)} on {workers} worker(s)"
    )


def _range(least: int, most: int) -> str:
    return console.from_to(str(least), str(most))


def _announce_all(costs: list[_Cost]) -> None:
    """Show how long several studies take, one after the other."""
    if len(costs) > 1:
        total = sum(cost["search_seconds"] + cost["confirm_seconds"] for cost in costs)
        console.say(f"{len(costs)} studies to go, at most about {console.duration(total)} in all")


def _show_plans(
    plans: list["StudyPlan"],
    costs: list[_Cost],
    workers: int,
    local: bool,
    as_json: bool,
) -> None:
    def seconds(count: int) -> float:
        """Total of all studies, one after the other."""
        spent = sum(cost["search_seconds"] + cost["confirm_seconds"] for cost in costs)
        return spent * workers / count

    most = max(plan.request.trials for plan in plans)
    by_workers = {} if local else plan_view.seconds_by_workers(seconds, most)
    if as_json:
        extra: dict[str, object] = {"workers": workers}
        if by_workers:
            extra["by_workers"] = by_workers
        rows = [
            {**_plan_as_json(plan), **extra, **cost}
            for plan, cost in zip(plans, costs, strict=True)
        ]
        console.print_json(rows)
        return
    _announce_all(costs)
    for plan, cost in zip(plans, costs, strict=True):
        _announce(plan, cost, workers)
        _print_space(plan, cost["study"])
    if by_workers:
        plan_view.show_sizes(by_workers)


def _plan_as_json(plan: "StudyPlan") -> dict[str, object]:
    from bench.sweep.space import describe_range

    return {
        "trials": plan.request.trials,
        "space": {key: describe_range(kind) for key, kind in plan.space.items()},
        "first": {source: dict(settings) for source, settings in plan.known.items()},
    }


def _print_space(plan: "StudyPlan", study: str) -> None:
    """Show the search ranges, and the settings of the recipes that are tried first."""
    from bench.sweep.space import describe_range

    def shown(value: object) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)

    rows = [
        (key, describe_range(kind), *(shown(known[key]) for known in plan.known.values()))
        for key, kind in plan.space.items()
    ]
    console.print_table(study, ("setting", "range", *plan.known), rows)
