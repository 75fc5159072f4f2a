"""Scores per image in `registry/scores/`: kept exactly enough, the base of all comparisons."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from invented import disagreeing, invent, invent_row, ranks, record_of, specs_of, table, write
from registry_store import files_of, tiny_protocol
from safetensors.numpy import load_file, save_file

from bench.benchmark.plan import Request, plan
from bench.core.errors import BadInput, CheckFailed
from bench.core.identity import sha256_of_file
from bench.core.store import Store
from bench.data import load_splits
from bench.evaluation.gallery import first_of_each_class
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.csv_rows import encode
from bench.leaderboard.ledger import row_of
from bench.leaderboard.significance import IntervalRow
from bench.records.files import iter_records
from bench.registry import changes, publishing
from bench.registry.changes import mend_registry
from bench.registry.earlier import convert_names
from bench.registry.results import Scope, read_results, write_changed
from bench.registry.score_files import PRECISION, as_kept, encoded, pictures_of
from bench.registry.scores import Kept, ScoresRow
from tests.rewritten import rewrite

GENERATOR = np.random.default_rng(0)
EXTREMES = {
    "one image": np.array([0.0020001]),
    "two images far apart": np.array([1e-6, 1.0]),
    "errors of a good model": GENERATOR.lognormal(np.log(2e-3), 0.8, 10_000),
    "errors near 0": GENERATOR.lognormal(np.log(2e-9), 2.0, 1_000),
    "below the least float16": np.full(7, 3e-30),
    "one image beyond all others": np.array([*[1e-7] * 999, 5.0]),
    "decibels": GENERATOR.uniform(5, 100, 999),
    "above the largest float16": np.array([1e5, 3e5, 7e8]),
    "similarities of both signs": GENERATOR.uniform(-0.01, 0.9, 33),
    "both signs, one image each": np.array([-0.30001, 0.70003]),
    "all below 0": np.array([-0.1, -0.7, -0.01]),
}


@pytest.mark.parametrize("given", EXTREMES.values(), ids=EXTREMES)
def test_kept_scores_have_the_mean_and_nearly_the_values(given):
    scores = given.astype(np.float32)
    kept = as_kept(scores)
    mean = scores.mean(dtype=np.float64)
    assert abs(kept.mean(dtype=np.float64) - mean) <= 0.01 * PRECISION * abs(mean)
    assert encoded(scores)[0].dtype == np.float16
    large = np.abs(scores) > 2e-9 * np.abs(scores).max()
    rest = np.abs(scores).max() * 1e-3 if scores.min() < 0 < scores.max() else 0
    assert np.allclose(kept[large], scores[large], rtol=1.1e-3, atol=rest)


def test_hits_and_zeros_are_kept_exactly():
    hits = (GENERATOR.random(1000) < 0.93).astype(np.float32)
    assert (as_kept(hits) == hits).all()
    assert (as_kept(np.zeros(5, np.float32)) == 0).all()
    assert (as_kept(np.ones(1, np.float32)) == 1).all()


@pytest.fixture
def small(store):
    return tiny_protocol(store.root)


@pytest.fixture
def written(store, small):
    """Three rows of three seeds in the registry, with their scores."""
    disagreeing(store, small)
    write(store)
    return store


def elsewhere(store):
    """The same clone on a machine without the records."""
    shutil.rmtree(store.records)
    store.records.mkdir()


def score_files(store):
    return sorted((store.registry / "scores").rglob("*.safetensors"))


def index(store):
    return read_results(store.registry).scores


def test_a_workspace_without_records_adds_a_row_and_ranks_it(written, small):
    before = files_of(written.registry / "scores")
    elsewhere(written)
    invent_row(written, small, "cnn_ae", val=0.02, test=0.02)
    found = write(written)
    assert found.lines[0] == "3 rows are new"
    assert [name for name, _ in ranks(written)] == ["cnn_ae", "fc_ae", "vae", "deep_ae"]
    assert publishing.check(written) == [
        "12 rows, 0 champions and registry/README.md agree with each other"
    ]
    after = files_of(written.registry / "scores")
    assert len(after) == 4
    assert before.items() <= after.items()


def test_a_table_is_the_same_before_it_is_written_and_after(store, small):
    disagreeing(store, small)
    before = repr(table(store))
    write(store)
    assert repr(table(store)) == before
    for name in ("cells.csv", "comparisons.csv"):
        (store.registry / name).unlink()
    assert repr(table(store)) == before


def test_every_machine_computes_the_same_from_the_committed_scores(written, small):
    """Here from the records of all four rows, there from the committed scores of three."""
    there = Store(written.root.with_name("there")).prepare()
    shutil.copytree(written.registry, there.registry)
    for store in (written, there):
        invent_row(store, small, "cnn_ae", val=0.02, test=0.02)
    for name in ("cells.csv", "comparisons.csv"):
        (written.registry / name).unlink()
    write(written)
    write(there)
    assert files_of(written.registry) == files_of(there.registry)


def test_a_file_has_the_same_bytes_whatever_was_there_before(written, small):
    whole = files_of(written.registry / "scores")
    for path in score_files(written):
        path.unlink()
    write(written)
    assert files_of(written.registry / "scores") == whole
    (written.registry / "scores.csv").unlink()
    write(written)
    assert files_of(written.registry / "scores") == whole
    assert publishing.check(written)


def test_a_reproduction_leaves_the_committed_bytes(written, small):
    before = files_of(written.registry)
    elsewhere(written)
    for model, val, test in (("fc_ae", 0.030, 0.038), ("vae", 0.034, 0.034)):
        invent_row(written, small, model, val=val * 1.003, test=test * 0.998)
    found = write(written)
    assert found.changed == []
    assert found.lines[0] == "reproduced 6 of 9 rows of quick on fashion_mnist_mini"
    assert files_of(written.registry) == before


def test_seeds_of_two_machines_come_together_in_one_file(written, small):
    elsewhere(written)
    (spec,) = specs_of(written, small, "fc_ae", [3])
    invent(written, spec, 0.0301, 0.038)
    write(written)
    assert {entry.row: entry.seeds for entry in index(written)}["fc_ae"] == "0 1 2 3"
    kept = Kept(written.registry, index(written))
    rows = [row for row in read_results(written.registry).ledger if row.model == "fc_ae"]
    for row in rows:
        mean = kept.scores_of(row, "validation").mean(dtype=np.float64)
        assert mean == pytest.approx(row.scores["val_mse"], rel=1e-5)
    assert publishing.check(written)


def forged(store, change):
    """Change the first file and give the index its new digest: what a patient person can do."""
    path, (first, *rest) = score_files(store)[0], index(store)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    entry = dataclasses.replace(first, sha256=sha256_of_file(path))
    content = encode([entry, *rest], ScoresRow.required())
    (store.registry / "scores.csv").write_bytes(content)


def worse(tensors):
    tensors["1/test/scale"] *= 1.0002


INTEGERS = {"0/test": np.zeros(3, np.int64)}


def twice(tensors):
    return {
        key: np.tile(tensors[key], 2) for key in ("0/validation", "1/validation", "2/validation")
    }


def rewritten_index(store, change):
    content = encode(change(list(index(store))), ScoresRow.required())
    (store.registry / "scores.csv").write_bytes(content)


FAULTS = {
    "missing": (
        lambda store: score_files(store)[0].unlink(),
        r"deep_ae-d8-[0-9a-f]{16}\.safetensors is missing; .*leaderboard --write",
    ),
    "altered": (
        lambda store: score_files(store)[1].write_bytes(b"x" * 100),
        r"fc_ae-d8-[0-9a-f]{16}\.safetensors was changed: .*leaderboard --write",
    ),
    "another mean": (
        lambda store: forged(store, worse),
        r"deep_ae-d8-\w+\.safetensors: the mean test score of seed 1 is .* says 0\.03; .*--write",
    ),
    "no scores": (
        lambda store: forged(store, lambda tensors: tensors.pop("2/validation")),
        r"deep_ae.*: the mean validation score of seed 2 is None, .*--write",
    ),
    "of another kind": (
        lambda store: forged(store, lambda tensors: tensors.update(INTEGERS)),
        r"deep_ae.*: the mean test score of seed 0 is None, .*--write",
    ),
    "left over": (
        lambda store: shutil.copy(
            score_files(store)[0], score_files(store)[0].with_name(f"vae-d8-{'0' * 16}.safetensors")
        ),
        r"vae-d8-0{16}\.safetensors belongs to no row of registry/scores\.csv; .*--write",
    ),
    "somebody's": (
        lambda store: (store.registry / "scores" / "notes.txt").write_text("mine"),
        r"registry/scores/notes\.txt belongs to no row of registry/scores\.csv; remove it",
    ),
    "of other rows": (
        lambda store: rewritten_index(
            store,
            lambda rows: [dataclasses.replace(rows[0], runs=rows[1].runs), *rows[1:]],
        ),
        r"scores\.csv line 2 does not match the rows of registry/results.*--write",
    ),
    "in another order": (
        lambda store: rewritten_index(store, lambda rows: rows[::-1]),
        r"registry/scores\.csv is not in the order in which it is written; .*--write",
    ),
}


@pytest.mark.parametrize(("harm", "said"), FAULTS.values(), ids=FAULTS)
def test_check_finds_what_was_done_to_the_scores(written, harm, said):
    """In one line; where the records are, the command that it names mends it."""
    whole = files_of(written.registry)
    harm(written)
    with pytest.raises(CheckFailed, match=said) as caught:
        publishing.check(written)
    assert "\n" not in str(caught.value)
    if "remove it" in said:
        (written.registry / "scores" / "notes.txt").unlink()
    write(written)
    assert publishing.check(written)
    assert files_of(written.registry) == whole


def test_scores_of_other_images_than_those_of_the_board_are_refused(written):
    forged(written, lambda tensors: tensors.update(twice(tensors)))
    said = r"has 40 scores on validation where other rows of its board have 80; restore"
    with pytest.raises(CheckFailed, match=said):
        publishing.check(written)


def test_a_damaged_file_that_no_record_replaces_stops_the_writer(written):
    score_files(written)[0].write_bytes(b"")
    elsewhere(written)
    before = files_of(written.registry)
    with pytest.raises(CheckFailed, match=r"deep_ae-d8-\w+\.safetensors was changed"):
        write(written)
    assert files_of(written.registry) == before


def test_an_interrupted_change_takes_the_scores_along(written, small, monkeypatch):
    """Killed after the ledger was put in place and before the scores were."""
    invent_row(written, small, "cnn_ae", val=0.02, test=0.02)
    whole = changes._put_in_place

    def killed(part, final, replaced):
        if final.parent.name == "scores":
            raise KeyboardInterrupt
        whole(part, final, replaced)

    monkeypatch.setattr(changes, "_put_in_place", killed)
    with pytest.raises(KeyboardInterrupt):
        write(written)
    assert len(score_files(written)) == 3
    monkeypatch.undo()
    mend_registry(written)
    assert len(score_files(written)) == 4
    assert len(publishing.check(written)) == 1


def test_comparisons_that_the_scores_do_not_give_are_found(written):
    """With right digests; deleting the file computes them again."""
    whole = files_of(written.registry)
    cells = list(read_results(written.registry).known.cells)
    cells[0] = dataclasses.replace(cells[0], low=cells[0].low * 1.001)
    path = written.registry / "cells.csv"
    path.write_bytes(encode(cells, IntervalRow.required()))
    with pytest.raises(
        CheckFailed, match=r"track .*\.d8: registry/cells\.csv is not what .*--write"
    ):
        publishing.check(written)
    path.unlink()
    elsewhere(written)
    write(written)
    assert files_of(written.registry) == whole


def test_rows_without_scores_are_counted_and_keep_their_comparisons(written, small):
    """A registry of a version that committed no scores."""
    shutil.rmtree(written.registry / "scores")
    (written.registry / "scores.csv").unlink()
    elsewhere(written)
    lines = publishing.check(written)
    assert "9 ranked runs have no scores in registry/scores/" in lines[1]
    assert lines[1].endswith("bench leaderboard --write --refresh")
    invent_row(written, small, "fc_ae", val=0.030 * 1.003, test=0.038)
    write(written)
    assert index(written) == ()  # the ledger has another run
    assert "9 ranked runs" in publishing.check(written)[1]
    found = publishing.write(written, Scope(), refresh=False)
    assert found.changed == []
    invent_row(written, small, "deep_ae", val=0.038, test=0.030)
    invent_row(written, small, "vae", val=0.034 * 1.004, test=0.034)
    found = publishing.write(written, Scope(), refresh=True)
    assert "6 rows were refreshed" in found.lines
    assert [entry.row for entry in index(written)] == ["deep_ae", "fc_ae", "vae"]
    assert len(publishing.check(written)) == 1


def test_comparisons_of_earlier_versions_are_computed_again_from_kept_scores(
    store, small, monkeypatch
):
    """Those were made from records, whose scores have more digits."""
    disagreeing(store, small)
    with monkeypatch.context() as earlier:
        earlier.setattr("bench.registry.publishing.renewed", lambda *_: ((), {}))
        earlier.setattr("bench.registry.results.as_kept", lambda scores: scores * 1.0001)
        write(store)
    before = (store.registry / "cells.csv").read_bytes()
    assert "9 ranked runs" in publishing.check(store)[1]
    write(store)
    assert (store.registry / "cells.csv").read_bytes() != before
    assert len(publishing.check(store)) == 1


def test_scores_leave_with_their_rows(written):
    kept = [row for row in read_results(written.registry).ledger if row.model != "vae"]
    results = dataclasses.replace(read_results(written.registry), ledger=kept)
    write_changed(written.registry, results.files())
    elsewhere(written)
    found = write(written)
    (gone,) = [name for name in found.changed if "/vae-" in name]
    assert gone.startswith("registry/scores/fashion_mnist_mini/quick/vae-d8-")
    assert [entry.row for entry in index(written)] == ["deep_ae", "fc_ae"]
    assert len(score_files(written)) == 2
    assert publishing.check(written)


def test_scores_of_a_local_run_that_drifted_compare_nothing(written, small):
    shutil.rmtree(written.registry / "scores")
    (written.registry / "scores.csv").unlink()
    (written.registry / "cells.csv").unlink()
    (record,) = [r for r in iter_records(written.records) if r.spec.title == "vae d=8 seed 1"]
    scores = {part: {"mse": 2 * each["mse"]} for part, each in record.scores.items()}
    rewrite(written.records, dataclasses.replace(record, scores=scores))
    found = publishing.look(written, Scope())
    assert any("1 of its runs are not on this machine" in line for line in found.lines)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_out_of_the_registry_is_not_followed(store, small, tmp_path):
    disagreeing(store, small)
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.registry / "scores").mkdir(parents=True)
    (store.registry / "scores" / "fashion_mnist_mini").symlink_to(outside)
    with pytest.raises(BadInput, match="does not name a place below"):
        write(store)
    assert not list(outside.iterdir())


def test_runs_of_protocols_that_are_not_ranked_leave_no_scores(store, small):
    invent_row(store, dataclasses.replace(small, ranked=False), "fc_ae", 0.03, 0.03)
    write(store)
    assert index(store) == ()
    assert len(publishing.check(store)) == 1


def test_names_given_by_earlier_versions_take_their_scores_along(store, small):
    """Own data had no digits of their content in their name."""
    for spec in specs_of(store, small, "fc_ae"):
        invent(store, dataclasses.replace(spec, dataset_label="npz.photos"), 0.03, 0.03)
    write(store)
    (before,) = score_files(store)
    content, digits = before.read_bytes(), read_results(store.registry).ledger[0].data_digest[:6]
    elsewhere(store)
    convert_names(store)
    (after,) = score_files(store)
    assert after.parent.parent.name == f"npz.photos-{digits}"
    assert after.read_bytes() == content
    assert len(publishing.check(store)) == 1


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """A solved and a trained variant, run on the bundled images, and their tables."""
    root = tmp_path_factory.mktemp("pictured")
    store = Store(root).prepare()
    protocol = tiny_protocol(root, latent_dims="[4]", seeds="[0, 1]")
    for spec in plan(Request(protocol, ("pca", "fc_ae"), device="cpu"), store).missing:
        execute(spec, store, ignore_epochs)
    write(store)
    return store


def test_a_cell_keeps_the_same_small_pictures_and_its_curves(pictured):
    fc_ae, originals, pca = score_files(pictured)
    assert originals.name.startswith("originals-")
    (record, *_) = iter_records(pictured.records)
    test = load_splits("fashion_mnist_mini", record.spec.split).test
    chosen = test.images[first_of_each_class(test.labels, 24)]
    assert (load_file(originals)["x"] == chosen).all()
    found = load_file(fc_ae)
    assert {"0/curve", "1/curve", "0/x_hat"} <= found.keys()
    assert "1/x_hat" not in found
    assert found["0/x_hat"].shape == (24, 1, 28, 28)
    assert found["0/x_hat"].dtype == np.uint8
    error = ((found["0/x_hat"] / 255.0 - chosen / 255.0) ** 2).mean()
    rows = read_results(pictured.registry).ledger
    (row,) = [row for row in rows if (row.model, row.seed) == ("fc_ae", 0)]
    assert error == pytest.approx(row.scores["test_mse"], rel=0.5)
    assert found["0/curve"].dtype == np.float32
    assert found["0/curve"][-1] == pytest.approx(row.scores["val_mse"], rel=1e-3)
    assert not [key for key in load_file(pca) if "curve" in key]


@pytest.mark.parametrize("dataset", ["fashion_mnist_mini", "npz.mine-a58fb5"])
def test_pictures_of_own_images_are_not_committed(store, small, dataset):
    pictures = {f"pictures/{name}": np.zeros((24, 1, 8, 8), np.uint8) for name in ("x", "x_hat")}
    (spec,) = specs_of(store, small, "fc_ae", [0])
    invent(store, dataclasses.replace(spec, dataset_label=dataset), 0.03, 0.03, more=pictures)
    write(store)
    (entry,) = index(store)
    own = dataset.startswith("npz")
    assert (entry.originals is None) == own
    assert len(score_files(store)) == (1 if own else 2)
    found = load_file(next(p for p in score_files(store) if p.name.startswith("fc_ae")))
    assert ("0/x_hat" in found) != own
    assert len(publishing.check(store)) == 1


def test_samples_and_interpolations_are_kept_as_small_pictures(store, small):
    unit = GENERATOR.random((64, 1, 8, 8)).astype(np.float32) * 1.2 - 0.1
    paths = GENERATOR.random((4, 5, 1, 8, 8)).astype(np.float32)
    more = {f"pictures/{name}": np.zeros((24, 1, 8, 8), np.uint8) for name in ("x", "x_hat")}
    more |= {"samples/x_hat": unit, "interpolation/x_hat": paths}
    row = dataclasses.replace(specs_of(store, small, "fc_ae")[0], dataset_label="mnist")
    kept = pictures_of(row_of(record_of(row, {})), more)
    assert set(kept) == {"x", "x_hat", "samples", "interpolation"}
    assert (kept["samples"] == np.rint(255 * unit[:24].clip(0, 1))).all()
    assert kept["interpolation"].shape == (20, 1, 8, 8) and kept["interpolation"].dtype == np.uint8
    # Where generation was measured: a sheet for each sampler, and whole paths only.
    by_sampler = GENERATOR.integers(0, 256, (10, 1, 8, 8), dtype=np.uint8)
    long = GENERATOR.integers(0, 256, (6, 11, 1, 8, 8), dtype=np.uint8)
    more |= {"generated/prior/x_hat": by_sampler, "generated/mixture/x_hat": by_sampler}
    more |= {"generated/prior/nearest": by_sampler, "paths/x_hat": long}
    kept = pictures_of(row_of(record_of(row, {})), more)
    assert set(kept) == {"x", "x_hat", "samples_prior", "samples_mixture", "interpolation"}
    assert (kept["samples_prior"] == by_sampler).all()
    assert (kept["interpolation"] == long[:2].reshape(22, 1, 8, 8)).all()
    own = dataclasses.replace(row, dataset_label="mine-123456")
    assert pictures_of(row_of(record_of(own, {})), more) == {}
