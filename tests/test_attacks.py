"""Attacks on the tables, as code: what `--check`, `verify` and `promote` say of each.

The attacker has the repository and computes every digest again. What follows from other committed
files is found by `bench leaderboard --check`; what follows from weights by `bench verify`. ATTACKS
says for each attack which command finds it, and with which words.
"""

# ruff: noqa: E501

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import attacks as by
import numpy as np
import pytest
from registry_store import D8

from bench.core.errors import BenchError, CheckFailed
from bench.core.store import Store
from bench.leaderboard.significance import IntervalRow, PairRow
from bench.records.files import iter_records
from bench.registry import champions as folders
from bench.registry import publishing
from bench.registry.cards import Card
from bench.registry.networks import compare_networks
from bench.registry.promotion import promote
from bench.registry.results import Scope, read_results
from bench.registry.scores import ScoresRow
from bench.registry.verification import raise_problems, targets, verify

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")


@dataclass(frozen=True)
class Attack:
    """Words of what each command says: `check` and `verify`, "" where they find nothing; `promote`,
    what it does with the track and why, or what it fails with; `write`, what it fails with."""

    name: str
    attack: Callable[[Store], None]
    check: str = ""
    verify: str = ""
    promote: str = "keep: already champion"
    write: str = ""


ATTACKS = (
    Attack("a row of the ledger with a lower error", by.ledger(scores={"val_mse": 0.001}), "val_mae is .* with this MSE", promote="none: not compared yet", write="do not agree with the ledger"),
    Attack("the same, tables written again", by.ledger_and_all(scores={"test_ssim": 0.99}), "", "test ssim"),
    Attack("a negative error", by.ledger(scores={"test_mse": -0.1}), "outside of 0 to", promote="none: not compared yet", write="do not agree with the ledger"),
    Attack("seconds below 0", by.ledger(facts={"train_seconds": -5.0}), "below 0", promote="none: not compared yet"),
    Attack("parameters of one seed edited", by.ledger(facts={"parameters": 7.0}), "parameters is 20.*, of seed 0 it is 7", promote="none: not compared yet"),
    Attack("multiply-adds of one seed edited", by.ledger(facts={"multiply_adds": 7.0}), "multiply_adds is 20.*, of seed 0 it is 7", promote="none: not compared yet"),
    Attack("code size understated", by.ledger(code_size=4), "active_units is .* outside of 0 to 4|code_size is 4", promote="none: not compared yet"),
    Attack("a run key used twice", by.ledger(seed=1), "it is in it twice|two runs of its cell|seed", promote="none: not compared yet"),
    # Which of the two sets of images is the latest depends on the second in which seeds ended.
    Attack("other images under a known label", by.ledger(data_digest="f" * 64), "data_digest is not that", promote="none: (not compared yet|seeds 0, 1, 2 expected, 0 found)"),
    Attack("another split on one board", by.ledger(split_digest="f" * 64), "split_digest is not that", promote="none: not compared yet"),
    Attack("the seed rule of one row edited", by.ledger(seed_rule="0,1"), "seed|computed from other rows", promote="none: not compared yet"),
    Attack("a mean in cells.csv", by.table("cells.csv", IntervalRow, by.lower_mean), "cells.csv is not what"),
    Attack("a p-value in comparisons.csv", by.table("comparisons.csv", PairRow, by.other_p), "comparisons.csv is not what"),
    Attack("the index of the scores", by.table("scores.csv", ScoresRow, lambda r: dataclasses.replace(r, metric="mae")), "scores.csv line 2"),
    Attack("scores per image halved", by.scores_file(lambda t: {k: v / 2 if k.endswith("/scale") else v for k, v in t.items()}), "the mean validation score"),
    Attack("validation and test swapped", by.scores_file(by.parts_swapped), "the mean validation score"),
    Attack("scores per image permuted", by.scores_file(lambda t: {k: v[::-1].copy() if k == "0/validation" else v for k, v in t.items()}), "is not what registry/scores/ gives", "of image"),
    Attack("NaN among the scores per image", by.scores_file(lambda t: {k: np.where(np.arange(len(v)) == 3, np.float16("nan"), v) if k == "0/test" else v for k, v in t.items()}), "the mean test score"),
    Attack("too many scores per image", by.scores_file(lambda t: {k: np.concatenate([v, v]) if k.startswith("0/test") and "scale" not in k else v for k, v in t.items()}), "scores on test where other rows|scores on test"),
    Attack("the files of two cells swapped", by.swapped_files, "was changed", promote="was changed: its SHA-256"),
    Attack("a file that no row has", by.extra_file, "belongs to no row"),
    Attack("a champion with a lower error", by.card(by.better()), "test mse is", "test mse is", promote="refresh: its card: test mse is"),
    Attack("a champion 0.5 % better", by.card(by.better(0.995)), "test mse|validation mse|results", "test mse is", promote="refresh: its card: test mse is"),
    Attack("a champion of another seed", by.card(by.of_spec(seed=7)), "median validation score", "no row", promote="refresh: its card: no row of results.csv"),
    Attack("a champion chosen by another metric", by.card(by.of_spec(selection_metric="psnr")), "median validation score", "no row", promote="refresh: its card: no row of results.csv"),
    Attack("a champion scored otherwise", by.card(lambda c: by.of_spec(evaluation=dataclasses.replace(c.spec.evaluation, metrics=("mse",)))(c)), "results.csv", "no row", promote="refresh: its card: no row of results.csv"),
    Attack("a champion with fewer parameters", by.card(lambda c: {"facts": {**c.facts, "parameters": 5.0}}), "parameters is 5", "parameters is", promote="refresh: its card: parameters is 5"),
    Attack("a champion's active numbers", by.card(lambda c: {"facts": {**c.facts, "output_std": 9.0}}), "", "output_std is"),
    Attack("a champion's means", by.card(lambda c: {"summary": dataclasses.replace(c.summary, means={**c.summary.means, "test_mse": 0.001})}), "means of pca"),
    Attack("a champion of other rows", by.card(lambda c: {"rows": ("0" * 16,)}), "was written from other rows", promote="refresh: its results were refreshed"),
    Attack("a champion's place in the table", by.card(lambda c: {"summary": dataclasses.replace(c.summary, best_share=0.123)})),
    Attack("small weights called too large", by.card(lambda c: {"weights": dataclasses.replace(c.weights, committed=False)}), "not too large", "too large to be committed, but", promote="refresh: its card: weights of"),
    Attack("the same with another size", by.card(lambda c: {"weights": dataclasses.replace(c.weights, committed=False, bytes=2**30)}), "", "too large to be committed, but"),
    Attack("other weights beside the card", by.card_weights(lambda w: w * np.float32(1.1)), "", "from the weights"),
    Attack("a champion in no row", by.no_row_of_the_champion, "no row of results.csv|card.json", "no row", promote="replace: the row of pca is no longer"),
    Attack("a champion's folder is a link", by.link_in_registry, "does not name a place", "does not name a place", promote="does not name a place", write="does not name a place"),
    Attack("a picture replaced", by.picture, "reconstructions.png was changed", "reconstructions.png was changed"),
    Attack("a page edited", by.page, "README.md line"),
    Attack("scores of a record that its arrays do not give", by.record(lambda r: {"scores": {**r.scores, "test": {**r.scores["test"], "mse": 0.001}}}), "", "test mse is"),
    Attack("arrays of a record permuted", by.record_arrays(lambda v: v[::-1]), "", "of image"),
    Attack("arrays of a record replaced", by.record_arrays(lambda v: v * np.float32(0.5)), "", "of image"),
    Attack("facts of a record", by.record(lambda r: {"facts": {**r.facts, "parameters": 5.0}}), "", "parameters is"),
    Attack("an invented fact of a record", by.record(lambda r: {"facts": {**r.facts, "beauty": 5.0}}), "", "beauty is"),
    Attack("parameters of every seed, all written again", by.of_all_seeds(facts={"parameters": 7.0}), "", "parameters is .* from its network"),
    Attack("multiply-adds of every seed, all written again", by.of_all_seeds(facts={"multiply_adds": 7.0}), "", "multiply_adds is .* from its network"),
    Attack("bits of the code of every seed, all written again", by.of_all_seeds(facts={"code_bits": 8.0}), "", "code_bits is 256 from its network"),
    Attack("the PSNR of every seed, all written again", by.careless(by.of_all_seeds(scores={"test_psnr": 60.0})), "test_psnr 60, the squared errors of its images allow", write="the squared errors of its images"),
    Attack("the absolute error of every seed, all written again", by.careless(by.absolute_error_too_high), "test_mae .* the squared errors of its images allow", write="the squared errors of its images"),
    Attack("an SSIM above 1 in every seed", by.of_all_seeds(scores={"test_ssim": 1.5}), "outside of -1 to 1"),
    Attack("a trained row said to be solved", by.ledger(closed_form=True), "closed_form is True, of fc_ae it is False", promote="none: not compared yet"),
    # Only training again shows it: `bench verify --retrain` (tests/test_retraining.py).
    Attack("every seed with an eighth of the error, all written again", by.eighth_and_written_again, promote="but its weights are not on this machine"),
    Attack("a bad seed removed, all written again", by.without_row(0)),
    Attack("a champion before this one that never was", by.previous_champion, "previous/card.json: no row of results.csv"),
    Attack("a champion of images of another size", by.card(lambda c: {"image_shape": (1, 27, 27)}), "", "shape of the images|describe different"),
    Attack("a champion of another split", by.card(lambda c: {"split_digest": "f" * 64}), "the split digest is", "digest of the split", promote="refresh: its card: the split digest"),
    Attack("the page for browsers edited", by.index, "index.html line"),
    Attack("a note of a record left out", by.facts(active_units=None), "", "active_units is"),
    Attack("arrays of a record left out", by.record_arrays(lambda v: None), "", "no scores per image"),
    Attack("weights of a record of another network", by.record_weights(by.of_other_network), "", "not those of its network"),
    Attack("another recipe under the name of the protocol", by.record(lambda r: {"spec": dataclasses.replace(r.spec, definition=dataclasses.replace(r.spec.definition, train=dataclasses.replace(r.spec.train, epochs=9)))}), "", "protocol_fingerprint is not"),
    Attack("PCA solved on validation and test", by.pca_of_everything, "", "solved again"),
)  # fmt: skip


