"""Durable results on disk, written before a result is sent anywhere else.

A record is one training: `mlruns/records/<run_key>/` holds `record.json` and `weights.safetensors`.
Beside them, `scores/<evaluation_digest>/` holds `scores.json` and `arrays.safetensors` (per-image
scores, shown images, codes: the input of the figures) of each way in which its weights were scored,
and `boards/<board>.json` puts the record on a board: a protocol on a data set. So one training
serves several boards, and none takes another's scores away (`documents.py` has the documents).
Each folder is built under a temporary name, synced and renamed, so it is never partly there.

Keys of the arrays (images are float32 in [0, 1]; N validation, M test images):

| key                            | shape               | meaning                              |
|--------------------------------|---------------------|--------------------------------------|
| validation/METRIC, test/METRIC | N, M                | one score per image                  |
| label/{validation,test}        | N, M                | their classes, if the set has any    |
| shown/{train,test}/{x,x_hat}   | 10 x C x H x W      | the first image of each class        |
| shown/{train,test}/label       | 10                  | their classes                        |
| shown/{train,test}/score       | 10                  | their selection metric               |
| pictures/{x,x_hat}             | 24 x C x H x W      | uint8: more test images, if no side  |
|                                |                     | is longer than 64                    |
| progress/x                     | 8 x C x H x W       | validation images                    |
| progress/x_hat                 | K x 8 x C x H x W   | reconstructions during training      |
| progress/epoch                 | K                   | after which epoch                    |
| codes/z, codes/label           | n x d, n            | up to 2,000 validation images        |
| samples/x_hat                  | 64 x C x H x W      | decoded samples                      |
| samples/fitted                 | 1                   | 1: z from a Gaussian fitted to codes |
|                                |                     | of training images, 0: z ~ N(0, I)   |
| samples/standard_x_hat         | 32 x C x H x W      | decoded z ~ N(0, I), where the       |
|                                |                     | samples above are fitted ones        |
| interpolation/x                | 5 x 2 x C x H x W   | the ends of 5 pairs of test images   |
| interpolation/x_hat            | 5 x 5 x C x H x W   | 5 evenly spaced codes, decoded       |
| generated/SAMPLER/{x_hat,      | 10 x C x H x W      | uint8: samples of the prior, a       |
| nearest}                       |                     | Gaussian and a mixture, and the      |
|                                |                     | training images that are nearest     |
| generated/SAMPLER/{index,      | 10                  | places of these in the training      |
| distance}                      |                     | part, and distances of features      |
| paths/x, paths/x_hat           | 6 x 2 x C x H x W,  | uint8: pairs of test images, 11      |
|                                | 6 x 11 x C x H x W  | evenly spaced codes decoded          |
| grid/x_hat, grid/z             | 15 x 15 x C x H x W,| uint8: codes of two numbers on a     |
|                                | 15 x 2              | grid, decoded; its values by axis    |
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

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from bench.core.disk import naming
from bench.core.errors import CheckFailed
from bench.core.identity import sha256_of_file
from bench.core.paths import regular
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import is_temporary, new_folder, sync_folder, write_atomically
from bench.records.documents import (
    CURE,
    TRAINING,
    Documents,
    Json,
    complete,
    decode,
    documents_of,
    encode,
    entry_for,
    is_earlier,
    join,
    upgraded,
    whole,
)

Arrays = Mapping[str, NDArray[Any]]

RECORD, WEIGHTS, ARRAYS = "record.json", "weights.safetensors", "arrays.safetensors"
SCORES, BOARDS = "scores", "boards"
_SCORES_FILE = "scores.json"
_NEW, _ASIDE = ".new-", ".aside-"


def record_folder(records: Path, run_key: str) -> Path:
    """The folder of a run's record, whether it exists or not."""
    return records / run_key


def write_record(records: Path, record: RunRecord, weights: Arrays, arrays: Arrays) -> RunRecord:
    """Write a new training and return its record with the digests of its two files filled in.

    Replaces an earlier training of the same run; boards that show the same scores keep it.
    """
    folder = record_folder(records, record.run_key)
    before = sound_documents(records, record.run_key)
    with _building(folder, f"{_NEW}{record.run_key}-") as building:
        write_atomically(building / WEIGHTS, _pack(weights))
        record = dataclasses.replace(record, weights_sha256=sha256_of_file(building / WEIGHTS))
        record = _write_arrays(building / SCORES / record.evaluation_digest, record, arrays)
        _write_documents(building, _with_boards_of(before, _documents_of(records, record)))
    return record


