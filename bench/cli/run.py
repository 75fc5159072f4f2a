"""`bench run`, `bench models`, `bench protocols`, `bench speed`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import cluster_sizes, console
from bench.cli.console import JsonOption
from bench.core.errors import BadInput, CellsFailed, Stopped
from bench.core.protocol import DEFAULT_PROTOCOL, load_protocol, shipped_protocols
from bench.core.store import open_store

if TYPE_CHECKING:
    from bench.benchmark.forecast import Forecast
    from bench.benchmark.plan import Plan
    from bench.benchmark.running import PlanResult
    from bench.core.store import Store
    from bench.execution import Event, Executor
    from bench.execution.places import Place

ProtocolOption = Annotated[
    str, typer.Option("--protocol", "-p", help="Name of a shipped protocol, or a .toml file.")
]


ExecutorOption = Annotated[
    str, typer.Option(help="local (processes on this machine) or ray (a Ray cluster).")
]
AddressOption = Annotated[
    str, typer.Option(metavar="ADDRESS", help="The Ray cluster: auto, or HOST:PORT.")
]


def run(
    protocol: ProtocolOption = DEFAULT_PROTOCOL,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Only these variants (repeatable).")
    ] = None,
    latent_dim: Annotated[
        list[str] | None, typer.Option("--latent-dim", "-d", help="Only these code sizes: 8,32.")
    ] = None,
    native: Annotated[
        bool,
        typer.Option("--native", help="At the code sizes of the origins, besides --latent-dim."),
    ] = False,
    seeds: Annotated[
        str | None, typer.Option(metavar="N", help="Number of seeds: 3 means 0, 1 and 2.")
    ] = None,
    seed: Annotated[
        list[str] | None, typer.Option("--seed", help="Exactly these seeds (repeatable).")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Another data set: an id, csv:PATH, npz:PATH or folder:PATH."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    workers: Annotated[
        str | None, typer.Option(metavar="N", help="Runs at once (default: one per core or GPU).")
    ] = None,
    threads: Annotated[str, typer.Option(metavar="N", help="Threads of each run.")] = "1",
    executor: ExecutorOption = "local",
    address: AddressOption = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its cost, train nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train and score every run of a protocol that has no record yet.

    Stop with Ctrl-C at any time: the same command resumes.
    """
    from bench.benchmark.plan import Request, default_workers, forecast_plan, plan
    from bench.execution.places import choose_place

    if seed and seeds is not None:
        raise BadInput("--seeds (how many) and --seed (which) exclude each other; give one of them")
    cores = console.whole_number(threads, "--threads", 1, 256) or 1
    place = choose_place(executor, address, cores)
    request = Request(
        load_protocol(protocol),
        models=console.names(model or [], "--model"),
        latent_dims=console.whole_numbers(latent_dim or [], "--latent-dim", 1, 65_536),
        native=native,
        seeds=console.whole_numbers(seed or [], "--seed", 0, 2**31 - 1)
        or tuple(range(console.whole_number(seeds, "--seeds", 1, 1000) or 0)),
        dataset="" if dataset is None else console.given(dataset, "--dataset"),
        device=place.planned_device(device),
        threads=cores,
    )
    slots = console.whole_number(workers, "--workers", 1, 256)
    store = open_store().prepare()
    made = plan(request, store)
    slots = slots or (place.planned_slots if dry_run else place.slots)
    slots = slots or default_workers(request, made.specs[0].device)
    cost = forecast_plan(made, store, slots)
    _show_plan(made, cost, dry_run and not as_json, place.in_words)
    if not dry_run:
        look = "bench leaderboard"
        look += f" --protocol {protocol}" if protocol != DEFAULT_PROTOCOL else ""
        look += f" --dataset {dataset}" if dataset else ""
        execute_plan(made.on_device(place.device(device)), cost, store, as_json, look, place)
        return
    sizes = {} if place.is_local else cluster_sizes.seconds_by_workers(cost.on, len(made.missing))
    if as_json:
        console.print_json(_plan_as_json(made, cost) | ({"by_workers": sizes} if sizes else {}))
    elif sizes:
        cluster_sizes.show(sizes)