RECORDS: tuple[tuple[str, Callable[[str], Callable[[Store], None]], str], ...] = (
    ("scores that its arrays do not give", lambda model: by.record(lambda r: {"scores": {**r.scores, "val": {**r.scores["val"], "mse": 0.001}}}, model), "the mean over its images"),
    ("a lower test error alone", lambda model: by.record(lambda r: {"scores": {**r.scores, "test": {**r.scores["test"], "ssim": 0.99}}}, model), "test ssim"),
    ("arrays permuted", lambda model: by.record_arrays(lambda v: v[::-1], model), "val mse of"),
    ("arrays and means 0.5 % better", lambda model: by.record_arrays(lambda v: v * np.float32(0.995), model, means=True), "val mse"),
    ("arrays and means halved", lambda model: by.record_arrays(lambda v: v * np.float32(0.5), model, means=True), "val mse"),
    ("arrays left out", lambda model: by.record_arrays(lambda v: None, model), "no scores per image"),
    ("fewer images", lambda model: by.record_arrays(lambda v: np.sort(v)[:-50], model, means=True), "scores of 1000 validation images"),
    ("fewer parameters", lambda model: by.facts(model, parameters=5.0), "parameters is"),
    ("fewer multiply-adds", lambda model: by.facts(model, multiply_adds=5.0), "multiply_adds is"),
    ("a smaller code", lambda model: by.facts(model, code_size=4.0), "code_size is 8"),
    ("more training images", lambda model: by.facts(model, train_images=60000.0), "train_images is 6000|train is not"),
    ("a constant output hidden", lambda model: by.facts(model, output_std=9.0), "output_std is"),
    ("a dead code hidden", lambda model: by.facts(model, active_units=None), "active_units is not written down"),
    ("other weights", lambda model: by.record_weights(by.scaled, model), "val mse of|solved again"),
    ("weights of another network", lambda model: by.record_weights(by.of_other_network, model), "not those of its network"),
    ("another split", lambda model: by.record(lambda r: {"split_digest": "f" * 64}, model), "the digest of its split"),
    ("one seed is enough, or not", lambda model: by.record(lambda r: {"closed_form": not r.closed_form}, model), "closed_form is"),
    ("a protocol that is not ranked", lambda model: by.record(lambda r: {"spec": dataclasses.replace(r.spec, definition=dataclasses.replace(r.spec.definition, ranked=False))}, model), "ranked is not that of its protocol"),
    ("another recipe under the name", lambda model: by.record(lambda r: {"spec": dataclasses.replace(r.spec, definition=dataclasses.replace(r.spec.definition, train=dataclasses.replace(r.spec.train, epochs=9)))}, model), "protocol_fingerprint is not|train is not"),
    ("scores of a run that diverged", lambda model: by.record(lambda r: {"status": "diverged"}, model), "although it diverged"),
)  # fmt: skip
"""What a local record says falsely, of a variant, and why it is not believed."""


