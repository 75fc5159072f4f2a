"""What an attacker does to a workspace: the functions of the tables of attacks.

The attacker has the repository and computes every digest again.
"""

import dataclasses
from collections.abc import Callable, Sequence
from hashlib import sha256

import numpy as np
import pytest
from registry_store import D8
from safetensors.numpy import load, save

from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.leaderboard.csv_rows import encode
from bench.leaderboard.ledger import LedgerRow, encode_ledger
from bench.leaderboard.significance import IntervalRow, PairRow
from bench.records.files import iter_records, read_arrays, read_weights, record_folder
from bench.registry import champions as folders
from bench.registry import publishing, score_files
from bench.registry.cards import Card, sealed
from bench.registry.installation import write_card
from bench.registry.results import Scope, read_results
from bench.registry.scores import ScoresRow, run_digest
from tests import rewritten


def rows_changed(store: Store, change: Callable[[LedgerRow], LedgerRow | None]) -> None:
    """Write the ledger with rows changed or left out, digests computed again."""
    found = map(change, read_results(store.registry).ledger)
    (store.registry / "results.csv").write_bytes(encode_ledger([r for r in found if r]))


def of_fc_ae(row: LedgerRow, seed: int | None = None) -> bool:
    """Whether a row is one of the trained variant at 8 numbers."""
    return (row.model, row.latent_dim) == ("fc_ae", 8) and seed in (None, row.seed)


def edited(row: LedgerRow, changes: dict[str, object]) -> LedgerRow:
    """The row with other values; of a mapping, those of some of its keys."""
    values = {
        name: {**getattr(row, name), **value} if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return dataclasses.replace(row, **values)


def ledger(**changes) -> Callable[[Store], None]:
    """Seed 0 of fc_ae with other values, and everything that follows written again."""

    def attack(store: Store) -> None:
        rows_changed(store, lambda row: edited(row, changes) if of_fc_ae(row, 0) else row)

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
        write_card(store.registry / old.folder, new)

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


def record_of(store: Store, model: str = "fc_ae") -> RunRecord:
    """The record of seed 0 of a variant at 8 numbers."""
    return next(
        each
        for each in iter_records(store.records)
        if (each.spec.model, each.spec.latent_dim, each.spec.seed) == (model, 8, 0)
    )


def record(change: Callable[[RunRecord], dict], model: str = "fc_ae") -> Callable[[Store], None]:
    """A local record whose documents say something else, with right digests."""

    def attack(store: Store) -> None:
        found = record_of(store, model)
        rewritten.rewrite(store.records, dataclasses.replace(found, **change(found)))

    return attack


def facts(model: str = "fc_ae", **changes: float | None) -> Callable[[Store], None]:
    """A record with other facts; None: without it."""

    def changed(found: RunRecord) -> dict:
        new = {**found.facts, **changes}
        return {"facts": {name: value for name, value in new.items() if value is not None}}

    return record(changed, model)


def spec(**changes) -> Callable[[RunRecord], dict]:
    """Another spec, where its identity stays."""
    return lambda found: {"spec": dataclasses.replace(found.spec, **changes)}


def record_arrays(
    change: Callable[[np.ndarray], np.ndarray | None], model: str = "fc_ae", means: bool = False
) -> Callable[[Store], None]:
    """Other scores per image on validation in a record, or none, with their digest; `means`: and
    the mean that they give."""

    def attack(store: Store) -> None:
        found = record_of(store, model)
        arrays = dict(read_arrays(store.records, found))
        changed = change(arrays.pop("validation/mse"))
        if changed is not None:
            arrays["validation/mse"] = np.ascontiguousarray(changed)
        path = rewritten.arrays_path(store.records, found)
        path.write_bytes(save(arrays))
        scores = found.scores
        if means and changed is not None:
            scores = {**scores, "val": {**scores["val"], "mse": float(changed.mean(dtype=float))}}
        digest = sha256(path.read_bytes()).hexdigest()
        new = dataclasses.replace(found, arrays_sha256=digest, scores=scores)
        rewritten.rewrite(store.records, new)

    return attack


def record_weights(
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], model: str = "fc_ae"
) -> Callable[[Store], None]:
    """Other weights in a record, with their digest."""

    def attack(store: Store) -> None:
        found = record_of(store, model)
        path = record_folder(store.records, found.run_key) / "weights.safetensors"
        path.write_bytes(save(change(read_weights(store.records, found))))
        digest = sha256(path.read_bytes()).hexdigest()
        rewritten.rewrite(store.records, dataclasses.replace(found, weights_sha256=digest))

    return attack


