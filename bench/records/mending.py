"""Repair of records after kills and damage: part of `bench doctor`."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.core.errors import CheckFailed
from bench.core.locks import abandoned, is_held, release, take
from bench.core.repairs import Care, Finding
from bench.core.store import Store, is_temporary
from bench.records.files import (
    RECORD,
    convert_record,
    damage_of,
    is_of_earlier_schema,
    leftovers,
    record_folder,
    run_keys,
    sound_documents,
)

_RUN = re.compile(r"[0-9a-f]{16}")
_TRIAL = "trial-"


@contextlib.contextmanager
def unclaimed(care: Care, run_key: str) -> Iterator[bool]:
    """Whether no command trains this run; with `fix`, none can begin meanwhile."""
    path = care.store.locks / f"{run_key}.lock"
    if not care.fix:
        yield not is_held(path)
        return
    stream = take(path)
    try:
        yield stream is not None
    finally:
        if stream is not None:
            release(path, stream)


def set_folders_aside(care: Care) -> Iterator[Finding]:
    """Folders in the place of lock files, which no command can then open."""
    mlruns = care.store.mlruns
    patterns = ("locks/*.lock", "studies/*/*.lock", ".*.lock", ".*.users", ".*.heads")
    for path in sorted(path for pattern in patterns for path in mlruns.glob(pattern)):
        if path.is_dir() and not path.is_symlink():
            kind = "folders in the place of lock files"
            yield care.settle(kind, care.name(path), "moved", care.set_aside, path)


def remove_locks(care: Care) -> Iterator[Finding]:
    """Lock files of runs whose command is gone. The others are held, or serve every command."""
    for path in sorted(care.store.locks.glob("*.lock")):
        if _RUN.fullmatch(path.stem) and not is_held(path):
            kind = "locks of commands that are gone"
            yield care.settle(kind, care.name(path), "removed", _remove_lock, path)


def _remove_lock(path: Path) -> None:
    if (stream := take(path)) is not None:
        release(path, stream)


def remove_temporary(care: Care) -> Iterator[Finding]:
    """Temporary files and folders whose writer is gone."""
    mlruns, studies = care.store.mlruns, care.store.mlruns / "studies"
    folders = (mlruns, care.store.checkpoints, mlruns / "logs", studies)
    found = [path for folder in folders for path in folder.glob(".*")]
    found += [*studies.glob("*/.*"), *studies.glob("*/trials/.*")]
    files = [path for path in found if path.is_file() and is_temporary(path.name)]
    for path in sorted(files + leftovers(care.store.records)):
        with abandoned(path) as is_ours:
            if is_ours:
                yield care.settle("temporary files", care.name(path), "removed", _remove, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_checkpoints(care: Care) -> Iterator[Finding]:
    """Checkpoints of runs that ended: a kill fell between the record and the removal."""
    for path in sorted(care.store.checkpoints.glob("*.safetensors")):
        if not _RUN.fullmatch(path.stem):
            continue
        with unclaimed(care, path.stem) as is_ours:
            if is_ours and _is_sound(care.store, path.stem):
                yield care.settle(
                    "checkpoints of finished runs", care.name(path), "removed", path.unlink
                )


def _is_sound(store: Store, run_key: str) -> bool:
    return not damage_of(store.records, run_key) and bool(sound_documents(store.records, run_key))


def set_damaged_aside(care: Care) -> Iterator[Finding]:
    """Records that were changed, by a flipped bit or by hand: the next run trains them again."""
    return care.each(filter(_RUN.fullmatch, run_keys(care.store.records)), _set_damaged_aside)


def _set_damaged_aside(care: Care, key: str) -> Iterator[Finding]:
    kind, records = "damaged records", care.store.records
    if not damage_of(records, key):
        return
    with unclaimed(care, key) as is_ours:
        why = damage_of(records, key)  # again: a command may have replaced it meanwhile
        folder = record_folder(records, key)
        why = why.replace(f"{folder}/", "")
        if why and is_ours:
            what = f"{care.name(folder)} ({why})"
            yield care.settle(kind, what, "moved", _set_aside, care, folder)
        elif why:
            yield care.leave(kind, care.name(folder), "left alone, a command is training it")


def _set_aside(care: Care, folder: Path) -> str:
    return f"{care.set_aside(folder)}; the next run trains it again"


def convert(care: Care) -> Iterator[Finding]:
    """Records of an earlier schema, in today's form; no digest of theirs changes."""
    return care.each(filter(_RUN.fullmatch, run_keys(care.store.records)), _convert)


def _convert(care: Care, key: str) -> Iterator[Finding]:
    records = care.store.records
    with contextlib.suppress(CheckFailed):  # a damaged one: see above
        if not is_of_earlier_schema(records, key):
            return
        with unclaimed(care, key) as is_ours:
            if is_ours:
                what = care.name(record_folder(records, key) / RECORD)
                kind, deed = "records of an earlier version", "converted"
                yield care.settle(kind, what, deed, convert_record, records, key)