def says(command: Callable[[], object]) -> str:
    """What a command fails with; "" if it does not fail."""
    try:
        command()
    except BenchError as error:
        return str(error)
    return ""


def verified(store: Store) -> str:
    """What `bench verify --all` finds, of the two targets that attacks are on."""
    return says(lambda: raise_problems([*_verified(store)]))


def _verified(store: Store) -> Iterator:
    champion = folders.champions(store.registry).get(D8)
    keys = {champion.run_key} if champion else set()
    keys |= {
        each.run_key
        for each in iter_records(store.records)
        if (each.spec.model, each.spec.latent_dim, each.spec.seed) == ("fc_ae", 8, 0)
    }
    chosen = [
        each
        for each in targets(store, [], True)
        if (each.track == D8 if isinstance(each, Card) else each.run_key in keys)
    ]
    yield from verify(store, chosen)
    yield from compare_networks(store).wrong


@dataclass(frozen=True)
class Honest:
    """What a workspace says before it is attacked: its rows, and the scores and weights of the
    champion."""

    rows: frozenset[str]
    scores: object
    weights: str

    @classmethod
    def of(cls, store: Store) -> "Honest":
        card = folders.champion(store.registry, D8)
        rows = frozenset(row.row_digest for row in read_results(store.registry).ledger)
        return cls(rows, card.scores, card.weights.sha256)


