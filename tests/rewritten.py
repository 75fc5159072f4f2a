"""Records whose documents were rewritten, with right digests: what a person with an editor and some
patience can do."""

import dataclasses
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from bench.core.identity import sha256_of_file
from bench.core.spec import RunRecord
from bench.records.documents import documents_of, encode
from bench.records.files import RECORD, record_folder, workspace_of


def scores_folder(records: Path, record: RunRecord) -> Path:
    """Where the scores of a record and their arrays are."""
    return record_folder(records, record.run_key) / "scores" / record.evaluation_digest


def arrays_path(records: Path, record: RunRecord) -> Path:
    """The arrays of a record."""
    return scores_folder(records, record) / "arrays.safetensors"


def scale(records: Path, record: RunRecord, factor: float) -> None:
    """Write a record with squared errors that are `factor` times as large, and what follows from
    them: another machine's, which its weights need not give."""
    path = arrays_path(records, record)
    follows = {
        "mse": lambda mse: mse * factor,
        "mae": lambda mae: mae * math.sqrt(factor),
        "psnr": lambda psnr: psnr - 10 * math.log10(factor),
    }
    arrays = load_file(path)
    for part in ("validation", "test"):
        for name, change in follows.items():
            arrays[f"{part}/{name}"] = change(arrays[f"{part}/{name}"]).astype(np.float32)
    save_file(arrays, path)
    scores = {
        part: {name: follows.get(name, float)(value) for name, value in each.items()}
        for part, each in record.scores.items()
    }
    changed = {"scores": scores, "arrays_sha256": sha256_of_file(path)}
    rewrite(records, dataclasses.replace(record, **changed))


def reorder(records: Path, record: RunRecord) -> None:
    """Write a record whose squared errors are those of other images, with the same means."""
    path = arrays_path(records, record)
    arrays = load_file(path)
    for part in ("validation", "test"):
        arrays[f"{part}/mse"] = arrays[f"{part}/mse"][::-1].copy()
    save_file(arrays, path)
    rewrite(records, dataclasses.replace(record, arrays_sha256=sha256_of_file(path)))


def rewrite(records: Path, record: RunRecord) -> None:
    """Write the documents of a record over those that are there, and nothing else."""
    folder = record_folder(records, record.run_key)
    found = documents_of(record, workspace_of(records))
    (folder / RECORD).write_bytes(encode(found.training))
    for scores in found.scores.values():
        (scores_folder(records, record) / "scores.json").write_bytes(encode(scores))
    for board, entry in found.entries.items():
        (folder / "boards" / f"{board}.json").write_bytes(encode(entry))
