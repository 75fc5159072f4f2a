"""Ledger, merging, ranking and the committed pages, on real runs of the bundled images."""

import csv
import dataclasses
import io
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from invented import pair_row
from registry_store import run_all, tiny_protocol

from bench.core.errors import BadInput, CheckFailed
from bench.core.identity import digest
from bench.core.protocol import SplitConfig
from bench.core.store import Store
from bench.core.track import Track
from bench.data import load_splits
from bench.leaderboard.csv_rows import DIGEST, number
from bench.leaderboard.ledger import current
from bench.leaderboard.ranking import ranges_of_ranks
from bench.leaderboard.render import Board, block, sections
from bench.leaderboard.significance import IntervalRow, Significance
from bench.leaderboard.wording import rank_words, score, share_text, shown_score
from bench.records.files import iter_records, record_folder
from bench.registry import admission, board_figures, pages, publishing
from bench.registry.results import Scope, read_results
from bench.report.tables import sort_value
from tests.rewritten import scale

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")

ROOT = Path(__file__).parent.parent
EVERYTHING = Scope()


@pytest.mark.parametrize(
    ("share", "words"),
    [
        *((None, "–"), (0.0, "0 %"), (0.004, "< 1 %"), (0.41, "41 %")),
        *((0.994, "99 %"), (0.996, "> 99 %"), (1.0, "100 %")),
    ],
)
def test_a_share_is_not_said_to_be_all_or_nothing_where_it_is_not(share, words):
    assert share_text(share) == words


def records_of(ran):
    return list(iter_records(ran.records))


def cells(outcome, track="d8"):
    return {c.row: c.columns() for b in outcome.boards for c in b.cells if str(c.track) == track}


def edit_csv(path, column, change, row=0):
    """Change one cell of a CSV file and leave the rest as it was."""
    rows = list(csv.reader(io.StringIO(path.read_text())))
    place = rows[0].index(column)
    rows[row + 1][place] = change(rows[row + 1][place])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue())


def test_writing_twice_changes_nothing_and_counts_reproductions(promoted):
    before = {p: p.stat().st_mtime_ns for p in promoted.root.rglob("registry/**/*") if p.is_file()}
    again = publishing.write(promoted, EVERYTHING, refresh=False)
    assert again.changed == []
    assert again.lines == ["reproduced 10 of 10 rows of quick on fashion_mnist_mini"]
    assert before == {
        p: p.stat().st_mtime_ns for p in promoted.root.rglob("registry/**/*") if p.is_file()
    }
    assert publishing.check(promoted)


def test_check_needs_nothing_but_the_committed_files(promoted):
    shutil.rmtree(promoted.mlruns)
    assert publishing.check(promoted)


def test_looking_writes_nothing(ran):
    found = publishing.look(ran, EVERYTHING)
    assert cells(found)["pca"]["rank_low"] == 1
    assert not ran.registry.exists()


def test_ranks_margins_and_badges(promoted):
    table = cells(publishing.look(promoted, EVERYTHING))
    pca, fc, mean = table["pca"], table["fc_ae"], table["mean_image"]
    assert [(row["rank_low"], row["rank_high"]) for row in (pca, fc, mean)] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]
    assert [row["best_share"] for row in (pca, fc, mean)] == pytest.approx([1, 0, 0], abs=0.01)
    assert [row["first_in_halves"] for row in (pca, fc, mean)] == ["50", "", ""]
    assert [row["may_be_best"] for row in (pca, fc, mean)] == ["yes", "no", "no"]
    scores = [r.scores["test"]["mse"] for r in records_of(promoted) if r.spec.model == "fc_ae"]
    scores = scores[3:] if fc["test_mse"] == pytest.approx(np.mean(scores[3:])) else scores[:3]
    assert fc["test_mse"] == pytest.approx(np.mean(scores))
    assert fc["test_mse_std"] == pytest.approx(np.std(scores, ddof=1))
    expected = 100 * (pca["test_mse"] - fc["test_mse"]) / pca["test_mse"]
    assert fc["margin"] == pytest.approx(expected)
    assert pca["margin"] == 0
    assert "worse than PCA" in fc["badges"]
    assert mean["badges"] == "worse than PCA; constant output"
    assert pca["badges"] == ""
    assert fc["low"] < fc["val_mse"] < fc["high"]


def test_champions_are_bold_and_rows_that_may_be_the_best_say_so(promoted):
    for path in (promoted.registry / "README.md", promoted.root / "README.md"):
        rows = [line for line in path.read_text().splitlines() if "| 1 | **pca** |" in line]
        assert rows and all("may be the best" in row for row in rows)
        assert "**fc_ae**" not in path.read_text()
        others = [line for line in path.read_text().splitlines() if line.startswith("| 2 | fc_ae")]
        assert not any("may be the best" in row for row in others)