def rows_of(store: Store) -> set[str]:
    """The rows of the ledger; none if it cannot be read."""
    try:
        return {row.row_digest for row in read_results(store.registry).ledger}
    except BenchError:
        return set()


def card_of(store: Store) -> bytes:
    """The card of the champion, b"" if there is none."""
    path = store.registry / "fashion_mnist_mini" / "quick.d8" / "card.json"
    return path.read_bytes() if path.exists() else b""


def promoted_says(store: Store) -> str:
    """What `bench promote` does with the track, and why, or what it fails with."""
    try:
        (done,) = [each for each in promote(store, Scope()).decisions if each.track == D8]
    except BenchError as error:
        return str(error)
    return f"{done.action}: {done.why}"


@pytest.mark.parametrize("row", ATTACKS, ids=lambda row: row.name)
def test_an_attack_is_found(promoted, row):
    row.attack(promoted)
    found = says(lambda: publishing.check(promoted))
    assert bool(row.check) == bool(found), f"--check: {found or 'nothing'}"
    assert re.search(row.check, found), found
    if row.verify or not row.check:
        found = verified(promoted)
        assert bool(row.verify) == bool(found), f"verify: {found or 'nothing'}"
        assert re.search(row.verify, found), found


@pytest.mark.slow(minutes=3)
@pytest.mark.parametrize("row", ATTACKS, ids=lambda row: row.name)
def test_nothing_of_an_attack_is_promoted_or_written(promoted, row):
    honest = Honest.of(promoted)
    row.attack(promoted)
    rows, card = rows_of(promoted), card_of(promoted)
    found = promoted_says(promoted)
    assert re.search(row.promote, found), f"promote: {found}"
    if card_of(promoted) != card:
        now = folders.champion(promoted.registry, D8)
        if found.startswith("replace: the row of"):  # it left the table: another one follows
            assert now.summary.row != "pca" and set(now.rows) <= rows_of(promoted)
        else:  # renewed: it is the honest one again
            assert (now.scores, now.weights.sha256) == (honest.scores, honest.weights)
    found = says(lambda: publishing.write(promoted, Scope(), refresh=False))
    assert bool(row.write) == bool(found), f"--write: {found or 'nothing'}"
    assert re.search(row.write, found), found
    assert rows_of(promoted) <= rows | honest.rows


@pytest.mark.parametrize("row", RECORDS, ids=lambda row: row[0])
def test_a_forged_record_enters_no_table(ran, row):
    _, attack, why = row
    attack("fc_ae")(ran)
    with pytest.raises(CheckFailed, match=f"(?s)is not believed: .*({why})") as refused:
        publishing.write(ran, Scope(), refresh=False)
    assert "nothing was written" in str(refused.value)
    assert not list(ran.registry.rglob("*.csv"))


SOME = ("arrays and means 0.5 % better", "fewer parameters", "other weights")
LATER = [
    pytest.param(row, id=row[0], marks=[] if row[0] in SOME else [pytest.mark.slow(minutes=1)])
    for row in RECORDS
]


@pytest.mark.parametrize("row", LATER)
def test_a_record_that_was_forged_later_is_not_promoted(written, row):
    _, attack, why = row
    attack("pca")(written)
    found = promoted_says(written)
    assert re.search(f"is not believed: .*({why})|its weights are not on this machine", found)
    assert D8 not in folders.champions(written.registry)


def test_nothing_is_found_in_honest_tables(promoted):
    assert says(lambda: publishing.check(promoted)) == ""
    assert verified(promoted) == ""
