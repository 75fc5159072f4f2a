"""Show a plan before it runs, run it under a progress display, and report the outcome."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.cli import console
from bench.core.errors import CellsFailed

if TYPE_CHECKING:
    from bench.benchmark.forecast import Forecast
    from bench.benchmark.plan import Plan
    from bench.benchmark.running import Added, PlanEvent, PlanResult
    from bench.core.spec import RunSpec
    from bench.core.store import Store
    from bench.execution import Event
    from bench.execution.places import Place

_WORKERS = (1, 2, 4, 8, 16, 32, 64)
_KEY_DIGITS = 8
"""Of a run key: enough to name a run of a workspace (`bench figures 1a2b3c4d`)."""


def seconds_by_workers(seconds: Callable[[int], float], most: int) -> dict[int, float]:
    """Forecasts for clusters of several sizes: seconds by the number of workers.

    `most`: how many can have work at the same time.
    """
    return {count: seconds(count) for count in _WORKERS if count < 2 * max(most, 1)}


def show_sizes(found: dict[int, float], at_most: dict[int, float] | None = None) -> None:
    """Print the forecasts for clusters of several sizes; `at_most`: with every seed that may
    follow."""
    most = at_most or found
    rows = [
        (str(count), console.durations(seconds, most[count])) for count, seconds in found.items()
    ]
    console.print_table("", (">GPUs (or cores)", ">about, if as fast as this machine's"), rows)


def announce(plan: "Plan", cost: "Forecast", in_full: bool, where: str) -> None:
    """Show what will run and what it costs, before it starts."""
    missing = plan.missing
    console.say(
        f"{plan.protocol.name} on {plan.dataset_label}: {plan.in_words} runs, "
        f"{len(plan.done)} recorded, "
        f"{console.from_to(str(len(missing)), str(len(missing) + len(plan.later)))} to do"
        + (
            f", about {console.durations(cost.total_seconds, cost.most_seconds)} "
            f"on {cost.workers} worker(s){where}"
            + (f", {cost.unknown_in_words}" if cost.unknown_in_words else "")
            if missing
            else ""
        )
    )
    for note in (*plan.notes, cost.stacks_in_words):
        if note:
            console.say(note)
    if in_full:
        rows = [
            (spec.model, spec.size_name, str(spec.seed), state, key)
            for spec in plan.specs
            for key in [spec.run_key]
            for state in [_state(plan, key) or _cost(cost, key)]
        ]
        console.print_table("", ("model", ">latent", ">seed", ">cost", "run"), rows)


def _cost(cost: "Forecast", run_key: str) -> str:
    return "unknown" if run_key in cost.unknown else console.duration(cost.by_run[run_key])


def _state(plan: "Plan", run_key: str) -> str:
    """Why a run is not to do; "" if it is."""
    if run_key in plan.done:
        return "recorded"
    return "elsewhere" if run_key in plan.elsewhere else ""


def show_plan(plan: "Plan", cost: "Forecast", *, in_json: bool) -> None:
    """Show what would run, for --dry-run."""
    announce(plan, cost, not in_json, "")
    if in_json:
        console.print_json(as_json(plan, cost))


def as_json(plan: "Plan", cost: "Forecast") -> dict[str, Any]:
    """A plan with its cost, for --json; `later` are seeds that may follow. A forecast is null where
    nothing is known."""
    from bench.core.spec import to_json_types

    seconds = {**cost.by_run, **cost.later, **dict.fromkeys(cost.unknown)}

    def run(spec: "RunSpec") -> dict[str, Any]:
        return {
            "run_key": spec.run_key,
            "recorded": spec.run_key in plan.done,
            "elsewhere": spec.run_key in plan.elsewhere,
            "forecast_seconds": seconds.get(spec.run_key, 0.0),
            **to_json_types(spec),
        }

    return {
        "protocol": plan.protocol.name,
        "dataset": plan.dataset_label,
        "notes": list(plan.notes),
        "workers": cost.workers,
        "forecast_seconds": cost.total_seconds,
        "forecast_seconds_at_most": cost.most_seconds,
        "together": [[spec.run_key for spec in stack] for stack in cost.together],
        "runs": [run(spec) for spec in plan.specs],
        "later": [run(spec) for spec in plan.later],
    }


def execute_plan(
    plan: "Plan",
    cost: "Forecast",
    store: "Store",
    in_json: bool,
    look: str = "bench leaderboard",
    place: "Place | None" = None,
) -> None:
    """Run the plan under a progress display, then report the outcome and where to `look`."""
    from bench.benchmark import running
    from bench.core.recipes import FEW_STEPS
    from bench.execution.places import Workers
    from bench.leaderboard.steps import advice, few_steps
    from bench.registry.own import standings

    with (
        console.RunProgress(len(plan.missing)) as progress,
        Workers(cost.workers, store, place) as workers,
    ):
        result = running.execute_plan(plan, workers, shown_in(progress, cost))
    if result.missed:
        console.say(f"{result.missed} runs are not in MLflow yet; send them with: bench sync")
    own = standings(store, result.specs)
    if in_json:
        console.print_json(_result_as_json(plan, result) | ({"own": own} if own else {}))
    facts = (few_steps(record).get(FEW_STEPS, 0.0) for record in result.records.values())
    for line in advice(facts):
        console.say(line)
    for failed in result.failures:
        console.say(f"failed: {failed.spec.title}: {failed.reason}\n{failed.detail}".rstrip())
    for line in own:
        console.say(line)
    console.say(
        f"{result.trained} trained, {len(result.records)} of {len(result.specs)} runs recorded; "
        f"see the table with: {look}"
    )
    if result.link:
        console.say(f"compare in the browser with: bench ui, then {result.link}")
    if result.failures:
        raise CellsFailed(f"{len(result.failures)} of {len(result.specs)} runs failed (see above)")


def shown_in(progress: console.RunProgress, cost: "Forecast") -> "Callable[[PlanEvent], None]":
    """A listener that shows the events of a plan, with what remains of it."""
    from bench.benchmark.forecast import Remaining
    from bench.benchmark.running import Added, Stopping
    from bench.execution import Waiting

    remaining, begun = Remaining(cost), time.time() * 1000

    def hear(event: "PlanEvent") -> None:
        if isinstance(event, Stopping):
            console.say("stopping: the runs in progress save where they are")
            return
        if isinstance(event, Added):
            remaining.add(event.spec)
            progress.added(event.spec, _why_added(event))
            return
        if not isinstance(event, Waiting):
            remaining.hear(event)
        left = f"about {console.duration(remaining.seconds)} left"
        if isinstance(event, Waiting):
            progress.wait(left)
        else:
            _show_event(event, progress, left, begun)

    return hear


def _why_added(event: "Added") -> str:
    """The width in the unit of comparisons: of errors about a share of them."""
    from bench.metrics import METRICS

    if math.isinf(event.half_width):
        return "added, too few seeds finished"
    decibels = METRICS[event.spec.selection_metric].transform == "identity"
    width = f"{event.half_width:.2g} dB" if decibels else f"{100 * event.half_width:.2g} %"
    return f"added, the mean of the seeds so far is known to ± {width}"


def _show_event(
    event: "Event", progress: console.RunProgress, left: str, begun_unix_ms: float
) -> None:
    """Show an event as a line or a bar; `left` says what remains of the plan."""
    from bench.execution import EpochEnded, Failed, Finished, Lost, Started

    metric = event.spec.selection_metric
    match event:
        case Started(spec):
            progress.started(spec)
        case EpochEnded(spec, values) if values.unix_ms < begun_unix_ms:
            # A run that resumes first tells the epochs of earlier sittings.
            progress.resumed(spec, values.epoch)
        case EpochEnded(spec, values):
            score = values.values.get(f"val/{metric}")
            shown = score if score is not None else values.values["train/loss"]
            name = metric if score is not None else "loss"
            progress.epoch(spec, values.epoch, f"{name} {shown:.5f}", left)
        case Finished(spec, record):
            score = record.scores.get("val", record.scores.get("test", {})).get(metric)
            seconds = console.duration(record.facts["train_seconds"])
            result = record.message or f"{metric} {score:.5f} after {seconds}"
            progress.ended(spec, f"{result} (run {record.run_key[:_KEY_DIGITS]})", left)
        case Failed(spec, reason):
            progress.ended(spec, f"failed: {reason}", left)
        case Lost(spec, reason):
            progress.note(f"{spec.title}: {reason}")


def _result_as_json(plan: "Plan", result: "PlanResult") -> dict[str, Any]:
    return {
        "protocol": plan.protocol.name,
        "dataset": plan.dataset_label,
        "trained": result.trained,
        "runs": [
            {
                "run_key": record.run_key,
                "model": record.spec.model,
                "latent_dim": record.spec.latent_dim,
                "seed": record.spec.seed,
                "status": record.status,
                "scores": {part: dict(scores) for part, scores in record.scores.items()},
                "facts": dict(record.facts),
            }
            for record in result.records.values()
        ],
        "failed": [{"run": item.spec.title, "reason": item.reason} for item in result.failures],
        "mlflow": result.link,
    }
