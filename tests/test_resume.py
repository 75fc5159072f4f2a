"""`resume_from_ledger`: a clone goes on with runs that another machine finished."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from invented import disagreeing, invent_row, ranks, write
from registry_store import tiny_protocol
from tiny import TINY
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.records.documents import documents_of
from bench.records.files import iter_records, workspace_of
from bench.registry import publishing
from bench.registry.results import read_results

MODELS = ("deep_ae", "fc_ae", "vae", "cnn_ae")


@pytest.fixture
def small(store):
    return dataclasses.replace(tiny_protocol(store.root), resume_from_ledger=True)


@pytest.fixture
def clone(store, small):
    """Three rows of three seeds with their scores, and no record of them."""
    disagreeing(store, small)
    write(store)
    shutil.rmtree(store.records)
    store.records.mkdir()
    return store


def planned(store, protocol, **wanted):
    return plan(Request(protocol, MODELS, (8,), device="cpu", **wanted), store)


def missing(store, protocol, **wanted):
    return sorted({spec.model for spec in planned(store, protocol, **wanted).missing})


def test_runs_of_the_ledger_are_done_and_named_as_trained_elsewhere(clone, small):
    found = planned(clone, small)
    assert len(found.specs) == 12
    assert found.done == {}
    assert [spec.title for spec in found.missing] == [f"cnn_ae d=8 seed {n}" for n in range(3)]
    assert "9 runs are in the ledger, trained elsewhere" in found.notes
    off = planned(clone, dataclasses.replace(small, resume_from_ledger=False))
    assert len(off.missing) == 12
    assert not [note for note in off.notes if "elsewhere" in note]
    invent_row(clone, small, "cnn_ae", val=0.02, test=0.02)
    write(clone)
    order = ("cnn_ae", "fc_ae", "vae", "deep_ae")
    assert ranks(clone) == [(name, (rank, rank)) for rank, name in enumerate(order, start=1)]
    assert publishing.check(clone)


def test_seeds_settings_metrics_and_names_that_the_ledger_lacks_are_run(clone, small):
    assert missing(clone, small) == ["cnn_ae"]
    assert len(planned(clone, small, seeds=(2, 3)).missing) == 3 + 2
    longer = dataclasses.replace(small, train=dataclasses.replace(small.train, epochs=2))
    metrics = dataclasses.replace(small.evaluation, metrics=("mse",))
    other = dataclasses.replace(small, evaluation=metrics)
    for changed in (longer, other, dataclasses.replace(small, name="other")):
        assert missing(clone, changed) == sorted(MODELS)


def test_runs_whose_scores_are_not_committed_are_run(clone, small):
    """Nothing could be compared with them."""
    shutil.rmtree(clone.registry / "scores")
    (clone.registry / "scores.csv").unlink()
    assert missing(clone, small) == sorted(MODELS)


def test_the_key_is_no_property_of_the_results(store, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TINY)
    before = load_protocol(str(path))
    path.write_text(TINY.replace('name = "tiny"', 'name = "tiny"\nresume_from_ledger = true'))
    protocol = load_protocol(str(path))
    assert (before.resume_from_ledger, protocol.resume_from_ledger) == (False, True)
    assert protocol.fingerprint == before.fingerprint
    assert protocol.kept("x") == before.kept("x")
    invent_row(store, protocol, "fc_ae", val=0.03, test=0.03)
    for record in iter_records(store.records):
        found = documents_of(record, workspace_of(store.records))
        assert "resume_from_ledger" not in str(found)
    assert not load_protocol("quick").resume_from_ledger
    path.write_text(TINY.replace('name = "tiny"', 'name = "tiny"\nresume_from_ledger = 1'))
    with pytest.raises(BadInput, match="resume_from_ledger"):
        load_protocol(str(path))


def test_a_command_goes_on_where_another_machine_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TINY.replace('name = "tiny"', 'name = "tiny"\nresume_from_ledger = true'))
    monkeypatch.setenv("BENCH_TRACKING", "off")
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "here"))

    def bench(*arguments: str) -> str:
        said = CliRunner().invoke(app, arguments)
        assert said.exit_code == 0, said.output
        return said.output

    run = ("run", "--protocol", str(path), "--model", "mean_image", "--workers", "1")
    assert "1 trained" in bench(*run)
    bench("leaderboard", "--write")
    store = Store(tmp_path / "here")
    rows = read_results(store.registry).ledger
    shutil.rmtree(store.records)
    said = bench(*run)
    assert f"{len(rows)} run" in said
    assert "in the ledger, trained elsewhere" in said
    assert "0 to do" in said
    assert "0 trained" in said
    assert "elsewhere" in bench(*run, "--dry-run")
