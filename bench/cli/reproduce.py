"""`bench reproduce`."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import console
from bench.cli.options import DeviceOption, JsonOption, ThreadsOption, WorkersOption
from bench.core.errors import CellsFailed, CheckFailed
from bench.core.store import open_store

if TYPE_CHECKING:
    from bench.leaderboard.origins import Finding, PublishedFigure


def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Variants or origins (default: all): fc_ae, s2."),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the figures with cost and result; train nothing.")
    ] = False,
    first_epochs: Annotated[
        bool, typer.Option("--first-epochs", help="Only figures published for epoch 1.")
    ] = False,
    wide: Annotated[
        bool, typer.Option("--wide", help="Also what each figure means, and what misleads.")
    ] = False,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Check the figures that the origins published, using their own recipes.

    Exit code 3 if the mean over our seeds misses a published figure. Ctrl-C stops; the same
    command resumes.
    """
    from bench.benchmark.reproduction import chosen_claims, findings

    claims = chosen_claims(console.names(names or [], "NAME"), first_epochs)
    store = open_store()
    failed = ""
    if not list_:
        failed = _run(claims, device, workers, threads)
    found = findings(claims, store)
    if as_json:
        console.print_json([_as_json(finding) for finding in found])
    else:
        _print(found, list_, wide)
    if failed:
        raise CellsFailed(failed)
    if not list_:
        _raise_missed(found)


def _run(claims: list["PublishedFigure"], device: str, slots: int | None, threads: int) -> str:
    """Train what is missing, one protocol after the other; returns the failures in one line."""
    from bench.benchmark.checks import check_memory
    from bench.benchmark.plan import Request, default_workers, forecast_plan
    from bench.benchmark.reproduction import plans_of
    from bench.cli.plan_view import execute_plan
    from bench.tracking import tracking_is_off

    tracking_is_off()  # raises if that is unclear, before anything is done
    store = open_store().prepare()
    plans = plans_of(claims, store, device, threads)
    first = plans[0].specs[0]
    workers = slots or default_workers(Request(plans[0].protocol, threads=threads), first.device)
    check_memory(max((plan.sizes for plan in plans), key=lambda sizes: sizes.train), workers)
    costs = [forecast_plan(plan, store, workers, console.saying_seldom()) for plan in plans]
    console.say_where(store)
    missing = sum(len(plan.missing) for plan in plans)
    total = console.duration(sum(cost.total_seconds for cost in costs))
    console.say(
        f"{len(claims)} published figures, {sum(len(plan.specs) for plan in plans)} runs, "
        f"{missing} to do" + (f", about {total} on {workers} worker(s)" if missing else "")
    )
    failures = []
    for plan, cost in zip(plans, costs, strict=True):
        if plan.missing:
            console.say(f"{plan.protocol.name}: {plan.protocol.description}")
        try:
            execute_plan(plan, cost, store, in_json=False, look="bench reproduce --list")
        except CellsFailed as error:
            failures.append(f"{plan.protocol.name}: {error}")
    return "; ".join(failures)


def _print(found: list["Finding"], costs: bool, wide: bool) -> None:
    """One row per figure: what was published, ours, and below it which figure; `wide`: also what a
    reader should know of it."""
    from bench.leaderboard.origins import finding_cells
    from bench.leaderboard.wording import DASH
    from bench.models.rows import ORIGINS

    columns = ("variant", ">published", ">ours", ">difference", "verdict")
    rows = []
    for finding in found:
        wanted = finding.claim.expected
        name, figure, published, tolerance, seeds, change, verdict, beside, note = finding_cells(
            finding
        )
        cost = f"{wanted.minutes:g} core minutes" if wanted.minutes else "same run as above"
        ours = "-" if finding.ours is None else f"{finding.ours:.4g}"
        short, _, detail = verdict.partition(" (")
        remarks = [
            f"{finding.claim.source}: {figure}",
            f"within {tolerance}" if tolerance != DASH else "",
            f"({detail}" if detail else "",
            cost if costs else _whence(finding),
        ]
        if wide:
            remarks += [f"ours {seeds}", f"under our protocol {beside}"]
            remarks += [wanted.definition if costs else "", note]
        cells = (name, published, ours, change, short)
        rows.append((cells, "; ".join(text for text in remarks if text)))
    console.print_rows(columns, rows)
    shown = {finding.claim.origin for finding in found}
    for origin in sorted(shown & ORIGINS.keys()):
        console.show_wrapped(f"{origin}: {ORIGINS[origin]}")
    if not wide:
        console.say("what they mean, and our protocol's scores beside them: --wide")


def _whence(finding: "Finding") -> str:
    """The source of our figure, and the ledger's if that is another one."""
    if not finding.run_keys:
        return "-"
    if not finding.local:
        return "ledger"
    ledger = finding.committed
    if ledger is None:
        return "here"
    figure = "" if ledger.ours is None else f" {ledger.ours:.4g}"
    # With fewer seeds than the ledger has, the verdict may differ.
    other = "" if ledger.verdict == finding.verdict else f", {ledger.verdict}"
    return f"here (ledger{figure}{other})"


def _as_json(finding: "Finding") -> dict[str, Any]:
    wanted, beside = finding.claim.expected, finding.beside
    return {
        "origin": finding.claim.origin,
        "protocol": finding.claim.protocol.name,
        "model": wanted.model,
        "latent_dim": wanted.latent_dim,
        "figure": finding.claim.figure,
        "definition": wanted.definition,
        "published": wanted.value,
        "lowest": None if wanted.value is None else wanted.value - wanted.margin,
        "highest": finding.larger if wanted.value is None else wanted.value + wanted.margin,
        "ours": finding.ours,
        "ours_by_seed": dict(finding.scores),
        "diverged_seeds": list(finding.diverged),
        "ours_from": None if not finding.run_keys else "here" if finding.local else "ledger",
        "ledger": None if finding.committed is None else finding.committed.ours,
        "ledger_verdict": None if finding.committed is None else finding.committed.verdict,
        "difference": None if math.isnan(finding.difference) else finding.difference,
        "verdict": finding.verdict,
        "run_keys": list(finding.run_keys),
        "core_minutes": wanted.minutes or None,
        "under_our_protocol": None if beside is None else dict(vars(beside)),
        "note": wanted.note,
    }


def _raise_missed(found: list["Finding"]) -> None:
    missed = [finding for finding in found if finding.missed]
    if missed:
        listed = ", ".join(f"{f.claim.variant} ({f.claim.figure})" for f in missed)
        raise CheckFailed(f"{len(missed)} of {len(found)} figures were not reproduced: {listed}")
