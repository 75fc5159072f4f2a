"""Champions: promotion, rollback, cards, verification, on real runs of the bundled images."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from registry_store import (
    D4,
    D8,
    files_of,
    forget,
    publish,
    run_all,
    tiny_protocol,
)
from safetensors.numpy import load_file, save_file

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import SplitConfig
from bench.core.store import shipped
from bench.data import load_splits
from bench.records.files import iter_records, record_folder
from bench.registry import admission, load_champion, promotion, publishing
from bench.registry import champions as folders
from bench.registry.card_text import card_text
from bench.registry.cards import read_card
from bench.registry.changes import mend_registry
from bench.registry.promotion import promote, rollback
from bench.registry.results import Scope, read_results, record_of_row
from bench.registry.verification import raise_problems, targets, verify
from tests.rewritten import rewrite, scale

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")

EVERYTHING = Scope()
FOLDER = "fashion_mnist_mini/quick.d8"


def rows_of(promotion):
    return {
        d.track: (d.action, d.champion and d.champion.row, d.challenger and d.challenger.row)
        for d in promotion.decisions
    }


def test_the_first_promotion_takes_the_best_and_names_the_next(ran, mlflow_told):
    done = publish(ran)
    assert rows_of(done) == {D4: ("first", "pca", "fc_ae"), D8: ("first", "pca", "fc_ae")}
    names = {path.name for path in (ran.registry / FOLDER).iterdir()}
    assert {"weights.safetensors", "card.json", "card.md", "reconstructions.png"} <= names
    card = folders.champion(ran.registry, D8)
    fc_ae = [
        record
        for record in iter_records(ran.records)
        if record.spec.model == "fc_ae" and str(record.track) == "d8"
    ]
    median = sorted(fc_ae, key=lambda record: record.scores["val"]["mse"])[1]
    assert mlflow_told.alias(D8, "champion") == card.run_key
    assert mlflow_told.alias(D8, "challenger") == median.run_key
    assert publishing.check(ran)
    assert "Champion: **pca**" in (ran.registry / "README.md").read_text()


def test_the_weights_are_those_of_the_median_seed(ran):
    forget(ran, "pca")
    publish(ran)
    card = folders.champion(ran.registry, D8)
    runs = [
        record
        for record in iter_records(ran.records)
        if record.spec.model == "fc_ae" and str(record.track) == "d8"
    ]
    values = {record.run_key: record.scores["val"]["mse"] for record in runs}
    assert values[card.run_key] == np.median(list(values.values()))
    own = record_folder(ran.records, card.run_key) / "weights.safetensors"
    assert (ran.registry / FOLDER / "weights.safetensors").read_bytes() == own.read_bytes()


def _cells(store):
    """The run keys of each cell of the table."""
    cells = {}
    for row in read_results(store.registry).ledger:
        cells.setdefault((row.model, str(row.track)), []).append(row.run_key)
    return cells.values()


def test_the_median_seed_is_that_of_the_table_also_where_the_runs_were_trained_again(
    ran, monkeypatch
):
    """Convolutions round otherwise on another machine, and the order of seeds may change: a clone
    that had reproduced the table promoted another seed, which the check refused."""
    forget(ran, "pca")
    publishing.write(ran, EVERYTHING, refresh=False)
    table = {row.run_key: row.selected("val") for row in read_results(ran.registry).ledger}
    # Here the lowest score of each cell is the highest.
    lowest = {min(cell, key=table.get) for cell in _cells(ran)}
    monkeypatch.setattr(
        admission,
        "record_of_row",
        lambda store, row: (
            dataclasses.replace(
                found, scores={"val": {"mse": 1.0 if row.run_key in lowest else table[row.run_key]}}
            )
            if (found := record_of_row(store, row))
            else None
        ),
    )
    monkeypatch.setenv("BENCH_TRACKING", "off")
    monkeypatch.setattr(admission, "disagreement", lambda *_: "")
    monkeypatch.setattr(promotion, "require_champion", lambda *_: None)
    monkeypatch.setattr(
        promotion,
        "_carry_out",
        lambda store, competition, decision, record: noted.append(record) or [],
    )
    noted = []
    promote(ran, EVERYTHING)
    for record in filter(None, noted):
        own = [
            row.selected("val")
            for row in read_results(ran.registry).ledger
            if row.model == record.spec.model and row.track == record.track
        ]
        assert table[record.run_key] == np.median(own)
    assert any(noted)


def test_promoting_again_changes_nothing(promoted, mlflow_told):
    before = files_of(promoted.registry)
    done = promote(promoted, EVERYTHING)
    assert rows_of(done)[D8] == ("keep", "pca", "fc_ae")
    assert done.changed == []
    assert files_of(promoted.registry) == before


def test_a_clone_that_reproduces_stays_clean_and_tells_its_mlflow(promoted, mlflow_told):
    """Another machine's times, dates and roundings are no change."""
    for record in list(iter_records(promoted.records)):
        changed = dataclasses.replace(
            record,
            finished_unix_ms=record.finished_unix_ms + 10**9,
            facts={**record.facts, "train_seconds": 99.0},
            scores={p: {k: v * 1.0003 for k, v in s.items()} for p, s in record.scores.items()},
            environment={**record.environment, "torch": "9.9"},
        )
        rewrite(promoted.records, changed)
    before = files_of(promoted.registry)
    mlflow_told.clear()
    found = publishing.write(promoted, EVERYTHING, refresh=False)
    promote(promoted, EVERYTHING)
    assert found.lines == ["reproduced 10 of 10 rows of quick on fashion_mnist_mini"]
    assert files_of(promoted.registry) == before
    assert mlflow_told.alias(D8, "champion") == folders.champion(promoted.registry, D8).run_key


