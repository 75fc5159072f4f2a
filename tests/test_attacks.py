"""Attacks on the tables, as code: what `--check`, `verify` and `promote` say of each.

The attacker has the repository and computes every digest again. What follows from other committed
files is found by `bench leaderboard --check`; what follows from weights by `bench verify`. ATTACKS
says for each attack which command finds it, and with which words.
"""

# ruff: noqa: E501

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pytest
from registry_store import D8
from safetensors.numpy import load, save

from bench.core.errors import BenchError
from bench.core.store import Store
from bench.leaderboard.csv_rows import encode
from bench.leaderboard.ledger import LedgerRow, encode_ledger
from bench.leaderboard.significance import IntervalRow, PairRow
from bench.records.files import iter_records, read_arrays, read_record, record_folder
from bench.registry import champions as folders
from bench.registry import publishing
from bench.registry.cards import Card, sealed
from bench.registry.results import Scope, read_results
from bench.registry.scores import ScoresRow
from bench.registry.verification import raise_problems, targets, verify
from tests import rewritten

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")


# What an attacker does.


def rows_changed(store: Store, change: Callable[[LedgerRow], LedgerRow | None]) -> None:
    """Write the ledger with rows changed or left out, digests computed again."""
    found = map(change, read_results(store.registry).ledger)
    (store.registry / "results.csv").write_bytes(encode_ledger([r for r in found if r]))


def of_fc_ae(row: LedgerRow, seed: int | None = None) -> bool:
    """Whether a row is one of the trained variant at 8 numbers."""
    return (row.model, row.latent_dim) == ("fc_ae", 8) and seed in (None, row.seed)


def ledger(**changes) -> Callable[[Store], None]:
    """Seed 0 of fc_ae with other values, and everything that follows written again."""

    def attack(store: Store) -> None:
        def changed(row: LedgerRow) -> LedgerRow:
            if not of_fc_ae(row, 0):
                return row
            values = {
                name: {**getattr(row, name), **value} if isinstance(value, dict) else value
                for name, value in changes.items()
            }
            return dataclasses.replace(row, **values)

        rows_changed(store, changed)

    return attack


def ledger_and_all(**changes) -> Callable[[Store], None]:
    """As `ledger`, then the attacker lets bench write all that follows."""

    def attack(store: Store) -> None:
        ledger(**changes)(store)
        publishing.write(store, Scope(), refresh=False)

    return attack


def without_row(seed: int) -> Callable[[Store], None]:
    """A bad seed is removed, its record as well, and everything is written again."""

    def attack(store: Store) -> None:
        for record in list(iter_records(store.records)):
            if record.spec.model == "fc_ae" and record.spec.seed == seed:
                folder = record_folder(store.records, record.run_key)
                if folder.exists():
                    folder.rename(store.root / f"{record.run_key}.aside")
        rows_changed(store, lambda row: None if row.model == "fc_ae" and row.seed == seed else row)
        publishing.write(store, Scope(), refresh=False)

    return attack


def table(name: str, kind: type, change: Callable) -> Callable[[Store], None]:
    """The first row of another file with other values, its digest computed again."""

    def attack(store: Store) -> None:
        results = read_results(store.registry)
        rows: Sequence = {
            "cells.csv": results.known.cells,
            "comparisons.csv": results.known.pairs,
            "scores.csv": results.scores,
        }[name]
        (store.registry / name).write_bytes(encode([change(rows[0]), *rows[1:]], kind.required()))

    return attack


def card(change: Callable[[Card], dict]) -> Callable[[Store], None]:
    """The champion's card with other values, digest and text written again."""

    def attack(store: Store) -> None:
        old = folders.champion(store.registry, D8)
        new = sealed(dataclasses.replace(old, **change(old)))
        folders.write_card(store.registry / old.folder, new)

    return attack


def card_weights(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Store], None]:
    """Other weights beside the card, with their digest."""

    def attack(store: Store) -> None:
        old = folders.champion(store.registry, D8)
        path = store.registry / old.folder / "weights.safetensors"
        content = save({key: change(value) for key, value in load(path.read_bytes()).items()})
        path.write_bytes(content)
        sha = sha256(content).hexdigest()
        card(lambda c: {"weights": dataclasses.replace(c.weights, sha256=sha)})(store)

    return attack