def test_the_front_page_has_the_best_rows_of_each_size_and_the_baselines():
    """Of the committed table: three trained rows and two baselines of each size, in its order."""
    results = read_results(ROOT / "registry")
    table = pages.ranked(current(results.ledger), results)
    cells = [cell for cell in table if cell.board.protocol == "quick"]
    lines = block([Board(cells, 0, (), {})]).splitlines()
    shown = [line.split(" | ")[:3] for line in lines if line.startswith("| 8") or "| 32" in line]
    wanted = []
    for size in ("8", "32"):
        rows = [cell for cell in cells if cell.track.size_words == size]
        kept = [cell.row for cell in rows if not cell.closed_form][:3]
        wanted += [cell.row for cell in rows if cell.closed_form or cell.row in kept]
    assert [row for _, _, row in shown] == wanted and len(wanted) == 10


def test_the_front_page_is_short_and_begins_with_the_answer():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 150
    (answer,) = (place for place, line in enumerate(lines) if "at 32 numbers use `cnn_ae`" in line)
    assert answer < 20 and answer < next(k for k, line in enumerate(lines) if line.startswith("|"))
    best = next(board for board in _boards() if board.protocol == "quick").answers()
    others = {track.size: len(rows) - 1 for track, rows in best.items()}
    assert others == {8: 5, 32: 0}
    assert "at 8 numbers use `denoising_ae` (or one of 5 others): 45 % less" in lines[answer]
    assert "at 32 numbers use `cnn_ae`: 35 % less" in lines[answer]


def test_a_size_without_a_ranked_trained_row_has_no_answer():
    """Where PCA stands beside the mean image alone, its first place says nothing."""
    (full,) = (board for board in _boards() if board.protocol == "fashion_mnist")
    trained = {c.track for c in full.cells if c.ranks and not c.closed_form}
    assert set(full.answers()) == trained and len(trained) < len(full.tracks())
    said = {
        section.title: " ".join(section.facts) for section in sections(full) if section.level == 3
    }
    for track in full.tracks():
        assert ("random halves" in said[track.heading]) == (track in trained)


def _boards():
    store = Store(ROOT)
    return pages.boards_of(store, read_results(store.registry), Scope())


def test_a_figure_of_solved_rows_alone_names_no_seeds(monkeypatch):
    ledger = current(read_results(ROOT / "registry").ledger)
    found = {}
    for protocol in ("mnist", "quick"):
        rows = [row for row in ledger if row.protocol == protocol]
        monkeypatch.setattr(board_figures, "_sizes", lambda _points, _metric, below: below)
        first = next(board_figures.board_figures(ROOT / "registry", rows, (), ()))
        found[protocol] = first.draw()
    assert found["mnist"] == "mnist · mnist · test images · solved without training"
    assert re.search(r"test images · up to \d+ seeds$", found["quick"])


def test_a_single_rank_is_one_rank():
    assert (rank_words((1, 1)), rank_words((1, 6))) == ("rank 1", "ranks 1 to 6")
    cards = [path.read_text() for path in (ROOT / "registry").glob("*/*/card.md")]
    assert cards and not any("Ranks 1;" in card for card in cards)
    assert any("Rank 1; the best" in card for card in cards)


def test_constants_have_no_spread():
    cell = next(c for b in _boards() for c in b.cells if not c.closed_form)
    constant = dataclasses.replace(
        cell,
        means={"test_weight_bytes": 2_720_192.0, "test_mse": 0.01},
        deviations={"test_weight_bytes": 0.0, "test_mse": 1e-9},
    )
    assert score(constant, "test_weight_bytes", "weight_bytes") == "2.72 MB"
    assert score(constant, "test_mse", "mse") == "0.01000 ± 0.00000"


@pytest.mark.parametrize(
    ("value", "shown"), [(3136, "3,136 B"), (889_520, "889.5 kB"), (5_996_992, "6.00 MB")]
)
def test_bytes_have_the_unit_that_suits_them(value, shown):
    assert shown_score(value, "peak_memory") == shown
    assert sort_value(shown) == pytest.approx(value, rel=1e-2)


def test_a_number_that_is_not_normal_is_written_as_0():
    """Training flushes such numbers: a process that trained would read another value."""
    assert (number(1e-320), number(-1e-310), number(1e-300)) == ("0", "0", "1e-300")


def named(name, in_protocol=True):
    return IntervalRow(
        "mnist", "quick", Track("real", 8), name, name, in_protocol, "val", "mse", 0, 0, 0, "0"
    )