def test_a_clone_without_records_says_what_mlflow_does_not_know(promoted, mlflow_told):
    shutil.rmtree(promoted.records)
    done = promote(promoted, EVERYTHING)
    assert done.changed == []
    assert mlflow_told.alias(D8, "champion") == ""
    assert any("did not run on this machine" in line for line in done.lines)


def test_a_dry_run_writes_nothing(ran, mlflow_told):
    publishing.write(ran, EVERYTHING, refresh=False)
    before = files_of(ran.registry)
    assert rows_of(promote(ran, EVERYTHING, dry_run=True))[D8] == ("first", "pca", "fc_ae")
    assert files_of(ran.registry) == before
    assert mlflow_told == []


def test_a_significantly_better_row_replaces_the_champion_and_keeps_it(replaced):
    card = folders.champion(replaced.registry, D8)
    assert card.spec.model == "pca"
    assert folders.previous(replaced.registry, card).spec.model == "fc_ae"
    assert publishing.check(replaced)


def test_a_row_that_is_not_significantly_better_does_not(ran):
    """fc_ae with other seeds, called tuned: a better mean by chance is no reason."""
    forget(ran, "pca", "mean_image")
    publish(ran)
    protocol = tiny_protocol(ran.root, seeds="[3, 4, 5]")
    run_all(ran, protocol, models=("fc_ae",))
    for record in list(iter_records(ran.records)):
        if record.spec.seed >= 3:
            train = dataclasses.replace(record.spec.train, lr=record.spec.train.lr * 1.0001)
            spec = dataclasses.replace(record.spec, recipe="tuned (2 trials)", train=train)
            twin = dataclasses.replace(record, spec=spec, run_key=spec.run_key)
            old = record_folder(ran.records, record.run_key)
            old.rename(record_folder(ran.records, twin.run_key))
            rewrite(ran.records, twin)
    done = publish(ran)
    assert rows_of(done)[D8] == ("keep", "fc_ae", "fc_ae, tuned (2 trials)")
    tied = [
        cell
        for board in publishing.look(ran, EVERYTHING).boards
        for cell in board.cells
        if str(cell.track) == "d8"
    ]
    # The tuned row is not of the protocol: the default's rank is its own.
    assert {cell.row: cell.ranks for cell in tied} == {
        "fc_ae": (1, 1),
        "fc_ae, tuned (2 trials)": (1, 2),
    }
    assert tied[0].mean("val_mse") < tied[1].mean("val_mse")


def test_mean_image_is_never_champion(ran):
    forget(ran, "pca", "fc_ae")
    done = publish(ran)
    assert rows_of(done)[D8] == ("none", None, None)
    assert not (ran.registry / FOLDER).exists()


def test_a_new_champion_needs_its_record(ran):
    publishing.write(ran, EVERYTHING, refresh=False)
    shutil.rmtree(ran.records)
    before = files_of(ran.registry)
    wanted = "bench run --protocol quick --model pca --latent-dim 4 --seed 0"
    done = promote(ran, EVERYTHING)
    assert [decision.action for decision in done.decisions] == ["none", "none"]
    assert done.decisions[0].why.endswith(wanted)
    assert done.changed == []
    assert files_of(ran.registry) == before


def test_rollback_and_forward_need_no_records(replaced, mlflow_told):
    before = files_of(replaced.registry)
    shutil.rmtree(replaced.mlruns)
    now, gone, _ = rollback(replaced, D8)
    assert (now.spec.model, gone.spec.model) == ("fc_ae", "pca")
    assert publishing.check(replaced)
    assert "Champion: **fc_ae**" in (replaced.registry / "README.md").read_text()
    assert load_champion(replaced.registry / FOLDER).code_size == 8
    rollback(replaced, D8)
    assert files_of(replaced.registry) == before
    assert mlflow_told.alias(D8, "champion") == ""


