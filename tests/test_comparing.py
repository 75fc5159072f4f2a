"""`bench compare`: whether a row is better, by how much, at what cost, from committed scores."""

import json
import math

import numpy as np
import pytest
from invented import invent, invent_row, specs_of
from PIL import Image
from typer.testing import CliRunner

from bench.cli import app
from bench.core.protocol import load_protocol
from bench.core.store import shipped
from bench.registry.results import read_results

QUICK = load_protocol("quick")


def compare(*arguments):
    """(exit code, stdout, stderr) of `bench compare`."""
    result = CliRunner().invoke(app, ["compare", *arguments])
    return result.exit_code, result.stdout, result.stderr


def pairs(*arguments):
    code, out, err = compare(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def rows(store):
    """fc_ae is better than deep_ae by 10 %; vae is as good as fc_ae but for its seeds' noise."""
    invent_row(store, QUICK, "fc_ae", val=0.0270, test=0.031)
    invent_row(store, QUICK, "deep_ae", val=0.0300, test=0.030)
    invent_row(store, QUICK, "vae", val=0.02701, test=0.031)
    return store


@pytest.mark.usefixtures("store")
def test_committed_scores_give_the_committed_comparison():
    (side,) = pairs("cnn_ae", "fc_ae", "--latent-dim", "8")
    (pair,) = side["pairs"]
    (known,) = (
        row
        for row in read_results(shipped().registry).known.pairs
        if (row.protocol, str(row.track), row.metric) == ("quick", "d8", QUICK.selection_metric)
        and {row.row_a, row.row_b} == {"cnn_ae", "fc_ae"}
    )
    sign = 1 if known.row_a == "cnn_ae" else -1
    assert pair["difference"] == pytest.approx(100 * math.expm1(sign * known.difference), rel=1e-6)
    assert pair["p_holm"] == pytest.approx(known.p_holm, rel=1e-6)
    ends = sorted(100 * math.expm1(sign * end) for end in (known.low, known.high))
    assert [pair["low"], pair["high"]] == pytest.approx(ends, rel=1e-6)
    costs = {row["row"]: row["parameters"] for row in side["rows"]}
    assert set(costs) == {"cnn_ae", "fc_ae"}


def test_a_clear_difference_is_said_in_words_within_eighty_columns(rows):
    code, out, _ = compare("fc_ae", "deep_ae")
    assert code == 0
    assert "Yes: fc_ae is better than deep_ae." in out
    assert "10.0 % lower" in out
    assert "> 99 % of draws" in " ".join(out.split())
    for cost in ("parameters", "multiply-adds", "training time"):
        assert cost in out
    assert max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()) <= 24
    assert "No: deep_ae is worse than fc_ae." in compare("deep_ae", "fc_ae")[1]
    assert "may be chance" in compare("fc_ae", "vae")[1]


@pytest.mark.usefixtures("store")
def test_a_row_without_a_code_is_compared_at_every_size_in_any_order():
    for names in (("pca", "mean_image"), ("mean_image", "pca")):
        (side,) = pairs(*names, "--latent-dim", "8")
        assert side["track"].endswith("d8") or "code size 8" in side["track"]
        assert side["pairs"][0]["better"] == "pca"


@pytest.mark.usefixtures("store")
def test_what_is_missing_is_made_under_the_protocol_that_was_asked_for():
    code, _, err = compare("pca", "fc_ae", "--protocol", "mnist")
    assert code == 2
    assert "make one with: bench run --protocol mnist --model pca --model fc_ae" in err


def test_what_is_missing_is_made_from_the_images_of_the_table(store):
    for model in ("fc_ae", "vae"):
        for spec in specs_of(store, QUICK, model, dataset="mnist_mini"):
            invent(store, spec, 0.027, 0.031)
    code, _, err = compare("fc_ae", "vae", "--latent-dim", "32", "--dataset", "mnist_mini")
    assert code == 2
    assert "bench run --protocol quick --dataset mnist_mini --model fc_ae --latent-dim 32" in err


def test_the_order_of_names_turns_the_sign(rows):
    (there,), (back,) = pairs("fc_ae", "deep_ae"), pairs("deep_ae", "fc_ae")
    (ours,), (theirs,) = there["pairs"], back["pairs"]
    assert ours["difference"] == pytest.approx(-10, abs=0.1)
    assert 1 + theirs["difference"] / 100 == pytest.approx(1 / (1 + ours["difference"] / 100))
    assert 1 + theirs["low"] / 100 == pytest.approx(1 / (1 + ours["high"] / 100))
    assert theirs["share_first_better"] == pytest.approx(1 - ours["share_first_better"])


