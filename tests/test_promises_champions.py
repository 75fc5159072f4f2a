"""A champion stands on all of its records, on their own weights, on a row that is in the table."""

import dataclasses
import shutil

import pytest
from invented import (
    EVERYTHING,
    decision,
    disagreeing,
    invent_row,
    ranks,
    write,
)
from registry_store import D8, tiny_protocol

from bench.core.errors import CheckFailed
from bench.core.protocol import Protocol
from bench.core.store import Store
from bench.records.files import iter_records, record_folder
from bench.registry import champions as folders
from bench.registry import publishing
from bench.registry.promotion import promote, rollback
from bench.registry.results import Scope
from tests.rewritten import reorder, rewrite

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
    (found,) = promote(store, EVERYTHING).decisions
    assert (found.action, found.champion) == ("none", None)
    assert found.why.endswith("--model fc_ae --latent-dim 8 --seed 0")
    assert not list(store.registry.rglob("card.json"))


def test_a_row_whose_weights_are_elsewhere_is_ranked_and_not_promoted(store, small):
    """The other tracks go on."""
    invent_row(store, small, "deep_ae", val=0.038, test=0.030)
    write(store)
    promote(store, EVERYTHING)
    (champion,) = store.registry.rglob("weights.safetensors")
    weights = champion.read_bytes()
    better = invent_row(store, small, "fc_ae", val=0.030, test=0.038)
    write(store)
    for record in better:
        shutil.rmtree(record_folder(store.records, record.run_key))
    invent_row(store, dataclasses.replace(small, name="other"), "vae", val=0.04, test=0.04)
    write(store)
    assert ranks(store, Scope(small))[0] == ("fc_ae", (1, 1))
    first, second = promote(store, EVERYTHING).decisions
    assert (second.action, second.champion.row, second.challenger.row) == (
        *("keep", "deep_ae", "fc_ae"),
    )
    assert second.why.startswith(
        "fc_ae: significantly better on validation than deep_ae, but its weights are not on this "
        "machine (fc_ae d=8 seed 0); promote it where they are, or train it here: bench run "
    )
    assert (first.action, first.champion.row) == ("first", "vae")
    assert champion.read_bytes() == weights
    assert publishing.check(store)


def test_a_run_that_differs_from_its_row_is_not_promoted(store, small):
    """It is better than the committed run, which stays in the table."""
    for record in invent_row(store, small, "fc_ae", val=0.030, test=0.038):
        write(store)
        scores = {part: {"mse": 0.9 * each["mse"]} for part, each in record.scores.items()}
        rewrite(store.records, dataclasses.replace(record, scores=scores))
    (found,) = promote(store, EVERYTHING).decisions
    assert (found.action, found.champion) == ("none", None)
    assert "its weights are not on this machine" in found.why


def test_a_run_with_other_scores_per_image_is_not_promoted(store, small):
    """Trained again on another machine: the means agree within 1 %, images do not. Its weights
    became a champion that `bench verify` then refused."""
    records = invent_row(store, small, "fc_ae", val=0.030, test=0.038)
    write(store)
    for record in records:
        reorder(store.records, record)
    (found,) = promote(store, EVERYTHING).decisions
    assert (found.action, found.champion) == ("none", None)
    assert (
        "is not the one whose scores per image are in the registry: val mse of image" in found.why
    )
    assert found.why.endswith("promote it where that run is")
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
