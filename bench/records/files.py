"""Durable results on disk, written before a result is sent anywhere else.

`mlruns/records/<run_key>/` holds `record.json`, `weights.safetensors` and `arrays.safetensors`
(per-image scores, shown images, codes: the input of the figures). A record is built in a
temporary folder, synced and renamed, so it is never partly there.

Keys of the arrays (images are float32 in [0, 1]; N validation, M test images):

| key                            | shape               | meaning                              |
|--------------------------------|---------------------|--------------------------------------|
| validation/METRIC, test/METRIC | N, M                | one score per image                  |
| label/{validation,test}        | N, M                | their classes, if the set has any    |
| shown/{train,test}/{x,x_hat}   | 8 x C x H x W       | the first image of each class        |
| shown/{train,test}/label       | 8                   | their classes                        |
| progress/x                     | 8 x C x H x W       | validation images                    |
| progress/x_hat                 | K x 8 x C x H x W   | reconstructions during training      |
| progress/epoch                 | K                   | after which epoch                    |
| codes/z, codes/label           | n x d, n            | up to 2,000 validation images        |
| samples/x_hat                  | 64 x C x H x W      | decoded samples                      |
| samples/fitted                 | 1                   | 1: z from a Gaussian fitted to codes |
|                                |                     | of training images, 0: z ~ N(0, I)   |
| samples/standard_x_hat         | 32 x C x H x W      | decoded z ~ N(0, I), where the       |
|                                |                     | samples above are fitted ones        |
| interpolation/x                | 4 x 2 x C x H x W   | the ends of 4 pairs of test images   |
| interpolation/x_hat            | 4 x 5 x C x H x W   | 5 evenly spaced codes, decoded       |
| extremes/{x,x_hat}             | 16 x C x H x W      | 8 best, then 8 worst by validation   |
| extremes/score                 | 16                  | their selection metric               |

Classifiers (K classes) have no reconstructions and no codes, but:

| key                            | shape               | meaning                              |
|--------------------------------|---------------------|--------------------------------------|
| predicted/{validation,test}    | N, M                | int64: the predicted class           |
| confidence/{validation,test}   | N, M                | float32: its probability             |
| confusion/{validation,test}    | K x K               | int64: true class, predicted class   |
| per_class/{validation,test}    | K x 3               | float32: precision, recall, F1       |
| misclassified/x                | up to 24 x C x H x W| the most confident mistakes on       |
|                                |                     | validation (test, if there is none)  |
| misclassified/{label,          | up to 24            | true class, predicted class and its  |
| predicted,confidence}          |                     | probability                          |
"""

import dataclasses
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from bench.core.errors import CheckFailed
from bench.core.identity import sha256_of_file
from bench.core.spec import SCHEMA_VERSION, RunRecord
from bench.core.store import sync_folder, write_atomically
from bench.core.strict import adapter

Arrays = Mapping[str, NDArray[Any]]

RECORD, WEIGHTS, ARRAYS = "record.json", "weights.safetensors", "arrays.safetensors"
_ASIDE = ".aside-"
_CURE = "remove its folder, or let the command that made it run it again"


def record_folder(records: Path, run_key: str) -> Path:
    """The folder of a run's record, whether it exists or not."""
    return records / run_key


def write_record(records: Path, record: RunRecord, weights: Arrays, arrays: Arrays) -> RunRecord:
    """Write a record and return it with the digests of its two files filled in.

    Replaces an existing record of the same run (such as one scored by other metrics).
    """
    records.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=records, prefix=f".new-{record.run_key}-"))
    try:
        write_atomically(building / WEIGHTS, _pack(weights))
        write_atomically(building / ARRAYS, _pack(arrays))
        record = dataclasses.replace(
            record,
            weights_sha256=sha256_of_file(building / WEIGHTS),
            arrays_sha256=sha256_of_file(building / ARRAYS),
        )
        write_atomically(building / RECORD, record.to_json())
        building.chmod(0o755)
        _put_in_place(building, record_folder(records, record.run_key))
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return record


