"""Figures over several rows: error against code size, and rankings."""

import numpy as np
import pytest
from looks import assert_texts_apart, assert_texts_inside, texts

from bench.figures import Bar, Point, Standing, rank_ranges, ranking_bars, rate_distortion
from bench.metrics import METRICS
from bench.models.zoo import MODELS

POINTS = tuple(
    Point(model, size, scores)
    for model, size, scores in (
        ("pca", 4, (0.04,)),
        ("pca", 16, (0.02,)),
        ("mean_image", 4, (0.09,)),
        ("mean_image", 16, (0.09,)),
        ("cnn_ae", 16, (0.015, 0.016, 0.019)),
        ("cnn_ae", 4, (0.030, 0.034, 0.032)),
        ("rnn_ae", 64, (0.01,)),
    )
)


def test_rate_distortion_draws_means_bands_and_pca() -> None:
    figure = rate_distortion(POINTS, "mse", "photographs · 3 seeds")
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"pca", "cnn_ae", "rnn_ae"}
    (note,) = (text for text in texts(figure) if "mean image" in text)
    assert note == "Predicting the mean image scores 0.09000"
    assert ax.get_ylim()[1] < 0.09
    np.testing.assert_allclose(lines["cnn_ae"].get_xdata(), [4, 16])
    np.testing.assert_allclose(lines["cnn_ae"].get_ydata(), [0.032, 0.05 / 3])
    assert lines["pca"].get_linestyle() == "--" and ax.get_yscale() == "log"
    assert lines["rnn_ae"].get_marker() not in ("", "None")
    (band,) = ax.collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.034)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["4", "16", "64"]
    assert_texts_inside(figure)


def test_all_variants_stay_apart_and_are_named_beside_their_lines() -> None:
    drawn = [name for name in MODELS if name != "mean_image"]
    many = [Point(name, size, (1 / size + i,)) for i, name in enumerate(drawn) for size in (4, 8)]
    figure = rate_distortion(many, "mse", "photographs")
    looks = [(str(x.get_color()), x.get_linestyle(), x.get_marker()) for x in figure.axes[0].lines]
    assert len(set(looks)) == len(drawn)
    without_colour = {(line, marker) for _, line, marker in looks}
    assert len(without_colour) == len(drawn), "told apart by colour alone"
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    del heights[""]
    assert sorted(heights, key=lambda name: heights[name]) == drawn
    assert_texts_inside(figure)


def test_a_tuned_row_shares_the_colour_of_its_variant() -> None:
    points = [Point("vae", 4, (0.1,)), Point("vae, tuned (30 trials)", 4, (0.2,), variant="vae")]
    plain, tuned = rate_distortion(points, "mse", "photographs").axes[0].lines
    assert plain.get_color() == tuned.get_color() and plain.get_marker() == tuned.get_marker()
    assert plain.get_markerfacecolor() == plain.get_color()
    assert tuned.get_markerfacecolor() == "white"


@pytest.mark.parametrize("scores", [(0.0325, 0.0301), (0.00052, 0.00048), (1234.5, 987.6)])
def test_long_tick_labels_push_the_axis_label_no_further_than_the_edge(
    scores: tuple[float, float],
) -> None:
    points = [Point("fc_ae", size, (score,)) for size, score in zip((4, 8), scores, strict=True)]
    for metric in ("mse", "psnr"):
        figure = rate_distortion(points, metric, "photographs")
        assert_texts_inside(figure)
        (ax,) = figure.axes
        label, ticks = ax.yaxis.label.get_window_extent(), ax.yaxis.get_ticklabels()
        assert label.x1 <= min(t.get_window_extent().x0 for t in ticks if t.get_text())


def test_bands_are_spoken_of_only_where_there_are_several_seeds() -> None:
    single = [Point("fc_ae", 4, (0.2,)), Point("fc_ae", 8, (0.1,))]
    assert "here" in texts(rate_distortion(single, "mse", "here"))
    assert "bands" in " ".join(texts(rate_distortion(POINTS, "mse", "here")))


def test_what_is_left_out_stands_below_in_lines_that_fit() -> None:
    reason = ", ".join(f"variant_{i}" for i in range(30)) + " (a code no smaller than the image)"
    figure = rate_distortion(POINTS, "mse", "photographs", reason)
    (note,) = (text for text in figure.texts if "Not drawn: " in text.get_text())
    assert note.get_text().replace("\n", " ").endswith(f"scores 0.09000. Not drawn: {reason}")
    assert_texts_inside(figure)
    assert_texts_apart(figure)
    label = figure.axes[0].xaxis.label.get_window_extent()
    assert note.get_window_extent().y1 <= label.y0


@pytest.mark.parametrize(
    ("metric", "order"), [("mse", ["b", "pca", "a"]), ("psnr", ["a", "pca", "b"])]
)
def test_ranking_has_the_best_on_top(metric: str, order: list[str]) -> None:
    bars = [Bar("a", 0.3, 0.2, 0.4), Bar("b", 0.1, 0.05, 0.2), Bar("pca", 0.2, 0.2, 0.2, True)]
    figure = ranking_bars(bars, metric, "photographs · track d16")
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == order
    assert ax.yaxis_inverted() and len(ax.patches) == 3
    assert f"{0.3:.{METRICS[metric].decimals}f}" in texts(figure)
    assert any("dotted: PCA" in text for text in texts(figure))
    assert_texts_inside(figure)
    without = texts(ranking_bars(bars[:2], metric, "photographs"))
    assert not any("dotted" in text for text in without)


def test_ranking_has_room_for_long_names() -> None:
    bars = [Bar(f"a_variant_with_a_name_of_some_length_{i}", i, i, i) for i in range(1, 4)]
    figure = ranking_bars(bars, "psnr", "photographs")
    assert_texts_inside(figure)
    for below in ("photographs", "a long line below the title " * 8):
        other = ranking_bars([Bar(f"{bar.mean}", *[bar.mean] * 3) for bar in bars], "psnr", below)
        assert_texts_inside(other)
        sizes = [each.axes[0].bbox.size for each in (figure, other)]
        np.testing.assert_allclose(*sizes, atol=1, err_msg="the panel lost room to texts")


def test_ranges_of_ranks_have_a_panel_per_table_and_a_row_per_variant() -> None:
    standings = [
        Standing("rae", "Code size 8", 1, 2, 1),
        Standing("pca", "Code size 8", 1, 2, 2),
        Standing("vae", "Code size 8", 3, 3, 3),
        Standing("vae", "Code size 32", 1, 1, 1),
        Standing("rae", "Code size 32", 2, 2, 2),
    ]
    figure = rank_ranges(standings, "photographs · validation")
    first, second = figure.axes
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["rae", "pca", "vae"]
    bars = [line for line in first.get_lines() if len(line.get_xdata()) == 2]
    dots = [line for line in first.get_lines() if len(line.get_xdata()) == 1]
    assert [list(bar.get_xdata()) for bar in bars] == [[0.65, 2.35], [0.65, 2.35], [2.65, 3.35]]
    assert [list(dot.get_xdata()) for dot in dots] == [[1], [2], [3]]
    assert [bar.get_alpha() == bars[0].get_alpha() for bar in bars] == [True, True, False]
    assert len(second.get_lines()) == 4  # pca is not in this table
    assert_texts_inside(figure)
    assert_texts_apart(figure)
