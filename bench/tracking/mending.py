"""Repair of MLflow's store after kills and moved folders."""

import time
from collections.abc import Iterable, Iterator

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from bench.core.locks import is_unused
from bench.core.owners import owner_state
from bench.core.repairs import Care, Finding
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.records.files import survey_records
from bench.records.mending import unclaimed
from bench.tracking import content
from bench.tracking.address import find_address
from bench.tracking.contract import SyncReport
from bench.tracking.database import (
    damage_of,
    files_of,
    follow_move,
    is_own,
    prepare_database,
    prepared_address,
)
from bench.tracking.experiment import ExperimentPlan, plan_for
from bench.tracking.tracker import RunTracker

_DATABASES, _RUNS, _PATHS = "damaged databases", "runs left open in MLflow", "paths of MLflow"
_MISSED = "results that MLflow lacks"
_LEFT = "left alone, another command is using it; stop that one and repeat"


def mend_database(care: Care) -> Iterator[Finding]:
    """MLflow's file, if it is the workspace's own: damaged, it is put aside and made again, and
    `mend_runs` fills it from the records."""
    address = find_address(care.store)
    if address.database is None or not (why := damage_of(address.database)):
        return
    database, what = address.database, f"{address.database} ({why})"
    if not is_own(address, care.store):
        yield care.leave(_DATABASES, what, "not of this workspace; restore it, or move it away")
        return
    with is_unused(database) as is_ours:
        if is_ours:
            what = f"{care.name(database)} ({why})"
            yield care.settle(
                _DATABASES,
                what,
                "moved",
                lambda: (
                    f"{care.set_aside(*files_of(database))}; filled again from the records "
                    "(what was made in MLflow by hand is only in the old file)"
                ),
            )
        else:
            yield care.leave(_DATABASES, care.name(database), _LEFT)


def mend_runs(care: Care) -> Iterator[Finding]:
    """Paths after a move, runs whose process is gone, results that MLflow lacks.

    Raises a `Failure` if a server does not answer.
    """
    store, address = care.store, find_address(care.store)
    if reason := address.why_not():
        raise ConnectionError(reason)
    if address.database:
        if not care.fix and (not address.database.exists() or damage_of(address.database)):
            return
        prepare_database(address.database, store.artifacts)
    if moved := follow_move(address, store, fix=care.fix):
        yield care.settle(_PATHS, f"{moved} of a moved folder", "rewritten", lambda: None)
    client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
    for run in _running(client):
        state = owner_state(run.data.tags.get(content.OWNER, ""))
        if state == "gone" or (state == "elsewhere" and care.other_hosts):
            name = f"{run.info.run_name} ({run.info.run_id})"
            yield care.settle(_RUNS, name, "closed", _close, client, run)
    # A command that trains a run sends it itself.
    records = [each for each in survey_records(store.records)[0] if _is_free(care, each)]
    lacking = _lacking(client, records)
    if lacking:
        yield care.settle(_MISSED, f"{len(lacking)} runs", "sent", _send, store, records)


def _send(store: Store, records: Iterable[RunRecord]) -> str | None:
    report = sync_records(store, records)
    return f"(MLflow did not take {report.missed})" if report.missed else None


def _lacking(client: MlflowClient, records: Iterable[RunRecord]) -> list[RunRecord]:
    """The records of which MLflow does not have the whole content."""
    there = {
        tuple(run.data.tags.get(tag) for tag in (content.KEY, content.COMPLETE, content.PROTOCOL))
        for run in _search(client, f"tags.`{content.KEY}` != ''")
    }
    return [
        each
        for each in records
        if (each.run_key, content.version(each), each.spec.protocol) not in there
    ]


def _is_free(care: Care, record: RunRecord) -> bool:
    with unclaimed(care, record.run_key) as is_ours:
        return is_ours


def _running(client: MlflowClient) -> Iterable[Run]:
    """Runs of the suite with the state RUNNING, in every experiment."""
    return _search(client, f"attributes.status = 'RUNNING' and tags.`{content.KEY}` != ''")


def _search(client: MlflowClient, query: str) -> Iterator[Run]:
    """Runs of every experiment."""
    ids = [found.experiment_id for found in client.search_experiments(view_type=ViewType.ALL)]
    token: str | None = None
    while ids:
        page = client.search_runs(ids, query, max_results=1000, page_token=token)
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
