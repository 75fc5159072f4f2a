"""`bench reproduce`: selects published figures, plans their runs, collects the findings."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from bench.benchmark.plan import Plan, Request, default_workers, plan
from bench.benchmark.running import PlanEvent, execute_plan
from bench.core.errors import BadInput, CellsFailed, unknown_name
from bench.core.protocol import Protocol, origin_protocols
from bench.core.store import Store, open_store
from bench.core.tasks import TASKS
from bench.execution.places import Workers
from bench.leaderboard.ledger import current
from bench.leaderboard.origins import Finding, PublishedFigure, claims_of, findings_of
from bench.models.zoo import variant
from bench.registry.changes import unchanged
from bench.registry.results import Scope, local_rows, merge_local, read_results


def chosen_claims(names: Sequence[str], first_epochs: bool) -> list[PublishedFigure]:
    """The claims selected by name: a variant, an origin (`s1`) or a protocol of one (`s1_text`,
    or as for `bench run --protocol`: `origins/s1_text`).

    No names select all; `first_epochs` only those after the first epoch. Raises BadInput
    for a name that is none of these, or that has no such figure.
    """
    claims = claims_of(origin_protocols())
    names = [name.lower().removeprefix("origins/") for name in names]
    known = {key for claim in claims for key in _names(claim)}
    for name in names:
        if name not in known:
            raise unknown_name("variant or origin with a published figure", name, known)
    wanted = set(names)
    chosen = [claim for claim in claims if not wanted or wanted & set(_names(claim))]
    if first_epochs:
        chosen = [claim for claim in chosen if claim.expected.epoch == 1]
    without = [name for name in names if not any(name in _names(c) for c in chosen)]
    if without:
        listed = ", ".join(sorted({c.expected.model for c in claims if c.expected.epoch == 1}))
        raise BadInput(
            f"{', '.join(without)}: no figure of the first epoch was published; there are those of "
            f"{listed}"
        )
    return chosen


def _names(claim: PublishedFigure) -> tuple[str, str, str]:
    return claim.expected.model, claim.origin.lower(), claim.source


def plans_of(
    claims: Iterable[PublishedFigure], store: Store, device: str, threads: int
) -> list[Plan]:
    """One plan per protocol and budget, with only the runs that these claims need."""
    by_protocol: dict[str, list[PublishedFigure]] = {}
    for claim in claims:
        by_protocol.setdefault(claim.protocol.name, []).append(claim)
    return [
        _plan_of(group[0].protocol, group, store, (device, threads))
        for group in by_protocol.values()
    ]


def _plan_of(
    protocol: Protocol, claims: Sequence[PublishedFigure], store: Store, resources: tuple[str, int]
) -> Plan:
    device, threads = resources
    cells: dict[int | None, list[str]] = {}
    for claim in claims:
        models = cells.setdefault(claim.expected.latent_dim, [])
        models += [claim.expected.model] * (claim.expected.model not in models)
    for models in cells.values() if claims[0].expected.epoch is None else ():
        # Closed forms cost seconds and put a figure into perspective.
        models += [name for name in protocol.models if variant(name).closed_form]
    parts = [
        plan(
            Request(
                protocol,
                models=tuple(models),
                latent_dims=(size,) if size else (),
                native=size is None and TASKS[protocol.task].has_code,
                device=device,
                threads=threads,
            ),
            store,
        )
        for size, models in cells.items()
    ]
    return dataclasses.replace(
        parts[0],
        specs=tuple(spec for part in parts for spec in part.specs),
        later=tuple(spec for part in parts for spec in part.later),
        done={key: record for part in parts for key, record in part.done.items()},
        elsewhere=frozenset(key for part in parts for key in part.elsewhere),
    )


def reproduce(
    *names: str,
    first_epochs: bool = False,
    workers: int = 0,
    on_event: Callable[[PlanEvent], None] = lambda _: None,
) -> list[Finding]:
    """Check published figures, all or by name of variant or origin, as `bench reproduce`.

    `workers` and the processes are as for `bench.run`. Raises BadInput for an unknown name,
    Stopped on Ctrl-C, CellsFailed with the first reason if runs failed.
    """
    claims = chosen_claims(names, first_epochs)
    store = open_store().prepare()
    plans = plans_of(claims, store, "auto", 1)
    first = plans[0].specs[0]
    count = workers or default_workers(Request(plans[0].protocol), first.device)
    with Workers(count, store) as pool:
        failed = [item for plan in plans for item in execute_plan(plan, pool, on_event).failures]
    if failed:
        raise CellsFailed(f"{len(failed)} runs failed, the first: {failed[0].reason}")
    return findings(claims, store)


def findings(claims: Sequence[PublishedFigure], store: Store) -> list[Finding]:
    """The claims judged by the runs in this store, or, if there are none, by the ledger."""
    with unchanged(store):
        results = read_results(store.registry)
    merged = merge_local(store, results, Scope(), refresh=False)
    ours = current(merged.ledger)
    return findings_of(claims, results.ledger, local_rows(store, Scope()), ours)
