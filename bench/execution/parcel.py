"""Results and checkpoints in transit between machines that share no folder."""

from dataclasses import dataclass

from bench.core.spec import RunRecord, RunSpec, TrialSpec
from bench.core.store import Store, write_atomically
from bench.models.own import Code
from bench.records.files import (
    Arrays,
    read_arrays,
    read_weights,
    sound_record,
    write_record,
    write_scores,
)


@dataclass(frozen=True)
class Parcel:
    """The stored files of one run: its record with both files, or its checkpoint; and the code of
    its model, if that is not bench's own."""

    record: RunRecord | None = None
    weights: Arrays | None = None
    arrays: Arrays | None = None
    checkpoint: bytes | None = None
    code: Code | None = None


def pack(store: Store, spec: RunSpec) -> Parcel:
    """Collect the stored files of a run."""
    record = None if isinstance(spec, TrialSpec) else sound_record(store.records, spec)
    path = store.checkpoints / spec.checkpoint_name
    checkpoint = path.read_bytes() if path.is_file() else None
    if record is None:
        return Parcel(checkpoint=checkpoint)
    weights, arrays = read_weights(store.records, record), read_arrays(store.records, record)
    return Parcel(record, weights, arrays, checkpoint)


def unpack(parcel: Parcel, spec: RunSpec, store: Store) -> RunRecord | None:
    """Write a parcel into another store; returns the record. OSError if it cannot."""
    path = store.checkpoints / spec.checkpoint_name
    if parcel.checkpoint is None:
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, parcel.checkpoint)
    if parcel.record is None or parcel.weights is None or parcel.arrays is None:
        return None
    here = sound_record(store.records, spec)
    if here is not None and here.weights_sha256 == parcel.record.weights_sha256:
        return write_scores(store.records, parcel.record, parcel.arrays)
    return write_record(store.records, parcel.record, parcel.weights, parcel.arrays)