def test_a_range_of_ranks_counts_rows_that_are_significantly_better_and_worse():
    pairs = [
        pair_row("a", "b", -1, 0.001, 0.01),
        pair_row("a", "c", -2, 0.001, 0.01),
        pair_row("b", "c", -1, 0.02, 0.06),
        pair_row("a", "d", -1, 0.02, 0.06),
        pair_row("b", "d", -1, 0.02, 0.06),
        pair_row("c", "d", 1, 0.001, 0.01),
    ]
    found = ranges_of_ranks(Significance([named(name) for name in "abcd"], pairs))
    assert found == {"a": (1, 2), "b": (2, 4), "c": (3, 4), "d": (1, 3)}


def test_a_row_that_the_protocol_does_not_name_changes_no_range():
    pairs = [
        pair_row("a", "b", -1, 0.001, 0.01),
        pair_row("a", "tuned", 1, 0.001, 0.01),
        pair_row("b", "tuned", 2, 0.001, 0.01),
        pair_row("tuned", "other", -1, 0.001, 0.01),
        pair_row("a", "other", -1, 0.2, 0.9),
        pair_row("b", "other", -1, 0.2, 0.9),
    ]
    rows = [named("a"), named("b"), named("tuned", False), named("other", False)]
    found = ranges_of_ranks(Significance(rows, pairs))
    assert found == {"a": (1, 1), "b": (2, 2), "tuned": (1, 1), "other": (1, 3)}


@pytest.mark.parametrize("name", ["results.csv", "cells.csv", "comparisons.csv"])
def test_every_edited_cell_of_every_file_is_found(promoted, name):
    path = promoted.registry / name
    original = path.read_text()
    columns = original.splitlines()[0].split(",")
    rows = len(original.splitlines()) - 1
    for i, column in enumerate(columns):
        edit_csv(path, column, lambda text: text + "1", row=i % rows)
        with pytest.raises(CheckFailed, match=name):
            publishing.check(promoted)
        with pytest.raises(CheckFailed, match=name):
            publishing.write(promoted, EVERYTHING, refresh=False)
        path.write_text(original)
    assert publishing.check(promoted)


@pytest.mark.parametrize("name", ["results.csv", "cells.csv", "comparisons.csv"])
def test_a_removed_or_moved_row_is_found(promoted, name):
    path = promoted.registry / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(CheckFailed):
        publishing.check(promoted)
    path.unlink()
    with pytest.raises(CheckFailed, match=r"\.csv"):
        publishing.check(promoted)


def test_a_ledger_row_with_a_forged_digest_is_found(promoted):
    """Whoever edits a row and its digest still has to forge every comparison."""
    path = promoted.registry / "results.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    rows[0] = {**rows[0], "test_mse": number(1.01 * float(rows[0]["test_mse"]))}
    cells = {key: text for key, text in rows[0].items() if text and key != DIGEST}
    rows[0][DIGEST] = digest(cells)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue())
    with pytest.raises(CheckFailed, match="computed from other rows"):
        publishing.check(promoted)


@pytest.mark.parametrize("name", ["README.md", "registry/README.md"])
def test_every_edited_number_of_a_table_is_found_and_named(promoted, name):
    path = promoted.root / name
    original = path.read_text()
    lines = original.splitlines(keepends=True)
    tables = [i for i, line in enumerate(lines) if "| fc_ae |" in line]
    assert len(tables) == 2
    for i in tables[1:]:
        for figure in [word for word in lines[i].split() if word.replace(".", "").isdigit()]:
            edited = lines[i].replace(f" {figure} ", " 0.12345 ", 1)
            path.write_text("".join([*lines[:i], edited, *lines[i + 1 :]]))
            with pytest.raises(CheckFailed, match=rf"{name} line {i + 1} says .*0\.12345"):
                publishing.check(promoted)
    path.write_text(original)
    assert publishing.check(promoted)


def test_text_outside_the_markers_is_not_ours(promoted):
    path = promoted.root / "README.md"
    path.write_text(path.read_text().replace("The end.", "Another end."))
    assert publishing.check(promoted)
    publishing.write(promoted, EVERYTHING, refresh=False)
    assert "Another end." in path.read_text()


def test_a_readme_without_markers_is_said(promoted):
    (promoted.root / "README.md").write_text("# Title\n")
    with pytest.raises(CheckFailed, match=r"README\.md has no lines"):
        publishing.check(promoted)
    assert "no lines" in publishing.write(promoted, EVERYTHING, refresh=False).lines[-1]


def test_a_changed_picture_is_found(promoted):
    picture = promoted.registry / "fashion_mnist_mini" / "quick.rate_distortion.png"
    picture.write_bytes(picture.read_bytes() + b" ")
    with pytest.raises(CheckFailed, match="README"):
        publishing.check(promoted)
    publishing.write(promoted, EVERYTHING, refresh=False)
    assert publishing.check(promoted)


