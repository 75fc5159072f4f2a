"""`bench sweep`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import console
from bench.cli import run as runs
from bench.cli.console import JsonOption
from bench.cli.run import AddressOption, ExecutorOption, ProtocolOption
from bench.errors import BadInput, CellsFailed, Stopped
from bench.protocol import DEFAULT_PROTOCOL, load_protocol
from bench.store import open_store

if TYPE_CHECKING:
    from bench.benchmark import Plan
    from bench.execution.places import Place
    from bench.store import Store
    from bench.sweep.plan import StudyPlan, SweepRequest
    from bench.sweep.running import Desk, StudyOutcome, Workers


SamplerOption = Annotated[str, typer.Option(help="tpe, random, gp, cmaes, qmc.")]
PrunerOption = Annotated[str, typer.Option(help="third, median, hyperband, none.")]
TimeoutOption = Annotated[
    str | None,
    typer.Option(metavar="SECONDS", help="Stop searching after so long; confirm the best so far."),
]
StorageOption = Annotated[
    str, typer.Option(metavar="URL", help="Where studies live (default: mlruns/optuna.db).")
]
DatasetOption = Annotated[
    str | None, typer.Option(help="Another data set: an id, csv:PATH, npz:PATH or folder:PATH.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every trained variant of the protocol.")]
NewStudyOption = Annotated[
    bool, typer.Option("--new-study", help="Begin another study; the old one is kept.")
]
WinnerOption = Annotated[
    str, typer.Option(metavar="FILE", help="Do not search: train the recipe of a winner.toml.")
]


def sweep(
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Variant to tune (repeatable).")
    ] = None,
    all_models: AllOption = False,
    trials: Annotated[
        str, typer.Option(metavar="N", help="Trials of each study, those finished before included.")
    ] = "30",
    latent_dim: Annotated[
        list[str] | None,
        typer.Option("--latent-dim", "-d", help="Code sizes, a study each (default: the first)."),
    ] = None,
    native: Annotated[
        bool, typer.Option("--native", help="At the code size of its origin.")
    ] = False,
    protocol: ProtocolOption = DEFAULT_PROTOCOL,
    sampler: SamplerOption = "tpe",
    pruner: PrunerOption = "third",
    timeout: TimeoutOption = None,
    workers: Annotated[
        str | None, typer.Option(metavar="N", help="Trials at once (default: one a core or GPU).")
    ] = None,
    threads: Annotated[str, typer.Option(metavar="N", help="Threads of each trial.")] = "1",
    executor: ExecutorOption = "local",
    address: AddressOption = "auto",
    storage: StorageOption = "",
    seed: Annotated[str, typer.Option(metavar="N", help="Seed of the search.")] = "0",
    dataset: DatasetOption = None,
    device: DeviceOption = "auto",
    new_study: NewStudyOption = False,
    winner: WinnerOption = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its cost, train nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tune a variant with Optuna on validation data, then confirm the winner with fresh seeds.

    Stop with Ctrl-C at any time: the same command goes on where it was.
    """
    from bench.execution.places import choose_place
    from bench.sweep.plan import SweepRequest, tunable

    cores = console.whole_number(threads, "--threads", 1, 256) or 1
    place = choose_place(executor, address, cores)
    found = load_protocol(protocol)
    if bool(model) + all_models + bool(winner) != 1:
        raise BadInput("say what to tune: --model NAME (repeatable), --all, or --winner FILE")
    request = SweepRequest(
        found,
        console.names(model or [], "--model") or tunable(found),
        console.whole_numbers(latent_dim or [], "--latent-dim", 1, 65_536),
        native=native,
        protocol_reference=str(Path(protocol).resolve())
        if protocol.endswith(".toml")
        else protocol,
        trials=console.whole_number(trials, "--trials", 1, 100_000) or 30,
        sampler=sampler,
        pruner=pruner,
        seed=console.whole_number(seed, "--seed", 0, 2**31 - 2000) or 0,
        timeout=console.whole_number(timeout, "--timeout", 1, 10**8),
        storage=storage,
        new_study=new_study,
        dataset="" if dataset is None else console.given(dataset, "--dataset"),
        device=place.planned_device(device),
        threads=cores,
    )
    slots = console.whole_number(workers, "--workers", 1, 256) or place.slots or None
    where = Where(place, device, slots)
    store = open_store().prepare()
    if winner:
        _train_winner(Path(winner), request, where, store, as_json)
    else:
        _sweep(request, where, store, dry_run=dry_run, as_json=as_json)