def _put_in_place(building: Path, final: Path) -> None:
    """Rename; an older record is moved aside first and restored if a kill falls in between."""
    aside = final.with_name(f"{_ASIDE}{final.name}")
    if final.exists():
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
    building.rename(final)
    sync_folder(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _pack(arrays: Arrays) -> bytes:
    """Safetensors bytes; the format requires contiguous arrays."""
    return save_safetensors({key: np.ascontiguousarray(value) for key, value in arrays.items()})


def read_record(records: Path, run_key: str) -> RunRecord | None:
    """The record of a run, or None if there is none.

    Raises CheckFailed naming the file if it was edited by hand or damaged.
    """
    folder = record_folder(records, run_key)
    aside = folder.with_name(f"{_ASIDE}{run_key}")
    if not folder.exists() and aside.exists():
        aside.rename(folder)
    path = folder / RECORD
    try:
        record: RunRecord = adapter(RunRecord).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "file"
        raise CheckFailed(
            f"{path} is damaged or of another version ({key}: {first['msg']}); {_CURE}"
        ) from None
    if record.schema_version != SCHEMA_VERSION:
        raise CheckFailed(
            f"{path} has schema {record.schema_version}, this version reads {SCHEMA_VERSION}; "
            f"{_CURE}"
        )
    if record.run_key != run_key or record.spec.run_key != run_key:
        raise CheckFailed(f"{path} does not belong to run {run_key}; remove its folder")
    return record


def sound_record(records: Path, run_key: str) -> RunRecord | None:
    """The record of a run; None if missing, or, with a warning, if damaged: it is run again."""
    try:
        return read_record(records, run_key)
    except CheckFailed as error:
        logging.getLogger(__name__).warning("%s: running it again", error)
        return None


def iter_records(records: Path) -> Iterator[RunRecord]:
    """Every record in a store, oldest first. Raises CheckFailed naming a damaged record and how
    many there are: a table without them would be wrong."""
    sound, damaged = survey_records(records)
    for line in damaged:
        more = f" (one of {len(damaged)} such records)" if len(damaged) > 1 else ""
        raise CheckFailed(line + more)
    yield from sound


def survey_records(records: Path) -> tuple[list[RunRecord], list[str]]:
    """Every readable record, oldest first, and one line for each unreadable one."""
    sound: list[RunRecord] = []
    damaged: list[str] = []
    entries = records.iterdir() if records.is_dir() else ()
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(".new-")]
    for key in sorted({path.name.removeprefix(_ASIDE) for path in folders}):
        try:
            record = read_record(records, key)
        except CheckFailed as error:
            damaged.append(str(error))
        else:
            sound += [record] if record is not None else []
    return sorted(sound, key=lambda record: (record.started_unix_ms, record.run_key)), damaged


def read_weights(records: Path, record: RunRecord) -> dict[str, NDArray[Any]]:
    """The weights by name, after checking their digest; raises CheckFailed if it differs."""
    path = record_folder(records, record.run_key) / WEIGHTS
    return read_safetensors(path, record.weights_sha256)


def read_arrays(records: Path, record: RunRecord) -> dict[str, NDArray[Any]]:
    """The arrays by key (see the top of this module), after checking their digest."""
    path = record_folder(records, record.run_key) / ARRAYS
    return read_safetensors(path, record.arrays_sha256)


def read_safetensors(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Load a safetensors file with a known digest; CheckFailed if it is another file."""
    if not path.is_file():
        raise CheckFailed(f"{path} is missing; run it again or restore the file")
    if sha256_of_file(path) != sha256:
        raise CheckFailed(f"{path} was changed: its SHA-256 is not {sha256[:12]}...; restore it")
    try:
        return load_safetensors(path.read_bytes())
    except SafetensorError as error:
        raise CheckFailed(f"{path} is not a safetensors file: {error}") from None


def remove_leftovers(records: Path) -> int:
    """Delete what killed writers left behind (never a finished record); return the count."""
    left = [path for path in records.glob(".new-*") if not _is_fresh(path)]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return len(left)


def _is_fresh(path: Path) -> bool:
    """Whether another process may still be writing to it (changed within ten minutes)."""
    return time.time() - path.stat().st_mtime < 600