def drifted_record(ran, factor):
    """Make the local result of one run differ from what it was."""
    record = next(r for r in records_of(ran) if r.spec.model == "fc_ae")
    scale(ran.records, record, factor)
    return record


@pytest.fixture
def unheld(monkeypatch):
    """Records are not held against their weights: those of another machine need not agree."""
    monkeypatch.setattr(admission, "_other_weights", lambda *_: "")


def test_a_small_difference_is_a_reproduction(promoted):
    drifted_record(promoted, 1.005)
    again = publishing.write(promoted, EVERYTHING, refresh=False)
    assert again.changed == []
    assert again.lines[0].startswith("reproduced 10 of 10")


def test_drift_is_named_and_writes_nothing(promoted):
    record = drifted_record(promoted, 2.0)
    before = (promoted.registry / "results.csv").read_bytes()
    with pytest.raises(CheckFailed, match=f"fc_ae d={record.spec.latent_dim} seed 0.*--refresh"):
        publishing.write(promoted, EVERYTHING, refresh=False)
    assert (promoted.registry / "results.csv").read_bytes() == before
    publishing.check(promoted)


@pytest.mark.usefixtures("unheld")
def test_a_better_run_is_reported_and_the_committed_one_stays(promoted):
    drifted_record(promoted, 0.98)
    again = publishing.write(promoted, EVERYTHING, refresh=False)
    assert again.changed == []
    first, better, cure = again.lines
    assert first == "reproduced 9 of 10 rows of quick on fashion_mnist_mini"
    assert better.startswith("better than the committed run: fc_ae d=4 seed 0 ")
    assert cure.endswith("bench leaderboard --write --refresh")
    assert publishing.look(promoted, EVERYTHING).lines == [first, better]
    refreshed = publishing.write(promoted, EVERYTHING, refresh=True)
    assert "1 rows were refreshed" in refreshed.lines
    assert "registry/results.csv" in refreshed.changed


@pytest.mark.usefixtures("unheld")
def test_refresh_accepts_drift(promoted):
    record = drifted_record(promoted, 2.0)
    publishing.write(promoted, EVERYTHING, refresh=True)
    row = next(
        row for row in read_results(promoted.registry).ledger if row.run_key == record.run_key
    )
    assert row.scores["test_mse"] == pytest.approx(2 * record.scores["test"]["mse"], rel=1e-6)
    assert publishing.check(promoted)


def test_comparing_anew_needs_scores_and_says_of_which_runs(promoted):
    """Committed ones would do; a registry of an earlier version has none."""
    shutil.rmtree(promoted.registry / "scores")
    (promoted.registry / "scores.csv").unlink()
    for record in records_of(promoted):
        if record.spec.model == "fc_ae" and str(record.track) == "d8":
            shutil.rmtree(record_folder(promoted.records, record.run_key))
    protocol = tiny_protocol(promoted.root)
    run_all(promoted, dataclasses.replace(protocol, seeds=(7,)), models=("vae",))
    with pytest.raises(BadInput, match=r"--model fc_ae --latent-dim 8 --seed 0,1,2"):
        publishing.write(promoted, EVERYTHING, refresh=False)
    pages.write_pages(promoted, read_results(promoted.registry))
    pages.write_index(promoted)  # its curves and pictures are gone as well
    assert publishing.check(promoted)
    shown = publishing.look(promoted, EVERYTHING)
    assert math.isnan(cells(shown)["vae"]["rank_low"])


def test_own_images_have_tables_of_their_own(promoted, tmp_path):
    splits = load_splits("fashion_mnist_mini", SplitConfig())
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        x_train=splits.train.images[:600, 0],
        y_train=splits.train.labels[:600],
        x_test=splits.test.images[:100, 0],
        y_test=splits.test.labels[:100],
    )
    protocol = tiny_protocol(promoted.root, dataset=f"npz:{path}", latent_dims="[4]")
    run_all(promoted, protocol, models=("pca",))
    found = publishing.write(promoted, EVERYTHING, refresh=False)
    assert [board.dataset for board in found.boards] == ["fashion_mnist_mini", "npz.mine-a58fb5"]
    page = (promoted.registry / "README.md").read_text()
    assert page.index("# Own data sets") < page.index("## quick on npz.mine")
    assert page.index("## quick on fashion_mnist_mini") < page.index("# Own data sets")
    only = publishing.look(promoted, Scope(dataset="npz.mine-a58fb5"))
    assert [board.dataset for board in only.boards] == ["npz.mine-a58fb5"]
    assert publishing.check(promoted)


def test_rows_are_json(promoted):
    from bench.cli.leaderboard import json_row

    found = publishing.look(promoted, EVERYTHING)
    for board in found.boards:
        json.dumps([json_row(cell.columns()) for cell in board.cells], allow_nan=False)