def scaled(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A tenth more of each weight."""
    return {key: value * np.float32(1.1) for key, value in weights.items()}


def of_other_network(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Under other names."""
    return {f"other.{key}": value for key, value in weights.items()}


def pca_of_everything(store: Store) -> None:
    """PCA solved on the validation and test images as well: weights, scores, arrays, all right."""
    from bench.data import load_splits
    from bench.evaluation.scoring import on_device, score
    from bench.execution import runner

    known = record_of(store, "pca")
    splits = load_splits(known.spec.dataset, known.spec.split)
    parts = (splits.train, splits.validation, splits.test)
    every = type(splits.train)(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    model = runner.build(known.spec, splits)
    model.fit(on_device(every, runner.checked_device("cpu")).images)
    scored = score(model, known.spec, splits, store)
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


def studies(store: Store) -> None:
    """A row that says that it was tuned, where nobody tuned anything."""
    rows_changed(
        store,
        lambda row: dataclasses.replace(row, recipe="tuned (30 trials)") if of_fc_ae(row) else row,
    )
    publishing.write(store, Scope(), refresh=False)


def of_all_seeds(**changes) -> Callable[[Store], None]:
    """Every seed of fc_ae at 8 numbers with other values, everything written again."""

    def attack(store: Store) -> None:
        rows_changed(store, lambda row: edited(row, changes) if of_fc_ae(row) else row)
        publishing.write(store, Scope(), refresh=False)

    return attack


def careless(attack: Callable[[Store], None]) -> Callable[[Store], None]:
    """The attacker's copy of bench writes what squared errors per image exclude."""

    def attack_with_it(store: Store) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(score_files, "_other_means", lambda *_: "")
            attack(store)

    return attack_with_it


def absolute_error_too_high(store: Store) -> None:
    """Every seed with the highest absolute error that its mean squared error allows: that of images
    that all have the same squared error."""

    def changed(row: LedgerRow) -> LedgerRow:
        highest = row.scores["test_mse"] ** 0.5
        return edited(row, {"scores": {"test_mae": highest}}) if of_fc_ae(row) else row

    rows_changed(store, changed)
    publishing.write(store, Scope(), refresh=False)


def eighth_and_written_again(store: Store) -> None:
    """The whole row with an eighth of the error: ledger, scores per image, comparisons; its
    records are gone."""
    config = next(r for r in read_results(store.registry).ledger if of_fc_ae(r)).configuration
    for found in list(iter_records(store.records)):
        if found.spec.model == "fc_ae" and found.spec.latent_dim == 8:
            folder = record_folder(store.records, found.run_key)
            folder.rename(store.root / found.run_key)

    def lowered(row: LedgerRow) -> LedgerRow:
        if row.configuration != config:
            return row
        scores = dict(row.scores)
        for part in ("val", "test"):
            scores[f"{part}_mse"] /= 8
            scores[f"{part}_mae"] /= 8**0.5
            scores[f"{part}_psnr"] += 10 * np.log10(8)
        return dataclasses.replace(row, scores=scores)

    rows_changed(store, lowered)
    results = read_results(store.registry)
    entries = []
    for entry in results.scores:
        if entry.configuration == config:
            (path,) = (store.registry / "scores").rglob(f"*{entry.cell}.safetensors")
            tensors = load(path.read_bytes())
            less = {k: v / 8 if k.endswith("/scale") else v for k, v in tensors.items()}
            path.write_bytes(save(less))
            rows = [row for row in results.ledger if row.configuration == config]
            entries.append(
                dataclasses.replace(
                    entry,
                    sha256=sha256(path.read_bytes()).hexdigest(),
                    runs=" ".join(map(run_digest, rows)),
                )
            )
        else:
            entries.append(entry)
    (store.registry / "scores.csv").write_bytes(encode(entries, ScoresRow.required()))
    publishing.write(store, Scope(), refresh=False)


def previous_champion(store: Store) -> None:
    """A better champion beside the champion, for the next rollback."""
    old = folders.champion(store.registry, D8)
    folder = store.registry / old.folder
    before = folder / "previous"
    before.mkdir()
    new = sealed(dataclasses.replace(old, **of_spec(seed=9)(old)))
    write_card(before, new)
    for name in ("weights.safetensors", *old.pictures):
        (before / name).write_bytes((folder / name).read_bytes())


def index(store: Store) -> None:
    """A number of the page for browsers edited."""
    path = store.registry / "index.html"
    path.write_text(path.read_text().replace("0.0", "0.1", 1))


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


def lower_mean(row: IntervalRow) -> IntervalRow:
    return dataclasses.replace(row, mean=row.mean * 0.9)


def other_p(row: PairRow) -> PairRow:
    return dataclasses.replace(row, p_holm=0.9 if row.p_holm < 0.05 else 0.01)