def write_scores(records: Path, record: RunRecord, arrays: Arrays) -> RunRecord:
    """Add another scoring of a recorded training, and its board entry; other scores stay."""
    folder = _converted(records, record.run_key)
    scores = folder / SCORES / record.evaluation_digest
    with _building(scores, f"{_NEW}{record.evaluation_digest}-") as building:
        record = _write_arrays(building, record, arrays)
        (document,) = _documents_of(records, record).scores.values()
        write_atomically(building / _SCORES_FILE, encode(document))
    enter(records, record)
    return record


def enter(records: Path, record: RunRecord) -> None:
    """Put a record on the board of its spec, with its recipe; boards of other protocols or data
    sets are not affected. Writes only what changes."""
    folder = _converted(records, record.run_key)
    ((board, entry),) = _documents_of(records, record).entries.items()
    path, content = folder / BOARDS / f"{board}.json", encode(entry)
    if not regular(path).exists() or path.read_bytes() != content:
        write_atomically(path, content)


def _documents_of(records: Path, record: RunRecord) -> Documents:
    return documents_of(record, workspace_of(records))


def workspace_of(records: Path) -> Path:
    """The workspace of a store's records: paths inside it are stored relative to it."""
    return records.parent.parent


def _write_arrays(folder: Path, record: RunRecord, arrays: Arrays) -> RunRecord:
    write_atomically(folder / ARRAYS, _pack(arrays))
    return dataclasses.replace(record, arrays_sha256=sha256_of_file(folder / ARRAYS))


def _with_boards_of(before: Documents | None, new: Documents) -> Documents:
    """The new documents, with earlier board entries that show the scores just made."""
    kept = before.entries if before is not None else {}
    entries = {
        board: entry for board, entry in kept.items() if entry["evaluation_digest"] in new.scores
    }
    return dataclasses.replace(new, entries={**entries, **new.entries})


def _write_documents(folder: Path, documents: Documents) -> None:
    """The training last: until then a record of an earlier schema remains as it was."""
    for digest, scores in documents.scores.items():
        write_atomically(folder / SCORES / digest / _SCORES_FILE, encode(scores))
    for board, entry in documents.entries.items():
        write_atomically(folder / BOARDS / f"{board}.json", encode(entry))
    write_atomically(folder / RECORD, encode(documents.training))