@dataclass(frozen=True)
class Where:
    """A place, the device that was asked for there, and how many workers (none: as it carries)."""

    place: "Place"
    device: str
    slots: int | None

    def moved(self, plans: list["StudyPlan"]) -> list["StudyPlan"]:
        """The studies on the device of the place."""
        return [plan.on_device(self.place.device(self.device)) for plan in plans]


def _train_winner(
    path: Path, request: "SweepRequest", where: Where, store: "Store", as_json: bool
) -> None:
    from bench.benchmark import forecast_plan
    from bench.sweep.winner import plan_winner

    made = plan_winner(path, store, request.device, request.threads)
    cost = forecast_plan(made, store, where.slots or _slots(request, made))
    made = made.on_device(where.place.device(where.device))
    runs.execute_plan(made, cost, store, as_json, place=where.place)


def _slots(request: "SweepRequest", runs: "Plan") -> int:
    from bench.benchmark import Request, default_workers

    return default_workers(Request(request.protocol, threads=request.threads), runs.specs[0].device)


def _sweep(
    request: "SweepRequest", where: Where, store: "Store", *, dry_run: bool, as_json: bool
) -> None:
    """Every study one after the other, then one report."""
    from bench.sweep.plan import plan_studies
    from bench.sweep.running import Workers, at_study

    plans = plan_studies(request, store)
    count = where.slots or _slots(request, plans[0].defaults)
    costs = [_cost(plan, store, count) for plan in plans]
    if dry_run:
        _show_plans(plans, costs, count, as_json)
        return
    plans = where.moved(plans)
    workers = Workers(count, store, where.place)
    outcomes: list[StudyOutcome] = []
    failures: list[str] = []
    try:
        for plan, cost in zip(plans, costs, strict=True):
            _announce(plan, cost, count)
            with at_study(plan, store) as desk:
                outcome = _search(desk, workers, cost["trial_seconds"])
                failures += _confirm(outcome, store, workers)
            outcomes.append(outcome)
    finally:
        workers.close()
    _show(outcomes, as_json)
    if failures:
        raise CellsFailed(f"{len(failures)} runs of winners failed, the first: {failures[0]}")


def _cost(plan: "StudyPlan", store: "Store", workers: int) -> dict[str, float]:
    """Seconds of a trial of the default recipe, of the study, and of confirming its winner."""
    from bench.forecast import forecast

    runs = plan.defaults
    one = forecast([plan.base], runs.counts, store, 1).by_run[plan.base.run_key]
    each = forecast(runs.specs, runs.counts, store, 1).by_run
    tuned, default = sum(each.values()), sum(each[spec.run_key] for spec in runs.missing)
    return {
        "trial_seconds": one,
        "search_seconds": one * plan.request.trials / workers,
        "confirm_seconds": (tuned + default) / workers,
    }


def _announce(plan: "StudyPlan", cost: dict[str, float], workers: int) -> None:
    console.say(
        f"study {plan.name}: {plan.request.trials} trials of {', '.join(plan.space)} "
        f"({plan.request.sampler}, pruner {plan.request.pruner}), at most about "
        f"{console.duration(cost['search_seconds'])} on {workers} worker(s), then "
        f"{len(plan.defaults.specs)} runs of the winner"
    )


def _search(desk: "Desk", workers: "Workers", trial_seconds: float) -> "StudyOutcome":
    """Drive the search into the display; Ctrl-C becomes Stopped."""
    from bench.cli.trials import TrialsProgress
    from bench.sweep.running import search_study

    steps = search_study(desk, workers)
    with TrialsProgress(desk.plan, workers.count, trial_seconds) as progress:
        try:
            while True:
                progress.hear(next(steps))
        except StopIteration as end:
            outcome: StudyOutcome = end.value
        except KeyboardInterrupt:
            again = "the same command"
            again += " without --new-study" if desk.plan.request.new_study else ""
            raise Stopped(f"study {desk.plan.name} is stopped; {again} goes on from here") from None
    return outcome


