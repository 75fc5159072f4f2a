"""Check-up of the workspace: repairs it, then lists its content and what this machine offers."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping

import psutil

import bench
from bench.core.errors import BenchError
from bench.core.store import Store
from bench.core.text import without_secrets
from bench.execution.devices import accelerators
from bench.records.files import convert_records, remove_leftovers, survey_records
from bench.registry.changes import mend_registry
from bench.registry.earlier import convert_names
from bench.tracking import SyncReport, tracking_is_off
from bench.tracking.address import find_address
from bench.tracking.mending import mend, sync_records
from bench.tracking.tracker import Failure

_LIBRARIES = ("torch", "torchvision", "numpy", "mlflow", "optuna", "safetensors", "scikit-image")


def tell_mlflow(store: Store, protocol: str = "") -> SyncReport:
    """Send MLflow the sound records (of one protocol, if named) that it lacks.

    Raises BadInput for an unusable local store.
    """
    records, _ = survey_records(store.records)
    return sync_records(
        store, [record for record in records if protocol in ("", record.spec.protocol)]
    )


def damaged_records(store: Store) -> list[str]:
    """One line for each record that cannot be read."""
    return survey_records(store.records)[1]


def recorded_protocols(store: Store) -> set[str]:
    """Names of the protocols with sound records in this store."""
    return {record.spec.protocol for record in survey_records(store.records)[0]}


def examine(store: Store, *, other_hosts: bool = False) -> dict[str, dict[str, object]]:
    """Repair first, then look: sections of plain values, for a table or for JSON."""
    return {
        "mended": _mended(store, other_hosts),
        "workspace": _workspace(store),
        "machine": _machine(),
        "versions": _versions(),
        "data sets": dict(_data_sets()),
    }


def _mended(store: Store, other_hosts: bool) -> dict[str, object]:
    """Remove leftover folders, then complete MLflow's runs that have a record; close others."""
    found: dict[str, object] = {
        "interrupted changes of the registry finished": mend_registry(store),
        "leftover folders removed": remove_leftovers(store.records),
        "records of an earlier version converted": convert_records(store.records),
        "names of own data in the registry converted": convert_names(store),
    }
    if tracking_is_off():
        return {**found, "MLflow": "not asked: tracking is off (BENCH_TRACKING=off)"}
    try:
        mended = mend(store, other_hosts=other_hosts)
        report = tell_mlflow(store)
    except Failure as error:
        return {**found, "MLflow": f"does not answer: {without_secrets(str(error))}"}
    return {
        **found,
        "paths of a moved folder rewritten": mended.paths,
        "runs closed whose process is gone": mended.closed,
        "runs still training": mended.alive,
        "runs of other machines left alone": mended.elsewhere,
        "runs told to MLflow": report.told,
        "runs MLflow did not take": report.missed,
    }


def _workspace(store: Store) -> dict[str, object]:
    sound, damaged = survey_records(store.records)
    return {
        "root": str(store.root),
        "MLflow": find_address(store).shown,
        "records": len(sound),
        "damaged records": "\n".join(damaged) or "none",
        "free disk": f"{psutil.disk_usage(str(store.root)).free / 2**30:.1f} GiB",
    }


def _machine() -> dict[str, object]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores for us": cores,
        "free memory": f"{psutil.virtual_memory().available / 2**30:.1f} GiB",
        "GPUs": ", ".join(accelerators("cuda") + accelerators("mps")) or "none",
    }


def _versions() -> dict[str, object]:
    found: dict[str, object] = {"bench": bench.__version__, "python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def _data_sets() -> Mapping[str, object]:
    """Where each known data set is, or how to get it."""
    from bench.data import DATASETS, find_dataset

    found: dict[str, object] = {}
    for name in DATASETS:
        try:
            found[name] = str(find_dataset(name))
        except BenchError:
            found[name] = f"not here; `bench data fetch {name}` gets it"
    return found