@contextlib.contextmanager
def _building(final: Path, prefix: str) -> Iterator[Path]:
    """A temporary folder that takes the place of `final`, which is removed, in the end."""
    with naming(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(final, prefix) as building:
            try:
                yield building
                for folder in (path for path in building.rglob("*") if path.is_dir()):
                    sync_folder(folder)
                building.chmod(0o755)
                _put_in_place(building, final)
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise


def _put_in_place(building: Path, final: Path) -> None:
    """Rename; an older folder is moved aside first and restored if a kill falls in between.

    A file or a broken link in its place gives way.
    """
    aside = final.with_name(f"{_ASIDE}{final.name}")
    if os.path.lexists(final):
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
    building.rename(final)
    sync_folder(final.parent)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def _pack(arrays: Arrays) -> bytes:
    """Safetensors bytes; the format requires contiguous arrays."""
    return save_safetensors({key: np.ascontiguousarray(value) for key, value in arrays.items()})


def _restore(final: Path) -> None:
    """Put a folder back that a killed writer had moved aside."""
    aside = final.with_name(f"{_ASIDE}{final.name}")
    if not final.exists() and aside.exists():
        aside.rename(final)


def read_documents(records: Path, run_key: str) -> Documents | None:
    """The documents of a run, in today's form, or None if there is no record.

    Raises CheckFailed naming the file if one was edited by hand or damaged.
    """
    folder = record_folder(records, run_key)
    _restore(folder)
    training = decode(folder / RECORD)
    if training is None:
        return None
    if training.get("run_key") != run_key:
        raise CheckFailed(f"{folder / RECORD} does not belong to run {run_key}; {CURE}")
    if is_earlier(training):
        return upgraded(training, workspace_of(records), str(folder / RECORD))
    complete(TRAINING, training, folder / RECORD)
    found: dict[str, dict[str, Json]] = {SCORES: {}, BOARDS: {}}
    for path in [*folder.glob(f"{SCORES}/[!.]*/{_SCORES_FILE}"), *folder.glob(f"{BOARDS}/*.json")]:
        document = decode(path)
        kind, name = path.relative_to(folder).parts[:2]
        if document is None or document.get("run_key") != run_key:
            raise CheckFailed(f"{path} does not belong to run {run_key}; {CURE}")
        found[kind][name.removesuffix(".json")] = complete(kind, document, path)
    return Documents(training, found[SCORES], found[BOARDS])


def sound_documents(records: Path, run_key: str) -> Documents | None:
    """As `read_documents`; None, with a warning, if any is damaged: the run is trained again."""
    try:
        return read_documents(records, run_key)
    except CheckFailed as error:
        logging.getLogger(__name__).warning("%s: running it again", error)
        return None


def read_record(records: Path, run_key: str, board: str = "") -> RunRecord | None:
    """The record of a run as it is on a board, by default the first by the board's identity.

    None if there is none. Raises CheckFailed naming the file if it was edited by hand or damaged.
    """
    documents = read_documents(records, run_key)
    listed = {} if documents is None else documents.entries
    wanted = board or min(listed, default="")
    if documents is None or wanted not in listed:
        return None
    return _on_board(records, documents, wanted)


def _on_board(records: Path, documents: Documents, board: str) -> RunRecord:
    run_key, entry = documents.training["run_key"], documents.entries[board]
    folder = record_folder(records, run_key)
    root, where = workspace_of(records), str(folder / BOARDS / f"{board}.json")
    with whole(where):
        scores = documents.scores.get(entry["evaluation_digest"])
        if scores is None:
            raise CheckFailed(
                f"{folder / SCORES / entry['evaluation_digest']} is missing, which the board of "
                f"{entry['spec']['protocol']} shows; {CURE}"
            )
        record = join(documents.training, scores, entry, root, where)
    if record.spec.board != board or record.spec.evaluation_digest != record.evaluation_digest:
        raise CheckFailed(f"{where} does not belong to this board; {CURE}")
    return record


def sound_record(records: Path, spec: RunSpec) -> RunRecord | None:
    """The record of a spec's training as it is, or would be, on the spec's board.

    If its weights have no scores of this evaluation yet, the record has others (see its
    `evaluation_digest`). None if there is none or, with a warning, if it is damaged.
    """
    documents = sound_documents(records, spec.run_key)
    if documents is None or not documents.scores:
        return None
    wanted = spec.evaluation_digest
    scores = documents.scores.get(wanted) or documents.scores[min(documents.scores)]
    root, where = workspace_of(records), str(record_folder(records, spec.run_key))
    try:
        with whole(where):
            entry = documents.entries.get(spec.board)
            if entry is None or entry["evaluation_digest"] != scores["evaluation_digest"]:
                sources = [each["data_source"] for each in documents.entries.values()]
                entry = entry_for(spec, scores["evaluation_digest"], min(sources, default=""), root)
            record = join(documents.training, scores, entry, root, where)
    except CheckFailed as error:
        logging.getLogger(__name__).warning("%s: running it again", error)
        return None
    # The path of the images is a hint: the one just given was just read.
    spec_now = dataclasses.replace(
        record.spec, dataset=spec.dataset, definition=spec.definition, ranked=spec.ranked
    )
    return dataclasses.replace(record, spec=spec_now)


def iter_records(records: Path) -> Iterator[RunRecord]:
    """Every record on every board, oldest first. Raises CheckFailed naming a damaged record and how
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
    for key in run_keys(records):
        try:
            documents = read_documents(records, key)
            listed = [] if documents is None else sorted(documents.entries)
            sound += [_on_board(records, documents, board) for board in listed if documents]
        except CheckFailed as error:
            damaged.append(str(error))
    return sorted(
        sound, key=lambda record: (record.started_unix_ms, record.run_key, record.spec.board)
    ), damaged


def run_keys(records: Path) -> list[str]:
    """The names of all folders of records, sound or not."""
    entries = records.iterdir() if records.is_dir() else ()
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(_NEW)]
    return sorted({path.name.removeprefix(_ASIDE) for path in folders})


def is_of_earlier_schema(records: Path, run_key: str) -> bool:
    """Whether a record is of an earlier schema; CheckFailed if it is damaged."""
    training = decode(record_folder(records, run_key) / RECORD)
    return training is not None and is_earlier(training)


def convert_record(records: Path, run_key: str) -> None:
    """Rewrite a sound record of an earlier schema in today's form; CheckFailed if it is damaged."""
    _converted(records, run_key)


def damage_of(records: Path, run_key: str) -> str:
    """What is wrong with a record, its weights or its arrays, in one line; "" if nothing is."""
    try:
        documents = read_documents(records, run_key)
        folder = record_folder(records, run_key)
        if documents is None:
            return f"{RECORD} is missing" if folder.is_dir() else ""
        for board in documents.entries:
            _on_board(records, documents, board)
        _check_bytes(folder / WEIGHTS, documents.training["weights_sha256"], CURE)
        for digest, scores in documents.scores.items():
            _check_bytes(_arrays_path(folder, digest), scores["arrays_sha256"], CURE)
    except CheckFailed as error:
        return str(error).removesuffix(f"; {CURE}")
    return ""


def _converted(records: Path, run_key: str) -> Path:
    """The folder of a record, rewritten in today's form if it is of an earlier schema.

    Until `record.json` is replaced, the record stays whole in its earlier form.
    """
    folder = record_folder(records, run_key)
    if is_of_earlier_schema(records, run_key):
        documents = read_documents(records, run_key)
        assert documents is not None
        (digest,) = documents.scores
        write_atomically(folder / SCORES / digest / ARRAYS, (folder / ARRAYS).read_bytes())
        _write_documents(folder, documents)
        (folder / ARRAYS).unlink()
    return folder


def read_weights(records: Path, record: RunRecord) -> dict[str, NDArray[Any]]:
    """The weights by name, after checking their digest; raises CheckFailed if it differs."""
    path = record_folder(records, record.run_key) / WEIGHTS
    return read_safetensors(path, record.weights_sha256, CURE)


def read_arrays(records: Path, record: RunRecord) -> dict[str, NDArray[Any]]:
    """The arrays by key (see the top of this module), after checking their digest."""
    folder = record_folder(records, record.run_key)
    path = _arrays_path(folder, record.evaluation_digest)
    return read_safetensors(path, record.arrays_sha256, CURE)


def _arrays_path(folder: Path, evaluation_digest: str) -> Path:
    """The file of a scoring's arrays, which schema 1 kept beside the record."""
    earlier = folder / ARRAYS
    return earlier if earlier.exists() else folder / SCORES / evaluation_digest / ARRAYS


def read_safetensors(
    path: Path, sha256: str, cure: str = "restore the file"
) -> dict[str, NDArray[Any]]:
    """Load a safetensors file with a known digest; CheckFailed, with the cure, if it is another
    file."""
    _check_bytes(path, sha256, cure)
    try:
        return load_safetensors(path.read_bytes())
    except SafetensorError as error:
        raise CheckFailed(f"{path} is not a safetensors file: {error}") from None


def _check_bytes(path: Path, sha256: str, cure: str) -> None:
    if not regular(path, cure).exists():
        raise CheckFailed(f"{path} is missing; {cure}")
    if sha256_of_file(path) != sha256:
        raise CheckFailed(f"{path} was changed: its SHA-256 is not {sha256[:12]}...; {cure}")


def leftovers(records: Path) -> list[Path]:
    """Temporary files and folders of writers that may be gone (see `locks.abandoned`)."""
    found = [path for each in _WITHIN for path in records.glob(f"{each}.*")]
    return [
        path
        for path in found
        if path.name.startswith(_NEW)
        or (path.is_file() and is_temporary(path.name))
        # One that does not stand beside its replacement is restored when it is read.
        or (path.name.startswith(_ASIDE) and path.with_name(path.name[len(_ASIDE) :]).exists())
    ]


_WITHIN = ("", "[!.]*/", f"[!.]*/{SCORES}/", f"[!.]*/{SCORES}/[!.]*/", f"[!.]*/{BOARDS}/")
"""Where the folder of records has folders."""
