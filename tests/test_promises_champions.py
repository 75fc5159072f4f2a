"""A champion stands on all of its records, on their own weights, on a row that is in the table."""

import dataclasses

import pytest
from invented import (
    EVERYTHING,
    decision,
    disagreeing,
    invent_row,
    write,
)
from registry_store import D8, tiny_protocol

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import Protocol
from bench.core.store import Store
from bench.records.files import iter_records, record_folder
from bench.registry import champions as folders
from bench.registry import publishing
from bench.registry.promotion import promote, rollback
from tests.rewritten import rewrite

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")


@pytest.fixture
def small(store: Store) -> Protocol:
    return tiny_protocol(store.root)


def test_a_new_champion_needs_the_record_of_every_seed(store, small):
    """The median of those that happen to be here would be another one on every machine."""
    fc_ae = disagreeing(store, small)
    write(store)
    record_folder(store.records, fc_ae[0].run_key).rename(store.root / "lost")
    with pytest.raises(BadInput, match=r"--model fc_ae --latent-dim 8 --seed 0$"):
        promote(store, EVERYTHING)
    assert not list(store.registry.rglob("card.json"))


def test_what_was_rolled_back_comes_forward_again_with_new_results(store, small):
    invent_row(store, small, "deep_ae", val=0.038, test=0.030)
    write(store)
    promote(store, EVERYTHING)
    invent_row(store, small, "fc_ae", val=0.030, test=0.038)
    write(store)
    promote(store, EVERYTHING)
    rollback(store, D8)
    assert decision(store) == ("keep", "deep_ae", "fc_ae")
    invent_row(store, small, "fc_ae", val=0.020, test=0.038)
    publishing.write(store, EVERYTHING, refresh=True)
    assert decision(store) == ("replace", "fc_ae", "deep_ae")


def test_a_champion_whose_row_was_retired_gives_way_to_the_best(store, small):
    """Nothing is significantly better than it: it is no longer there to compare with."""
    invent_row(store, small, "fc_ae", val=0.030, test=0.030)
    write(store)
    promote(store, EVERYTHING)
    for record in list(iter_records(store.records)):
        spec = dataclasses.replace(record.spec, model_revision=99)
        later = dataclasses.replace(record, finished_unix_ms=10**12)
        folder = record_folder(store.records, record.run_key)
        twin = dataclasses.replace(later, spec=spec, run_key=spec.run_key)
        folder.rename(record_folder(store.records, spec.run_key))
        rewrite(store.records, twin)
    write(store)
    assert decision(store)[:2] == ("replace", "fc_ae")
    assert folders.champion(store.registry, D8).spec.model_revision == 99


def test_weights_that_are_not_those_of_the_record_become_no_champion(store, small):
    fc_ae = disagreeing(store, small)
    write(store)
    other = record_folder(store.records, fc_ae[0].run_key) / "weights.safetensors"
    own = record_folder(store.records, fc_ae[2].run_key) / "weights.safetensors"
    own.write_bytes(other.read_bytes())
    with pytest.raises(CheckFailed, match=r"weights\.safetensors was changed"):
        promote(store, EVERYTHING)
    assert not list(store.registry.rglob("card.json"))


def test_weights_that_are_too_large_stay_out_of_the_registry(store, small, monkeypatch):
    disagreeing(store, small)
    write(store)
    monkeypatch.setattr(folders, "MOST_BYTES", 10)
    promote(store, EVERYTHING)
    card = folders.champion(store.registry, D8)
    assert not card.weights.committed
    assert not (store.registry / card.folder / "weights.safetensors").exists()
    assert publishing.check(store)
