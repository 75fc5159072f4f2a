"""The commands at 80 characters: what they show, and that it fits."""

import itertools
import json
import re

import pytest
from tiny import TINY
from typer.testing import CliRunner

from bench.cli import app
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
    for column in ("size", "ranks", "variant", "test MSE", "over PCA", "seeds"):
        assert column in header
    assert "parameters" not in header
    wide = CliRunner().invoke(app, ["leaderboard", "--wide"]).stdout
    assert "parameters" in wide
    assert "training: the time of one run" in wide


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
