"""Records whose documents were rewritten, with right digests: what a person with an editor and some
patience can do."""

from pathlib import Path

from bench.core.spec import RunRecord
from bench.records.documents import documents_of, encode
from bench.records.files import RECORD, record_folder, workspace_of


def scores_folder(records: Path, record: RunRecord) -> Path:
    """Where the scores of a record and their arrays are."""
    return record_folder(records, record.run_key) / "scores" / record.evaluation_digest


def arrays_path(records: Path, record: RunRecord) -> Path:
    """The arrays of a record."""
    return scores_folder(records, record) / "arrays.safetensors"


def rewrite(records: Path, record: RunRecord) -> None:
    """Write the documents of a record over those that are there, and nothing else."""
    folder = record_folder(records, record.run_key)
    found = documents_of(record, workspace_of(records))
    (folder / RECORD).write_bytes(encode(found.training))
    for scores in found.scores.values():
        (scores_folder(records, record) / "scores.json").write_bytes(encode(scores))
    for board, entry in found.entries.items():
        (folder / "boards" / f"{board}.json").write_bytes(encode(entry))
