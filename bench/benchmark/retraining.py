"""`bench verify --retrain N`: rows of the ledger are drawn, trained again and compared.

Nobody has to believe the machine that made a row: its run is planned from the shipped protocol,
trained in an empty workspace and held against the ledger with the tolerance of reproductions
(`leaderboard.merging`). Local records take no part.
"""

import dataclasses
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.benchmark.plan import Plan, Request, forecast_plan, plan
from bench.core.errors import BadInput, BenchError
from bench.core.protocol import Protocol, known_protocols
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data import DATASETS
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.ledger import LedgerRow, current, row_of
from bench.leaderboard.merging import disagreement
from bench.models.zoo import MODELS
from bench.registry.changes import unchanged
from bench.registry.results import read_results
from bench.registry.verification import Verified

MOST_SECONDS = 120.0
"""A row is drawn only if its training is forecast to take no longer on one core here."""


def retrain(
    store: Store, count: int, seed: int, progress: Callable[[str], None]
) -> Iterator[Verified]:
    """Train `count` rows of the ledger again, drawn with `seed`, one after the other.

    Drawn are ranked rows that tables show (those of origins have `bench reproduce`), of the default
    recipe of a shipped protocol at today's revision of the variant, on a data set that is here.
    `progress` is told each step. Raises BadInput if there are fewer such rows with a forecast of
    up to MOST_SECONDS.
    """
    with unchanged(store):
        rows = [row for row in current(read_results(store.registry).ledger) if _protocol(row)]
    random.Random(seed).shuffle(rows)
    done = 0
    with tempfile.TemporaryDirectory(prefix="bench-retrain-") as folder:
        workspace = Store(Path(folder)).prepare()
        for row in rows:
            if done == count:
                return
            found = _planned(row, workspace, store, progress)
            if found is not None:
                done += 1
                progress(f"[{done}/{count}] training {row.title} ({row.protocol}, {row.dataset})")
                yield _again(row, found, workspace)
    if done < count:
        raise BadInput(
            f"only {done} of {count} rows can be trained again here in under "
            f"{MOST_SECONDS / 60:.0f} minutes each; give a smaller --retrain, or fetch the data "
            "sets of the others: bench data fetch"
        )


def _protocol(row: LedgerRow) -> Protocol | None:
    """The shipped protocol by whose plan a row can be trained; None: there is none."""
    known = MODELS.get(row.model)
    if not row.ranked or row.dataset not in DATASETS:
        return None
    if row.recipe != "default" or known is None:
        return None
    if known.revision != row.model_revision or row.uncommitted:
        return None
    named = {(each.name, each.fingerprint): each for each in known_protocols()}
    return named.get((row.protocol, row.protocol_fingerprint))


def _planned(
    row: LedgerRow, workspace: Store, store: Store, progress: Callable[[str], None]
) -> RunSpec | None:
    """The run of a row; None if it takes too long, or its images are not here."""
    protocol = _protocol(row)
    assert protocol is not None
    sizes = () if row.latent_dim is None else (row.latent_dim,)
    native = row.size_name == "native"
    request = Request(
        dataclasses.replace(protocol, resume_from_ledger=False),
        (row.model,),
        sizes,
        native,
        (row.seed,),
        row.dataset,
        "cpu",
    )
    try:
        found = plan(request, workspace)
    except BenchError as error:
        progress(f"{row.title} ({row.protocol}, {row.dataset}) is left out: {error}")
        return None
    chosen = [spec for spec in found.specs if spec.run_key == row.run_key]
    if not chosen:
        raise BadInput(
            f"{row.title} ({row.protocol}, {row.dataset}) is run {row.run_key} in the ledger, its "
            "protocol plans another one; see: bench leaderboard --check"
        )
    return chosen[0] if _seconds(found, store, progress) <= MOST_SECONDS else None


def _seconds(found: Plan, store: Store, progress: Callable[[str], None]) -> float:
    return max(forecast_plan(found, store, 1, progress).by_run.values())


def _again(row: LedgerRow, spec: RunSpec, workspace: Store) -> Verified:
    part = "val" if row.selected("val") is not None else "test"
    record = execute(spec, workspace, ignore_epochs)
    again = row_of(record)
    return Verified(
        row.run_key,
        f"{row.title} ({row.protocol}, {row.dataset}), trained again",
        f"{part} {row.selection_metric}",
        row.selected(part) or float("nan"),
        again.selected(part) or float("nan"),
        disagreement(row, again),
    )