def scores_file(change: Callable[[dict], dict]) -> Callable[[Store], None]:
    """The file with the scores per image of the champion's cell, and its index."""

    def attack(store: Store) -> None:
        config = folders.champion(store.registry, D8).summary.configuration
        results = read_results(store.registry)
        entries = []
        for entry in results.scores:
            if entry.configuration == config:
                (path,) = (store.registry / "scores").rglob(f"*{entry.cell}.safetensors")
                content = save(change(load(path.read_bytes())))
                path.write_bytes(content)
                sha = sha256(content).hexdigest()
                entries.append(dataclasses.replace(entry, sha256=sha))
            else:
                entries.append(entry)
        (store.registry / "scores.csv").write_bytes(encode(entries, ScoresRow.required()))

    return attack


def parts_swapped(tensors: dict) -> dict:
    """Validation as test and test as validation."""
    other = {"validation": "test", "test": "validation"}
    return {
        "/".join(other.get(part, part) for part in key.split("/")): value
        for key, value in tensors.items()
    }


def record(change: Callable) -> Callable[[Store], None]:
    """A local record of fc_ae whose documents say something else, with right digests."""

    def attack(store: Store) -> None:
        found = fc_ae_record(store)
        rewritten.rewrite(store.records, dataclasses.replace(found, **change(found)))

    return attack


def fc_ae_record(store: Store):
    """The record of seed 0 of fc_ae at 8 numbers."""
    return next(
        each
        for each in iter_records(store.records)
        if (each.spec.model, each.spec.latent_dim, each.spec.seed) == ("fc_ae", 8, 0)
    )


def record_arrays(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Store], None]:
    """Other scores per image in a record, with their digest."""

    def attack(store: Store) -> None:
        found = fc_ae_record(store)
        arrays = {
            key: np.ascontiguousarray(change(value)) if key == "validation/mse" else value
            for key, value in read_arrays(store.records, found).items()
        }
        path = rewritten.arrays_path(store.records, found)
        path.write_bytes(save(arrays))
        digest = sha256(path.read_bytes()).hexdigest()
        rewritten.rewrite(store.records, dataclasses.replace(found, arrays_sha256=digest))

    return attack


def pca_of_everything(store: Store) -> None:
    """PCA solved on the validation and test images as well: weights, scores, arrays, all right."""
    from bench.execution import runner

    spec = folders.champion(store.registry, D8).spec
    splits = runner._splits(spec.dataset, spec.split)
    every = np.concatenate([part.images for part in (splits.train, splits.validation, splits.test)])
    labels = np.concatenate(
        [part.labels for part in (splits.train, splits.validation, splits.test)]
    )
    wide = dataclasses.replace(splits, train=type(splits.train)(every, labels))
    model = runner.build(spec, wide)
    model.fit(runner.on_device(wide.train, runner.checked_device("cpu")).images)
    scored = runner.score(model, spec, splits)
    known = read_record(store.records, folders.champion(store.registry, D8).run_key)
    path = record_folder(store.records, known.run_key) / "weights.safetensors"
    path.write_bytes(save(runner._weights(model)))
    arrays = {**read_arrays(store.records, known), **scored.arrays()}
    place = rewritten.arrays_path(store.records, known)
    place.write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
    rewritten.rewrite(
        store.records,
        dataclasses.replace(
            known,
            scores=scored.means(),
            weights_sha256=sha256(path.read_bytes()).hexdigest(),
            arrays_sha256=sha256(place.read_bytes()).hexdigest(),
        ),
    )


def no_row_of_the_champion(store: Store) -> None:
    """The ledger without the row of the champion, everything else written again."""
    key = folders.champion(store.registry, D8).run_key
    folder = record_folder(store.records, key)
    folder.rename(store.root / "aside")
    rows_changed(store, lambda row: None if row.run_key == key else row)
    publishing.write(store, Scope(), refresh=False)


