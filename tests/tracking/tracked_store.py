"""A workspace with a few real records that MLflow was told of, made once and copied by tests."""

import shutil
import sqlite3
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from tiny import TINY

from bench.benchmark.plan import Request, plan
from bench.core.protocol import Protocol, load_protocol
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.records.files import iter_records
from bench.tracking import open_tracker
from bench.tracking.address import find_address

MODELS = ("pca", "fc_ae")


def tiny(folder: Path) -> Protocol:
    """The tests' protocol with the models and seeds of this store."""
    models = ", ".join(f'"{model}"' for model in MODELS)
    text = TINY.replace('"mean_image", "pca", "fc_ae"', models).replace("[0, 1]", "[0, 1, 2]")
    path = folder / "tiny.toml"
    path.write_text(text)
    return load_protocol(str(path))


def specs_of(protocol: Protocol, store: Store, *models: str) -> list[RunSpec]:
    return list(plan(Request(protocol, models, (4,), seeds=(0, 1, 2)), store).specs)


def build(folder: Path, protocol: Protocol) -> Store:
    """Records of two variants (the trained one with three seeds), told to a new MLflow store."""
    store = Store(folder).prepare()
    tracker = open_tracker(store, protocol, protocol.dataset)
    for spec in specs_of(protocol, store, *MODELS):
        tracker.tell(execute(spec, store, ignore_epochs))
    for cell in cells(store):
        tracker.cell_finished(cell)
    tracker.close()
    assert tracker.missed == 0
    return store


def cells(store: Store) -> list[list[RunRecord]]:
    found: dict[object, list[RunRecord]] = {}
    for record in iter_records(store.records):
        found.setdefault(record.spec.cell, []).append(record)
    return list(found.values())


def copy(source: Store, target: Path, *, with_mlflow: bool = True) -> Store:
    """A copy of the workspace; without what MLflow was told if so asked."""
    ignore = None if with_mlflow else shutil.ignore_patterns("mlflow.db*", "artifacts")
    shutil.copytree(source.mlruns, target / "mlruns", ignore=ignore, dirs_exist_ok=True)
    return Store(target).prepare()


def empty_mlflow(source: Store, target: Store) -> None:
    """Give `target` the MLflow store of `source` without its experiments and runs."""
    database = target.mlruns / "mlflow.db"
    shutil.copy(source.mlruns / "mlflow.db", database)
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA foreign_keys = OFF")
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if name != "alembic_version" and not name.startswith("sqlite_")
    ]
    for name in tables:
        keep = " WHERE experiment_id != 0" if name == "experiments" else ""
        connection.execute(f"DELETE FROM {name}{keep}")
    connection.commit()
    connection.close()


def client_of(store: Store) -> MlflowClient:
    uri = find_address(store).uri
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def runs_of(store: Store) -> dict[str, Run]:
    client = client_of(store)
    ids = [found.experiment_id for found in client.search_experiments()]
    runs = client.search_runs(ids, max_results=1000)
    by_key = {run.data.tags["bench.run_key"]: run for run in runs}
    assert len(by_key) == len(runs), "a run was told twice"
    return by_key