def test_the_share_of_draws_follows_from_levels_and_errors(rows):
    """Three seeds a row with independent noise; the images move both rows alike."""
    (side,) = pairs("fc_ae", "vae")
    share = side["pairs"][0]["share_first_better"]
    assert 0.5 < share < 0.95
    better = pairs("fc_ae", "deep_ae")[0]["pairs"][0]["share_first_better"]
    assert better > share


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cnn_ae", "fc_aee"], ("unknown variant 'fc_aee'", "fc_ae")),
        (["cnn_ae"], ("two different variants",)),
        (["cnn_ae", "fc_ae", "--latent-dim", "9"], ("no row of 9 numbers", "--latent-dim 9")),
        (["cnn_ae", "cnn_classifier"], ("no table has all of them", "classifier_quick")),
        (["cnn_ae", "fc_ae", "--out", "a.jpg"], ("--out", "PNG")),
        (["cnn_ae", "fc_ae", "--out", "a.png"], ("--out draws one size", "--latent-dim")),
    ],
)
def test_what_cannot_be_compared_is_one_line(arguments, said):
    code, out, err = compare(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert all(words in err for words in said)


def test_rows_without_enough_seeds_are_refused_with_the_reason(store):
    invent_row(store, QUICK, "fc_ae", val=0.027, test=0.031)
    invent_row(store, QUICK, "deep_ae", val=0.03, test=0.03, steps=((0, 0),))
    code, _, err = compare("fc_ae", "deep_ae", "--latent-dim", "8", "--dataset", QUICK.dataset)
    # The workspace has too few seeds; the committed tables have them.
    assert code == 0, err
    assert "fewer than 3 seeds" not in err


@pytest.mark.usefixtures("store")
def test_more_than_two_sizes_are_a_table_of_verdicts():
    code, out, _ = compare("pca", "mean_image", "--protocol", "fashion_mnist")
    assert code == 0
    assert out.count("pca is better") >= 3
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.usefixtures("store")
def test_four_rows_get_a_line_each():
    code, out, _ = compare("cnn_ae", "fc_ae", "pca", "vae", "--latent-dim", "8")
    assert code == 0
    assert out.count("cnn_ae is better than") + out.count("cnn_ae is worse than") == 3
    assert max(map(len, out.splitlines())) <= 80


def test_the_images_on_which_they_differ_most_are_drawn(store, tmp_path):
    """In a clone: the champion's reconstructions, the errors of both."""
    picture = tmp_path / "differ.png"
    code, _, err = compare("cnn_ae", "fc_ae", "--latent-dim", "32", "--out", str(picture))
    assert code == 0, err
    assert "only the errors: fc_ae" in err
    with Image.open(picture) as image:
        assert min(image.size) > 300


def test_the_chosen_images_are_those_of_the_largest_differences(store):
    from bench.registry.comparing import compare_rows
    from bench.registry.differing import differing
    from bench.registry.results import Scope, scores_reader
    from bench.registry.scores import Kept

    found = compare_rows(store, ["cnn_ae", "fc_ae"], [32], Scope())
    images = differing(found, found.sides[0], 4)
    assert images.images.shape == (8, 1, 28, 28)
    lead = images.scores["cnn_ae"] - images.scores["fc_ae"]
    assert images.split == 4
    assert (lead[:4] < 0).all()
    assert (lead[4:] > 0).all()
    # The same, from the files of scores.
    registry = shipped().registry
    results = read_results(registry)
    scores_of = scores_reader(shipped(), Kept(registry, results.scores))
    means = [
        np.mean(
            [
                scores_of(row, "test")
                for row in results.ledger
                if (row.protocol, row.model, row.size_name) == ("quick", model, "32")
            ],
            axis=0,
        )
        for model in ("cnn_ae", "fc_ae")
    ]
    wanted = np.sort(means[0] - means[1])
    assert lead[:4] == pytest.approx(wanted[:4], rel=1e-5)
    assert lead[4:] == pytest.approx(wanted[::-1][:4], rel=1e-5)
    # The picture's reconstructions are those of the weights: their errors are like the scores.
    again = images.reconstructions["cnn_ae"]
    errors = ((again - images.images / 255) ** 2).mean(axis=(1, 2, 3))
    assert errors == pytest.approx(images.scores["cnn_ae"], rel=0.35)