def test_what_was_rolled_back_is_not_promoted_again_by_itself(replaced):
    rollback(replaced, D8)
    done = promote(replaced, EVERYTHING)
    (decision,) = [d for d in done.decisions if d.track == D8]
    assert (decision.action, decision.champion.row) == ("keep", "fc_ae")
    assert "pca was rolled back" in decision.why
    assert publishing.check(replaced)


def test_rollback_of_a_first_champion_or_an_unknown_track(promoted):
    before = files_of(promoted.registry)
    with pytest.raises(BadInput, match="nothing to roll back to"):
        rollback(promoted, D8)
    with pytest.raises(BadInput, match=r"did you mean .*quick\.d8"):
        rollback(promoted, D8.replace("mini", "mimi"))
    assert files_of(promoted.registry) == before


def test_refreshed_results_renew_the_champion(replaced, monkeypatch):
    """Whatever its weights give: here the scores are another machine's."""
    for name in ("_other_weights", "_verified"):
        monkeypatch.setattr(admission, name, lambda *_: "")
    (record,) = [
        r for r in iter_records(replaced.records) if r.spec.model == "pca" and str(r.track) == "d8"
    ]
    scale(replaced.records, record, 1.01)
    publishing.write(replaced, EVERYTHING, refresh=True)
    with pytest.raises(CheckFailed, match=r"card\.json was written from other rows"):
        publishing.check(replaced)
    assert rows_of(promote(replaced, EVERYTHING))[D8] == ("refresh", "pca", "fc_ae")
    card = folders.champion(replaced.registry, D8)
    assert card.scores["test"]["mse"] == pytest.approx(
        1.01 * record.scores["test"]["mse"], rel=1e-6
    )
    assert folders.previous(replaced.registry, card).spec.model == "fc_ae"
    assert publishing.check(replaced)


def test_every_file_of_a_champion_is_proved(replaced):
    checked = 0
    for name in files_of(replaced.registry / FOLDER):
        path = replaced.registry / FOLDER / name
        original = path.read_bytes()
        path.write_bytes(original[:-2] + b"7" + original[-1:])
        with pytest.raises(CheckFailed, match=path.name.replace(".", r"\.")):
            publishing.check(replaced)
        path.write_bytes(original)
        checked += 1
    assert checked > 8
    assert publishing.check(replaced)


def test_a_card_with_another_number_is_found(promoted):
    path = promoted.registry / FOLDER / "card.json"
    card = json.loads(path.read_text())
    card["scores"]["test"]["mse"] = 0.001
    path.write_text(json.dumps(card))
    with pytest.raises(CheckFailed, match=r"card\.json was changed by hand"):
        publishing.check(promoted)


def test_a_kill_of_an_earlier_version_in_the_middle_of_a_swap_loses_nothing(replaced):
    folder = replaced.registry / FOLDER
    before = files_of(folder)
    folder.rename(folder.with_name(f".aside-{folder.name}"))
    assert mend_registry(replaced) == 1
    assert folders.champion(replaced.registry, D8).spec.model == "pca"
    assert files_of(folder) == before