def _show_plan(plan: "Plan", cost: "Forecast", in_full: bool, where: str) -> None:
    """Show what will run and what it costs, before it starts."""
    missing = plan.missing
    console.say(
        f"{plan.protocol.name} on {plan.dataset_label}: {len(plan.specs)} runs, "
        f"{len(plan.done)} recorded, {len(missing)} to do"
        + (
            f", about {console.duration(cost.total_seconds)} on {cost.workers} worker(s){where}"
            if missing
            else ""
        )
    )
    if in_full:
        rows = [
            (spec.model, spec.size_name, str(spec.seed), state, key)
            for spec in plan.specs
            for key in [spec.run_key]
            for state in ["recorded" if key in plan.done else console.duration(cost.by_run[key])]
        ]
        console.print_table("", ("model", ">latent", ">seed", ">cost", "run"), rows)


def show_plan(plan: "Plan", cost: "Forecast", *, as_json: bool) -> None:
    """Show what would run, for --dry-run."""
    _show_plan(plan, cost, not as_json, "")
    if as_json:
        console.print_json(_plan_as_json(plan, cost))


def _plan_as_json(plan: "Plan", cost: "Forecast") -> dict[str, Any]:
    from bench.core.spec import to_json_types

    return {
        "protocol": plan.protocol.name,
        "dataset": plan.dataset_label,
        "workers": cost.workers,
        "forecast_seconds": cost.total_seconds,
        "runs": [
            {
                "run_key": spec.run_key,
                "recorded": spec.run_key in plan.done,
                "forecast_seconds": cost.by_run.get(spec.run_key, 0.0),
                **to_json_types(spec),
            }
            for spec in plan.specs
        ],
    }


def execute_plan(
    plan: "Plan",
    cost: "Forecast",
    store: "Store",
    as_json: bool,
    look: str = "bench leaderboard",
    place: "Place | None" = None,
) -> None:
    """Run the plan under a progress display, then report the outcome and where to `look`."""
    from bench.execution.places import Place
    from bench.tracking import open_tracker

    tracker = open_tracker(store, plan.protocol, plan.dataset_label)
    executor = (place or Place()).open(cost.workers, store) if plan.missing else None
    try:
        outcome = _with_progress(plan, cost, store, executor, tracker)
    finally:
        if executor is not None:
            executor.close()
        tracker.close()
    if tracker.missed:
        console.say(f"{tracker.missed} runs are not in MLflow yet; send them with: bench sync")
    if as_json:
        console.print_json(_outcome_as_json(plan, outcome, tracker.link()))
    for failed in outcome.failures:
        console.say(f"failed: {failed.spec.title}: {failed.reason}\n{failed.detail}".rstrip())
    console.say(
        f"{outcome.trained} trained, {len(outcome.records)} of {len(plan.specs)} runs recorded; "
        f"see the table with: {look}"
    )
    if link := tracker.link():
        console.say(f"compare in the browser with: bench ui, then {link}")
    if outcome.failures:
        raise CellsFailed(f"{len(outcome.failures)} of {len(plan.specs)} runs failed (see above)")


def _with_progress(
    plan: "Plan", cost: "Forecast", store: "Store", executor: "Executor | None", tracker: Any
) -> "PlanResult":
    """Drive the generator of events into the display; Ctrl-C becomes Stopped."""
    from bench.benchmark.forecast import Remaining
    from bench.benchmark.plan import recorded
    from bench.benchmark.running import run as run_plan

    remaining = Remaining(cost)
    steps = run_plan(plan, store, executor, tracker)
    with console.RunProgress(len(plan.missing)) as progress:
        try:
            while True:
                event = next(steps)
                remaining.hear(event)
                _show_event(event, progress, f"about {console.duration(remaining.seconds)} left")
        except StopIteration as end:
            outcome: PlanResult = end.value
            return outcome
        except KeyboardInterrupt:
            console.say("stopping: the runs in progress save where they are")
            steps.close()
            done = len(recorded(plan.specs, store))
            raise Stopped(
                f"stopped with {done} of {len(plan.specs)} runs recorded; "
                "the same command resumes from here"
            ) from None