def link_in_registry(store: Store) -> None:
    """A champion's folder that is a link out of the registry."""
    folder = store.registry / folders.champion(store.registry, D8).folder
    outside = store.root / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)


def extra_file(store: Store) -> None:
    """A file among the scores that no row has."""
    (store.registry / "scores" / "more.safetensors").write_bytes(b"x")


def swapped_files(store: Store) -> None:
    """The scores of two cells exchanged."""
    one, other = sorted((store.registry / "scores").rglob("fc_ae-*.safetensors"))
    content = one.read_bytes(), other.read_bytes()
    one.write_bytes(content[1]), other.write_bytes(content[0])


def picture(store: Store) -> None:
    """A champion's picture replaced."""
    folder = store.registry / folders.champion(store.registry, D8).folder
    (folder / "reconstructions.png").write_bytes(b"another picture")


def page(store: Store) -> None:
    """A number of the page edited."""
    path = store.registry / "README.md"
    path.write_text(
        path.read_text().replace("| `pca` |", "| `pca`, best |", 1).replace("0.0", "0.1", 1)
    )


def of_spec(**changes) -> Callable[[Card], dict]:
    """A card whose run is described otherwise, and whose identity follows."""

    def change(old: Card) -> dict:
        spec = dataclasses.replace(old.spec, **changes)
        return {"spec": spec, "run_key": spec.run_key, "evaluation_digest": spec.evaluation_digest}

    return change


def better(factor: float = 0.5) -> Callable[[Card], dict]:
    """A card with a lower error."""

    def change(old: Card) -> dict:
        test = {**old.scores["test"], "mse": old.scores["test"]["mse"] * factor}
        return {"scores": {**old.scores, "test": test}}

    return change


@dataclass(frozen=True)
class Attack:
    """`check`, `verify`: words of what the command says; "" where it finds nothing."""

    name: str
    attack: Callable[[Store], None]
    check: str = ""
    verify: str = ""


def _mean(row: IntervalRow) -> IntervalRow:
    return dataclasses.replace(row, mean=row.mean * 0.9)


def _of_pair(row: PairRow) -> PairRow:
    return dataclasses.replace(row, p_holm=0.9 if row.p_holm < 0.05 else 0.01)