def _confirm(outcome: "StudyOutcome", store: "Store", workers: "Workers") -> list[str]:
    """Train the winner the ordinary way and score it on test once; returns what failed."""
    from bench.benchmark import forecast_plan
    from bench.tracking import open_tracker

    plan = outcome.confirmation
    if outcome.closer:
        console.say(f"study {outcome.study}: {outcome.closer} still works on it, or on its winner")
        return []
    if plan is None:
        return [f"study {outcome.study}: no trial came to its end, there is no winner"]
    if outcome.is_default:
        console.say("the default recipe won: its runs stand for the winner's")
    tracker = open_tracker(store, plan.protocol, plan.dataset_label)
    cost = forecast_plan(plan.on_device(workers.measured_on), store, workers.count)
    try:
        pool = workers.pool() if plan.missing else None
        found = runs._with_progress(plan, cost, store, pool, tracker)
    finally:
        tracker.close()
    outcome.records = found.records
    return [f"{failed.spec.title}: {failed.reason}" for failed in found.failures]


def _show_plans(
    plans: list["StudyPlan"], costs: list[dict[str, float]], workers: int, as_json: bool
) -> None:
    from bench.sweep.space import describe_range

    rows = [
        {
            "study": plan.name,
            "trials": plan.request.trials,
            "space": {key: describe_range(kind) for key, kind in plan.space.items()},
            "first": {source: dict(settings) for source, settings in plan.known.items()},
            "confirming_runs": len(plan.defaults.specs),
            "workers": workers,
            **cost,
        }
        for plan, cost in zip(plans, costs, strict=True)
    ]
    if as_json:
        console.print_json(rows)
        return
    for plan, cost in zip(plans, costs, strict=True):
        _announce(plan, cost, workers)
        table = [
            (
                key,
                describe_range(kind),
                *(
                    f"{known[key]:g}" if isinstance(known[key], float) else str(known[key])
                    for known in plan.known.values()
                ),
            )
            for key, kind in plan.space.items()
        ]
        console.print_table(plan.name, ("setting", "range", *plan.known), table)


def _show(outcomes: list["StudyOutcome"], as_json: bool) -> None:
    """What tuning gained, from fresh seeds alone; the best of the search is no result."""
    from bench.sweep.report import report

    rows = report(outcomes)
    if as_json:
        console.print_json(rows)
    else:
        console.print_table(
            "validation means over the protocol's seeds; test scores are in the leaderboard",
            ("study", ">trials", "winner", ">default", ">tuned", ">gain", ">rank", "what mattered"),
            [_cells(row) for row in rows],
        )
    missed = sum(outcome.missed for outcome in outcomes)
    if missed:
        console.say(f"{missed} trials are not in MLflow yet; repeat the command to tell it")
    last = outcomes[-1]
    console.say(
        f"see both rows with: bench leaderboard -p {last.plan.request.protocol_reference}\n"
        f"train the winner again with: {rows[-1]['repeat_winner']}\n"
        f"look at the trials with: bench ui, then {last.link}"
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    changed = " ".join(
        f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in row["changed"].items()
    )
    gain = row["gain_percent"]
    ranks = f"{row['rank_before'] or '-'} to {row['rank_after'] or '-'}"
    mattered = ", ".join(f"{k} {v:.2f}" for k, v in list(row["importance"].items())[:2])
    return (
        row["study"],
        f"{row['trials']} ({row['complete']} complete, {row['pruned']} pruned, "
        f"{row['diverged']} diverged)",
        changed or ("the default recipe" if row["winner_settings"] else "none"),
        *(f"{row[k]:.5f}" if row[k] is not None else "-" for k in ("default_mean", "tuned_mean")),
        "-" if gain is None else f"{gain:+.1f} %",
        ranks,
        mattered or "too few trials",
    )
