"""Repair of MLflow's store after kills and moved folders."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from bench.core.owners import owner_state
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.tracking import content
from bench.tracking.address import find_address
from bench.tracking.contract import SyncReport
from bench.tracking.database import follow_move, prepare_database, prepared_address
from bench.tracking.experiment import ExperimentPlan, plan_for
from bench.tracking.tracker import RunTracker


@dataclass(frozen=True)
class Mended:
    """What was repaired: runs closed, runs left alone because they are alive (or may be, on
    another machine), rows with rewritten paths."""

    closed: int
    alive: int
    elsewhere: int
    paths: int


def mend(store: Store, *, other_hosts: bool = False) -> Mended:
    """Rewrite paths after a move and close the runs whose process is gone.

    Runs of other machines are left alone unless `other_hosts`. Raises BadInput for an unusable
    store, MlflowException or OSError if a server does not answer.
    """
    address = find_address(store)
    if reason := address.why_not():
        raise ConnectionError(reason)
    if address.database:
        prepare_database(address.database, store.artifacts)
    paths = follow_move(address, store)
    client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
    closed = alive = elsewhere = 0
    for run in _running(client):
        state = owner_state(run.data.tags.get(content.OWNER, ""))
        if state == "alive":
            alive += 1
        elif state == "elsewhere" and not other_hosts:
            elsewhere += 1
        else:
            _close(client, run)
            closed += 1
    return Mended(closed, alive, elsewhere, paths)


def _running(client: MlflowClient) -> Iterable[Run]:
    """Runs of the suite with the state RUNNING, in every experiment."""
    ids = [found.experiment_id for found in client.search_experiments(view_type=ViewType.ALL)]
    token: str | None = None
    while ids:
        page = client.search_runs(
            ids,
            f"attributes.status = 'RUNNING' and tags.`{content.KEY}` != ''",
            max_results=1000,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _close(client: MlflowClient, run: Run) -> None:
    """Close a run whose process ended; a command that resumes it opens it again."""
    client.set_tag(run.info.run_id, "status", "stopped")
    client.set_terminated(run.info.run_id, "KILLED", end_time=int(time.time() * 1000))


def sync_records(store: Store, records: Iterable[RunRecord]) -> SyncReport:
    """Send MLflow every record that it lacks, by experiment, with each cell's model.

    Raises BadInput for an unusable local store. A server that does not answer is tried once.
    """
    address = prepared_address(store)
    groups: dict[ExperimentPlan, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(plan_for(record), []).append(record)
    total = SyncReport(0, 0, 0)
    for plan, members in groups.items():
        tracker = RunTracker(store, plan, address)
        total += SyncReport.of(tracker.tell(record) for record in members)
        for cell in _cells(members):
            tracker.cell_finished(cell)
    return total


def _cells(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    cells: dict[object, list[RunRecord]] = {}
    for record in records:
        cells.setdefault(record.spec.cell, []).append(record)
    return list(cells.values())