ATTACKS = (
    Attack("a row of the ledger with a lower error", ledger(scores={"val_mse": 0.001}), "computed from other rows"),
    Attack("the same, tables written again", ledger_and_all(scores={"test_ssim": 0.99}), "", "test ssim"),
    Attack("a negative error", ledger(scores={"test_mse": -0.1}), "outside of 0 to"),
    Attack("seconds below 0", ledger(facts={"train_seconds": -5.0}), "below 0"),
    Attack("parameters of one seed edited", ledger(facts={"parameters": 7.0}), "parameters is 20.*, of seed 0 it is 7"),
    Attack("multiply-adds of one seed edited", ledger(facts={"multiply_adds": 7.0}), "multiply_adds is 20.*, of seed 0 it is 7"),
    Attack("code size understated", ledger(code_size=4), "code_size is 4"),
    Attack("a run key used twice", ledger(seed=1), "it is in it twice|two runs of its cell|seed"),
    Attack("other images under a known label", ledger(data_digest="f" * 64), "data_digest is not that"),
    Attack("another split on one board", ledger(split_digest="f" * 64), "split_digest is not that"),
    Attack("the seed rule of one row edited", ledger(seed_rule="0,1"), "seed|computed from other rows"),
    Attack("a mean in cells.csv", table("cells.csv", IntervalRow, _mean), "cells.csv is not what"),
    Attack("a p-value in comparisons.csv", table("comparisons.csv", PairRow, _of_pair), "comparisons.csv is not what"),
    Attack("the index of the scores", table("scores.csv", ScoresRow, lambda r: dataclasses.replace(r, metric="mae")), "scores.csv line 2"),
    Attack("scores per image halved", scores_file(lambda t: {k: v / 2 if k.endswith("/scale") else v for k, v in t.items()}), "the mean validation score"),
    Attack("validation and test swapped", scores_file(parts_swapped), "the mean validation score"),
    Attack("scores per image permuted", scores_file(lambda t: {k: v[::-1].copy() if k == "0/validation" else v for k, v in t.items()}), "is not what registry/scores/ gives", "of image"),
    Attack("NaN among the scores per image", scores_file(lambda t: {k: np.where(np.arange(len(v)) == 3, np.float16("nan"), v) if k == "0/test" else v for k, v in t.items()}), "the mean test score"),
    Attack("too many scores per image", scores_file(lambda t: {k: np.concatenate([v, v]) if k.startswith("0/test") and "scale" not in k else v for k, v in t.items()}), "scores on test where other rows|scores on test"),
    Attack("the files of two cells swapped", swapped_files, "was changed"),
    Attack("a file that no row has", extra_file, "belongs to no row"),
    Attack("a champion with a lower error", card(better()), "test mse is", "test mse is"),
    Attack("a champion 0.5 % better", card(better(0.995)), "test mse|validation mse|results", "test mse is"),
    Attack("a champion of another seed", card(of_spec(seed=7)), "median validation score", "no row"),
    Attack("a champion chosen by another metric", card(of_spec(selection_metric="psnr")), "median validation score", "no row"),
    Attack("a champion scored otherwise", card(lambda c: of_spec(evaluation=dataclasses.replace(c.spec.evaluation, metrics=("mse",)))(c)), "results.csv", "no row"),
    Attack("a champion with fewer parameters", card(lambda c: {"facts": {**c.facts, "parameters": 5.0}}), "parameters is 5", "parameters is"),
    Attack("a champion's active numbers", card(lambda c: {"facts": {**c.facts, "output_std": 9.0}}), "", "output_std is"),
    Attack("a champion's means", card(lambda c: {"summary": dataclasses.replace(c.summary, means={**c.summary.means, "test_mse": 0.001})}), "means of pca"),
    Attack("a champion of other rows", card(lambda c: {"rows": ("0" * 16,)}), "was written from other rows"),
    Attack("a champion's place in the table", card(lambda c: {"summary": dataclasses.replace(c.summary, best_share=0.123)})),
    Attack("small weights called too large", card(lambda c: {"weights": dataclasses.replace(c.weights, committed=False)}), "not too large", "too large to be committed, but"),
    Attack("the same with another size", card(lambda c: {"weights": dataclasses.replace(c.weights, committed=False, bytes=2**30)}), "", "too large to be committed, but"),
    Attack("other weights beside the card", card_weights(lambda w: w * np.float32(1.1)), "", "from the weights"),
    Attack("a champion in no row", no_row_of_the_champion, "no row of results.csv|card.json", "no row"),
    Attack("a champion's folder is a link", link_in_registry, "does not name a place", "does not name a place"),
    Attack("a picture replaced", picture, "reconstructions.png was changed", "reconstructions.png was changed"),
    Attack("a page edited", page, "README.md line"),
    Attack("scores of a record that its arrays do not give", record(lambda r: {"scores": {**r.scores, "test": {**r.scores["test"], "mse": 0.001}}}), "", "test mse is"),
    Attack("arrays of a record permuted", record_arrays(lambda v: v[::-1]), "", "of image"),
    Attack("arrays of a record replaced", record_arrays(lambda v: v * np.float32(0.5)), "", "of image"),
    Attack("facts of a record", record(lambda r: {"facts": {**r.facts, "parameters": 5.0}}), "", "parameters is"),
    Attack("an invented fact of a record", record(lambda r: {"facts": {**r.facts, "beauty": 5.0}}), "", "beauty is"),
    Attack("PCA solved on validation and test", pca_of_everything, "", "solved again"),
)  # fmt: skip


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
    keys = {fc_ae_record(store).run_key}
    champion = folders.champions(store.registry).get(D8)
    keys |= {champion.run_key} if champion else set()
    chosen = [
        each
        for each in targets(store, [], True)
        if (each.track == D8 if isinstance(each, Card) else each.run_key in keys)
    ]
    return verify(store, chosen)


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


def test_nothing_is_found_in_honest_tables(promoted):
    assert says(lambda: publishing.check(promoted)) == ""
    assert verified(promoted) == ""
