"""Check-up of the workspace: what is to be repaired, what is there, what this machine offers."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence

import psutil

import bench
from bench.core.disk import StorageFailed, failure_behind, storage_failed
from bench.core.errors import BenchError
from bench.core.repairs import Care, Finding, Repair
from bench.core.store import Store
from bench.core.text import without_secrets
from bench.execution.devices import accelerators
from bench.records import mending as records
from bench.records.files import survey_records
from bench.registry.changes import mend_changes
from bench.registry.earlier import mend_names
from bench.registry.mirror import tell_champions
from bench.tracking import SyncReport, tracking_is_off
from bench.tracking.address import find_address
from bench.tracking.mending import mend_database, mend_runs, sync_records
from bench.tracking.tracker import Failure

_LIBRARIES = ("torch", "torchvision", "numpy", "mlflow", "optuna", "safetensors", "scikit-image")


def tell_mlflow(store: Store, protocol: str = "") -> SyncReport:
    """Send MLflow the sound records (of one protocol, if named) that it lacks.

    Raises BadInput for an unusable local store.
    """
    found, _ = survey_records(store.records)
    return sync_records(
        store, [record for record in found if protocol in ("", record.spec.protocol)]
    )


def damaged_records(store: Store) -> list[str]:
    """One line for each record that cannot be read."""
    return survey_records(store.records)[1]


def recorded_protocols(store: Store) -> set[str]:
    """Names of the protocols with sound records in this store."""
    return {record.spec.protocol for record in survey_records(store.records)[0]}


def _mend_mlflow(care: Care) -> Iterator[Finding]:
    """MLflow's file, then its runs; a file that had to be made again gets the champions too."""
    made_again = False
    for finding in mend_database(care):
        made_again |= finding.state == "repaired"
        yield finding
    yield from mend_runs(care)
    if made_again:
        tell_champions(care.store)


REPAIRS: tuple[Repair, ...] = (
    records.set_folders_aside,
    mend_changes,
    records.remove_locks,
    records.remove_temporary,
    records.convert,
    records.set_damaged_aside,
    records.remove_checkpoints,
    mend_names,
)
"""What needs neither MLflow nor Optuna, in this order."""


def examine(
    care: Care, of_studies: Sequence[Repair] = (), of_studies_in_mlflow: Sequence[Repair] = ()
) -> list[Finding]:
    """Everything that is to be repaired, or was. The repairs of studies come from the room above.

    What fails is a finding of its own and does not stop the others: a workspace that is read-only,
    or partly unreadable, is looked at as far as that goes. Raises StorageFailed if something is to
    be repaired and the disk takes no more.
    """
    repairs = [*REPAIRS, *of_studies]
    if not tracking_is_off():
        repairs += [_mend_mlflow, *of_studies_in_mlflow]
    found: list[Finding] = []
    for repair in repairs:
        try:
            for finding in repair(care):
                found.append(finding)
        except (BenchError, *Failure) as error:
            found.append(_failure(care, error))
    return list(dict.fromkeys(found))  # one place may keep several from looking


def _failure(care: Care, error: Exception) -> Finding:
    behind = failure_behind(error)
    if care.fix and isinstance(error, StorageFailed):
        raise error
    if care.fix and behind is not None:
        raise storage_failed(behind, "repair", care.store.mlruns) from None
    if isinstance(error, BenchError):
        kind = "not repaired" if care.fix else "not looked at"
        return care.leave(kind, "this workspace", str(error))
    denied = behind or error
    if isinstance(denied, OSError) and isinstance(denied.filename, str):
        return care.unseen(denied)
    line = without_secrets(" ".join(str(error).split()))[:300] or type(error).__name__
    return care.leave("MLflow", find_address(care.store).shown, f"does not answer: {line}")


def survey(store: Store) -> dict[str, dict[str, object]]:
    """The workspace and the machine: sections of plain values, for a table or for JSON."""
    return {
        "workspace": _workspace(store),
        "machine": _machine(),
        "versions": _versions(),
        "data sets": dict(_data_sets()),
    }


def _workspace(store: Store) -> dict[str, object]:
    records: dict[str, object]
    try:
        sound, damaged = survey_records(store.records)
        records = {"records": len(sound), "damaged records": "\n".join(damaged) or "none"}
    except OSError as error:
        records = {"records": _unseen(error)}
    off = " (not asked: tracking is off, BENCH_TRACKING=off)" if tracking_is_off() else ""
    return {
        "root": str(store.root),
        "MLflow": find_address(store).shown + off,
        **records,
        "free disk": f"{psutil.disk_usage(str(store.root)).free / 2**30:.1f} GiB",
    }


def _unseen(error: OSError) -> str:
    return f"not looked at: {error.filename}: {error.strerror}"


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
    for row in DATASETS.usable():
        name = row.id
        try:
            found[name] = str(find_dataset(name))
        except BenchError:
            found[name] = f"not here; `bench data fetch {name}` gets it"
        except OSError as error:
            found[name] = _unseen(error)
    return found
