"""The commands at 80 characters: what they show, and that it fits."""

import itertools
import json
import re

import pytest
from tiny import TINY
from typer.testing import CliRunner

from bench.cli import app, console
from bench.core.protocol import shipped_protocols
from bench.core.store import shipped
from bench.models.zoo import MODELS


def bench(*arguments):
    """(exit code, stdout, stderr) at 80 characters."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout, result.stderr


pytestmark = pytest.mark.usefixtures("store")


@pytest.mark.parametrize(
    "command",
    [
        ("leaderboard",),
        ("leaderboard", "--protocol", "classifier"),
        ("leaderboard", "--protocol", "fashion_mnist"),
        ("models",),
        ("protocols",),
        ("data", "list"),
        ("reproduce", "--list"),
        ("registry", "list"),
        ("registry", "show", "quick.d8"),
        ("compare", "cnn_ae", "fc_ae"),
    ],
)
def test_it_fits_eighty_characters(command):
    code, out, err = bench(*command)
    assert code == 0, err
    assert out.strip()
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out


def test_help_breaks_lines_where_the_terminal_ends():
    for command in ("leaderboard", "reproduce", "doctor"):
        _, out, _ = bench(command, "--help")
        text = out.partition("Usage:")[2].partition("╭")[0]
        for paragraph in re.split(r"\n *\n", text)[2:]:
            for line, below in itertools.pairwise(paragraph.strip("\n").splitlines()):
                assert len(line.rstrip()) + 1 + len(below.split()[0]) > 79, line


def test_without_runs_the_reference_is_shown_and_nothing_else():
    code, out, err = bench("leaderboard")
    assert code == 0
    assert "quick on fashion_mnist_mini" in out
    assert out.count("ranked by validation") == 1
    assert "fashion_mnist on fashion_mnist" in " ".join(err.split())
    assert max(map(len, err.splitlines())) <= 80
    assert "classifier" not in out
    header = next(line for line in out.splitlines() if "ranks" in line)
    for column in ("size", "ranks", "variant", "val MSE", "test MSE", "over PCA", "seeds"):
        assert column in header
    assert "parameters" not in header
    wide = CliRunner().invoke(app, ["leaderboard", "--wide"]).stdout
    assert "parameters" in wide
    assert "training: the time of one run" in wide


def test_rows_stand_in_the_order_of_a_column_that_is_shown():
    """By the test score alone some rows would seem to stand above better ones."""
    _, out, _ = bench("leaderboard")
    cells = [list(map(str.strip, x.split("│")[1:-1])) for x in out.splitlines() if "│" in x]
    for size in ("8", "32"):
        means = [float(row[3]) for row in cells if row[0] == size]
        assert len(means) == 15 and means == sorted(means)
    best = [row for row in cells if row[1].partition(" ")[0] == "1"]
    assert len(best) > 1 and "ranks from 1 on: may be the best" in out


def test_what_was_run_last_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_TRACKING", "off")
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    assert bench("run", "-p", path, "-m", "pca", "--workers", 1)[0] == 0
    _, out, err = bench("leaderboard")
    assert out.startswith("tiny on fashion_mnist_mini")
    assert "quick on" not in out
    assert "quick on fashion_mnist_mini" in err
    # All tables for programs, as before.
    rows = json.loads(bench("leaderboard", "--json")[1])
    assert {row["protocol"] for row in rows} > {"tiny", "quick"}


def test_rows_are_chosen_by_variant_and_size():
    _, out, _ = bench("leaderboard", "--model", "vae,fc_ae", "--latent-dim", "32")
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert len(rows) == 2
    assert all("32" in row for row in rows)
    # A variant that the default protocol lacks is found where it is.
    _, out, _ = bench("leaderboard", "--model", "rnn_ae")
    assert "rnn_ae" in out and "quick on" not in out
    code, _, err = bench("leaderboard", "--latent-dim", "9")
    assert code == 2
    assert "9 numbers" in err
    assert "vae" in bench("leaderboard", "--model", "vaee")[2]


def test_the_mean_image_stands_at_every_size():
    for size in ("8", "32"):
        _, out, _ = bench("leaderboard", "--protocol", "quick", "--latent-dim", size)
        rows = [line for line in out.splitlines() if line.startswith("│")]
        assert sum("mean_image" in row for row in rows) == 1


def test_variants_have_titled_columns_and_two_lines():
    _, out, _ = bench("models")
    lines = out.splitlines()
    assert lines[0].split() == ["variant", "origin", "native", "code", "parameters"]
    starts = [number for number, line in enumerate(lines) if line.split()[0] in MODELS]
    assert len(starts) == len(MODELS)
    assert max(b - a for a, b in itertools.pairwise(starts)) <= 3
    assert "S1: five small autoencoders" in out


def test_figures_of_origins_have_two_lines_each():
    _, out, _ = bench("reproduce", "--list")
    assert out.splitlines()[0].split()[0] == "variant"
    indented = [line.startswith("  ") for line in out.splitlines()[1:]]
    assert not any(a and b for a, b in itertools.pairwise(indented))
    assert "S2: two convolutional autoencoders" in out and "within –" not in out
    assert "under our protocol" in bench("reproduce", "--list", "--wide")[1]


def test_a_card_is_rendered():
    _, out, _ = bench("registry", "show", "quick.d8")
    assert "validation, over" in out and "5-nearest-neighbour accuracy" in out
    for mark in ("**", "<!--", "![", "| ---", "```", "# "):
        assert mark not in out.replace("      # x", "").replace("  # ", "")
    shown = "".join(out.split())  # paths may be folded
    for picture in (shipped().registry / "fashion_mnist_mini/quick.d8").glob("*.png"):
        assert "".join(str(picture).split()) in shown


def test_the_champion_is_bold_without_marks():
    _, out, _ = bench("leaderboard", "--latent-dim", "8", "--wide")
    assert "denoising_ae" in out and "**" not in out


@pytest.mark.parametrize(
    "task", ["representation", "generation", "interpolation", "robustness", "cost"]
)
def test_what_else_rows_were_measured_by_fits_eighty_characters(task):
    code, out, err = bench("leaderboard", "--task", task)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert out.count("contractive_ae") == 2, "a row of each size, in one line"
    assert "--task" not in err
    assert ("not ranked" in out) == (task not in ("robustness", "cost")), "only models without code"


def test_the_ranking_names_the_other_measures():
    said = " ".join(bench("leaderboard")[2].split())
    assert "(--task): representation, generation, interpolation, robustness, cost" in said
    assert "(--task)" not in bench("leaderboard", "--protocol", "classifier")[2]


@pytest.mark.parametrize("columns", [100, 2000])
def test_with_all_columns_a_table_that_does_not_fit_is_cut_into_several(columns):
    asked = ["leaderboard", "--task", "generation", "--wide", "--latent-dim", "8"]
    out = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, asked).stdout
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out
    tables = out.split("┏")[1:]
    assert len(tables) == 1 if columns == 2000 else len(tables) > 3
    for table in tables:
        lines = [line for line in table.splitlines() if line.startswith("│")]
        rows = [line.split("│")[3].strip() for line in lines if line.split("│")[3].strip()]
        assert rows[0] == "plain_ae" and rows[-2:] == ["real images", "the mean image"]
    words = re.findall(r"\w+", " ".join(tables))
    assert words.count("recall") == 6, "of three samplers in two networks, each once"
    assert "untrained" in words and "notes" in words


@pytest.mark.parametrize("task", ["representation", "generation", "interpolation", "robustness"])
def test_rows_of_a_task_stand_in_the_order_of_a_column_that_is_shown(task):
    _, out, _ = bench("leaderboard", "--task", task)
    cells = [list(map(str.strip, x.split("│")[1:-1])) for x in out.splitlines() if "│" in x]
    for size in ("8", "32"):
        means = [float(row[3]) for row in cells if row[0] == size and row[3] != "–"]
        better = task in ("representation", "robustness")
        assert len(means) >= 14 and means == sorted(means, reverse=better)


def test_rows_of_a_task_are_chosen_by_variant_and_size():
    code, out, _ = bench("leaderboard", "--task", "cost", "-m", "pca", "-d", "32")
    assert code == 0
    assert out.count("pca") == 1 and "cnn_ae" not in out and " 8 " not in out
    values = json.loads(bench("leaderboard", "--task", "robustness", "-m", "pca", "--json")[1])
    assert {row["selection_metric"] for row in values} == {"psnr_gaussian_20"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--task", "speed"), "unknown task 'speed'; known: cost, generation, interpolation"),
        (("--task", ""), "unknown task ''"),
        (
            ("--task", "generation", "--protocol", "classifier"),
            "classifier on fashion_mnist: its rows were not measured by generation; a protocol "
            'switches it on with: [evaluation] tasks = ["generation"]; generation needs a feature '
            "network for these images; train one with: bench run --protocol classifier",
        ),
        (("--task", "cost", "--write"), "--task only shows; leave it out with --write"),
        (("--task", "cost", "--check"), "--check always checks everything"),
    ],
)
def test_a_task_that_cannot_be_shown_is_said_in_one_line(arguments, says):
    code, out, err = bench("leaderboard", *arguments)
    assert code == 2 and not out
    assert says in err and err.count("\n") == 1


def test_every_table_that_a_hint_names_can_be_shown(monkeypatch):
    monkeypatch.setattr("bench.cli.leaderboard._NAMED", 99)

    def named(*arguments):
        said = " ".join(bench("leaderboard", *arguments)[2].split())
        listed = said.partition("other tables (--protocol, --dataset): ")[2].split(", ")
        return [name.split(" on ")[0] for name in listed]

    assert {"classifier", "origins/s0", "origins/s1"} <= set(named())
    known = [*shipped_protocols()]
    assert set(named()) <= set(known), "no s1.epoch1, which no --protocol takes"
    for protocol in named("--task", "generation"):
        code, out, err = bench("leaderboard", "--protocol", protocol, "--task", "generation")
        assert code == 0 and out, err


def test_a_comparison_names_only_tables_that_can_be_compared_at_its_sizes():
    """fashion_mnist has these variants at 64 numbers alone."""
    asked = ("compare", "cnn_ae", "fc_ae")
    assert "also in other tables: --protocol fashion_mnist" in bench(*asked)[2]
    assert bench(*asked, "--protocol", "fashion_mnist")[0] == 0
    assert "also in other tables" not in bench(*asked, "--latent-dim", "8")[2]
    assert bench(*asked, "--latent-dim", "8", "--protocol", "fashion_mnist")[0] == 2


def test_costs_are_no_test_scores_and_bytes_have_their_unit():
    _, out, _ = bench("leaderboard", "--task", "cost", "-m", "plain_ae", "-d", "32")
    assert "memory: peak memory;" in " ".join(out.split()) and "on test" not in out
    assert re.search(r"[0-9.]+ MB", out)


def test_steps_are_said_now_and_then_and_anything_else_always(capsys, monkeypatch):
    now = iter((100.0, 100.0, 101.0, 105.5, 105.5))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    say = console.saying_seldom()
    for line in ("one (1 of 3)", "two (2 of 3)", "two is unknown", "three (3 of 3)"):
        say(line)
    assert capsys.readouterr().err.splitlines() == [
        "one (1 of 3)",
        "two is unknown",
        "three (3 of 3)",
    ]