def test_a_failing_swap_leaves_the_champion(replaced, monkeypatch):
    before = files_of(replaced.registry / FOLDER)
    replace = Path.replace

    def failing(self, target):
        if target == replaced.registry / FOLDER:
            raise OSError(28, "No space left on device", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(BadInput, match="No space left"):
        rollback(replaced, D8)
    monkeypatch.undo()
    assert folders.champion(replaced.registry, D8).spec.model == "pca"
    assert files_of(replaced.registry / FOLDER) == before
    assert not [p for p in replaced.registry.rglob("*") if p.name.startswith(".")]


def test_the_snippet_of_a_card_works(promoted, monkeypatch):
    monkeypatch.chdir(promoted.root)
    card = folders.champion(promoted.registry, D8)
    snippet = card_text(card).split("```python\n")[1].split("```")[0]
    images = load_splits("fashion_mnist_mini", SplitConfig()).test.images
    x = torch.from_numpy(images).float() / 255
    names = {"x": x}
    exec(snippet, names)
    error = (names["x_hat"] - x).square().mean().item()
    assert error == pytest.approx(card.scores["test"]["mse"], rel=1e-5)


def test_a_champion_of_the_installation_is_loaded_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_champion("registry/fashion_mnist_mini/quick.d8").code_size == 8
    with pytest.raises(BadInput, match=r"no champion in registry/nowhere; see"):
        load_champion("registry/nowhere")
    with pytest.raises(BadInput, match=r"no champion in fashion_mnist_mini/quick\.d8; see"):
        load_champion("fashion_mnist_mini/quick.d8")


def test_a_card_says_what_a_stranger_asks(promoted):
    text = (promoted.registry / FOLDER / "card.md").read_text()
    for words in (
        "95 % interval",
        "Challenger: fc_ae",
        "Licence: MIT",
        "## Limits",
        "bench verify",
    ):
        assert words in text
    assert "None" not in text
    assert "nan" not in text


def test_the_picture_of_a_table_stands_in_the_card_of_its_champion(replaced):
    """It is drawn after the first promotion, and may come and go without a new champion."""
    picture = replaced.registry / f"{FOLDER}.side_by_side.png"
    folder = replaced.registry / FOLDER
    link = f"](../{picture.name})"
    assert picture.exists() and link in (folder / "card.md").read_text()
    assert link not in (folder / "previous" / "card.md").read_text(), "of an earlier table"
    drawn = picture.read_bytes()
    picture.unlink()
    with pytest.raises(CheckFailed, match=r"card\.md does not match"):
        publishing.check(replaced)
    publishing.write(replaced, EVERYTHING, refresh=False)
    assert picture.read_bytes() == drawn and publishing.check(replaced)
    rollback(replaced, D8)
    assert link in (folder / "card.md").read_text()
    assert link not in (folder / "previous" / "card.md").read_text()
    assert publishing.check(replaced)


def test_samples_of_all_samplers_stand_in_place_of_those_of_one(ran, monkeypatch):
    drawn = dict.fromkeys(("interpolation", "samples", "samplers", "progress"), b"a picture")
    for there, shown in ((drawn, "samplers"), ({**drawn, "samplers": None}, "samples")):
        files = {name: content for name, content in there.items() if content}
        monkeypatch.setattr("bench.figures.draw_files", lambda *_, files=files: dict(files))
        shutil.rmtree(ran.registry, ignore_errors=True)
        publish(ran)
        card = folders.champion(ran.registry, D8)
        assert list(card.pictures) == [f"{shown}.png", "interpolation.png"]
        assert publishing.check(ran)


def test_a_card_has_a_table_for_each_task_with_its_most_important_measures():
    ours = shipped().registry
    card = folders.champion(ours, "fashion_mnist_mini.quick.d8")
    parts = card_text(card).split("### ")
    scores, *tables = [part.partition("## ")[0] for part in parts]
    assert [table.splitlines()[0] for table in tables] == [
        "Representation",
        "Generation",
        "Interpolation",
        "Robustness",
        "Cost",
    ]
    assert "| MSE |" in parts[0] and "probe" not in scores
    assert "| FCD, real images |" in tables[1] and "untrained" not in tables[1]
    assert len(tables[1].splitlines()) < 25


def test_verify_finds_the_scores_again(promoted):
    chosen = targets(promoted, [], everything=True)
    assert len(chosen) == 2 + 10
    found = list(verify(promoted, chosen))
    assert [item.problem for item in found] == [""] * 12
    raise_problems(found)


def test_verify_finds_changed_weights(promoted):
    path = promoted.registry / FOLDER / "weights.safetensors"
    weights = load_file(path)
    weights["mean"] = weights["mean"] + np.float32(0.01)
    save_file(weights, path)
    found = list(verify(promoted, targets(promoted, [D8], everything=False)))
    with pytest.raises(CheckFailed, match=rf"{D8}.*weights\.safetensors was changed"):
        raise_problems(found)


def test_verify_finds_scores_that_the_weights_do_not_give(promoted):
    path = promoted.registry / FOLDER / "card.json"
    card = read_card(path, "card.json")
    record = next(r for r in iter_records(promoted.records) if r.run_key == card.run_key)
    scores = {**record.scores, "test": {**record.scores["test"], "mse": 0.001}}
    rewrite(promoted.records, dataclasses.replace(record, scores=scores))
    found = list(verify(promoted, targets(promoted, [record.run_key[:8]], everything=False)))
    with pytest.raises(CheckFailed, match=r"test mse is .*written down as 0\.001"):
        raise_problems(found)


def test_verify_knows_no_other_names(promoted):
    with pytest.raises(BadInput, match="did you mean"):
        targets(promoted, ["fashion_mnist_mini.quick.d9"], everything=False)


@pytest.mark.parametrize("name", ["registry/README.md", "card.md", "README.md"])
def test_a_page_that_is_no_utf8_is_a_difference_like_another(promoted, name):
    """Of the README only the table is ours: the rest stays as it is, byte by byte."""
    pattern = "registry/*/*/card.md" if name == "card.md" else name
    path = sorted(promoted.root.glob(pattern))[0]
    odd = path.read_bytes() + b"\xff\xb3\n"
    path.write_bytes(odd)
    if name == "README.md":
        publishing.check(promoted)
        publishing.write(promoted, EVERYTHING, refresh=False)
        assert path.read_bytes() == odd
    else:
        with pytest.raises(CheckFailed, match=path.name):
            publishing.check(promoted)