def _show_event(event: "Event", progress: console.RunProgress, left: str) -> None:
    """Show an event as a line or a bar; `left` says what remains of the plan."""
    from bench.execution import EpochEnded, Failed, Finished, Lost

    metric = event.spec.selection_metric
    match event:
        case EpochEnded(spec, values):
            score = values.values.get(f"val/{metric}")
            shown = score if score is not None else values.values["train/loss"]
            name = metric if score is not None else "loss"
            progress.epoch(spec, values.epoch, f"{name} {shown:.5f}", left)
        case Finished(spec, record):
            score = record.scores.get("val", record.scores.get("test", {})).get(metric)
            seconds = console.duration(record.facts["train_seconds"])
            progress.ended(spec, record.message or f"{metric} {score:.5f} after {seconds}", left)
        case Failed(spec, reason):
            progress.ended(spec, f"failed: {reason}", left)
        case Lost(spec, reason):
            progress.note(f"{spec.title}: {reason}")


def _outcome_as_json(plan: "Plan", outcome: "PlanResult", link: str) -> dict[str, Any]:
    return {
        "protocol": plan.protocol.name,
        "dataset": plan.dataset_label,
        "trained": outcome.trained,
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
            for record in outcome.records.values()
        ],
        "failed": [{"run": item.spec.title, "reason": item.reason} for item in outcome.failures],
        "mlflow": link,
    }


def models(as_json: JsonOption = False) -> None:
    """List every variant with its origin, native code size and parameters."""
    from bench.benchmark.catalogue import describe_models

    rows = describe_models()
    if as_json:
        console.print_json(rows)
        return
    console.print_table(
        "",
        ("model", "origin", ">native code", ">parameters", "what it is"),
        [
            (
                r["id"],
                r["origin"],
                console.or_dash(r["native_code_size"]),
                f"{r['parameters']:,}",
                r["line"],
            )
            for r in rows
        ],
    )


def protocols(
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the costs that are not known yet.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the shipped protocols with their cost on this machine."""
    from bench.benchmark.catalogue import describe_protocols

    rows = describe_protocols(list(shipped_protocols()), open_store(), measure)
    if as_json:
        console.print_json(rows)
        return
    console.print_table(
        "",
        ("protocol", "data set", "latent sizes", ">seeds", ">runs", ">cost here", "what it is"),
        [
            (
                r["name"],
                r["dataset"],
                " ".join(map(str, r["latent_dims"])),
                f"{r['seeds']}",
                f"{r['runs']}",
                r["cost_note"] or console.duration(r["forecast_seconds"]),
                r["description"],
            )
            for r in rows
        ],
    )


def speed(
    quick: Annotated[bool, typer.Option("--quick", help="Shorter, noisier measurements.")] = False,
    workers: Annotated[
        bool, typer.Option("--workers", help="Measure the gain of a second worker in a search.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure speed as ratios within one run: training loop, SSIM and data loading."""
    from bench.speed.ratios import measure_all
    from bench.speed.workers import measure_workers

    if workers:
        rows = measure_workers(trials=6 if quick else 12)
    else:
        rows = measure_all(seconds=0.5 if quick else 3.0)
    if as_json:
        console.print_json(rows)
        return
    console.print_table(
        "",
        ("what", ">ours", "against", ">theirs", ">ratio", ">wanted"),
        [(r["what"], r["ours"], r["against"], r["theirs"], r["ratio"], r["wanted"]) for r in rows],
    )
