"""What is read is what was written: by everybody, in order, and of the run that was asked for."""

import dataclasses
import random
import shutil

import numpy as np
import pytest
from invented import record_of, specs_of
from registry_store import tiny_protocol

from bench.core.errors import CheckFailed
from bench.core.protocol import Protocol
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.records.documents import decode, encode
from bench.records.files import (
    iter_records,
    read_arrays,
    read_record,
    read_weights,
    record_folder,
    write_record,
)
from tests.rewritten import rewrite

OLD = {"val": {"mse": 0.03}, "test": {"mse": 0.03}}
WEIGHTS = {"w": np.arange(3, dtype=np.float32)}
ARRAYS = {"test/mse": np.full(4, 0.03, dtype=np.float32)}


@pytest.fixture
def small(store: Store) -> Protocol:
    return tiny_protocol(store.root)


@pytest.fixture
def record(store: Store, small: Protocol) -> RunRecord:
    """A record that is not written yet."""
    return record_of(specs_of(store, small, "fc_ae")[0], OLD)


def test_a_result_can_be_read_by_everybody_whom_the_folder_lets_in(store, record):
    write_record(store.records, record, WEIGHTS, ARRAYS)
    folder = record_folder(store.records, record.run_key)
    assert folder.stat().st_mode & 0o777 == 0o755
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}


def test_records_come_back_in_the_order_in_which_they_began(store, small):
    specs = specs_of(store, small, "fc_ae", range(6))
    made = [
        write_record(store.records, record_of(spec, OLD, started=100 - spec.seed), {}, {})
        for spec in specs
    ]
    assert list(iter_records(store.records)) == made[::-1]


def test_a_record_of_another_run_or_another_version_is_refused(store, record):
    made = write_record(store.records, record, WEIGHTS, ARRAYS)
    folder = record_folder(store.records, made.run_key)
    stranger = record_folder(store.records, "0123456789abcdef")
    shutil.copytree(folder, stranger)
    with pytest.raises(CheckFailed, match="does not belong to run 0123456789abcdef"):
        read_record(store.records, stranger.name)
    shutil.rmtree(stranger)
    seed = dataclasses.replace(made, spec=dataclasses.replace(made.spec, seed=1))
    rewrite(store.records, seed)
    with pytest.raises(CheckFailed, match=f"does not belong to run {made.run_key}"):
        read_record(store.records, made.run_key)
    rewrite(store.records, made)
    text = (folder / "record.json").read_text()
    (folder / "record.json").write_text(text.replace('"schema_version": 2', '"schema_version": 99'))
    with pytest.raises(CheckFailed, match="has schema 99"):
        read_record(store.records, made.run_key)


@pytest.mark.parametrize(
    ("name", "read"), [("weights.safetensors", read_weights), ("arrays.safetensors", read_arrays)]
)
def test_sound_bytes_that_are_not_those_of_the_record_are_refused(store, small, name, read):
    """A file that can be loaded, of another run."""
    mine, other = (
        write_record(
            store.records,
            record_of(spec, OLD),
            {"w": np.full(3, spec.seed, dtype=np.float32)},
            {"test/mse": np.full(4, spec.seed, dtype=np.float32)},
        )
        for spec in specs_of(store, small, "fc_ae", [0, 1])
    )
    assert read(store.records, mine)
    path, others = (
        next(record_folder(store.records, record.run_key).rglob(name)) for record in (mine, other)
    )
    path.write_bytes(others.read_bytes())
    with pytest.raises(CheckFailed, match=f"{mine.run_key}/.*{name} was changed"):
        read(store.records, mine)


@pytest.mark.parametrize("name", ["record.json", "scores/*/scores.json", "boards/*.json"])
def test_a_flipped_bit_anywhere_in_a_document_is_noticed(store, record, name):
    made = write_record(store.records, record, WEIGHTS, ARRAYS)
    (path,) = record_folder(store.records, made.run_key).glob(name)
    sound = path.read_bytes()
    drawn = random.Random(0)
    accepted = 0
    for place in (drawn.randrange(len(sound)) for _ in range(150)):
        content = bytearray(sound)
        content[place] ^= 1 << drawn.randrange(8)
        path.write_bytes(bytes(content))
        try:
            # 1e-5 and 1E-5 are one number.
            assert read_record(store.records, made.run_key) == made
            accepted += 1
        except CheckFailed as error:
            assert str(path) in str(error)
    assert accepted <= 2


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("record.json", "spec", "text"),
        ("record.json", "facts", None),
        ("scores/*/scores.json", "evaluation_digest", 7),
        ("boards/*.json", "facts", "text"),
        ("boards/*.json", "spec", []),
    ],
)
def test_a_document_without_its_parts_is_refused_whatever_its_digest(
    store, record, name, key, value
):
    write_record(store.records, record, WEIGHTS, ARRAYS)
    (path,) = record_folder(store.records, record.run_key).glob(name)
    document = decode(path)
    path.write_bytes(encode({**document, key: value}))
    with pytest.raises(CheckFailed, match=rf"is damaged \({key}: missing or of another kind\)"):
        read_record(store.records, record.run_key)
