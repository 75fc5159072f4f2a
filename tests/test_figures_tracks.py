"""Figures over the runs of a track: the axes show every variant's numbers."""

import dataclasses

import numpy as np
import pytest
from figure_material import CLASSES, arrays_of, crops, record_of
from looks import assert_texts_inside, pixels, texts
from matplotlib.axes import Axes
from skimage import data

from bench.core.spec import RunRecord
from bench.figures import TRACK_FIGURES, Cell, Group
from bench.figures.labels import spread
from bench.metrics import METRICS
from bench.models.zoo import MODELS
from bench.records.selection import median_record

IMAGES = crops(data.camera()[:, :, None], 28, 24)
ARRAYS = {size: arrays_of(IMAGES, size) for size in (2, 4, 6)}


def damaged(score: float) -> dict[str, float]:
    """PSNR of the clean image, and 1 dB less for each 10 % of damage."""
    psnr = {"psnr": -10 * np.log10(score)}
    for name in METRICS:
        if name.startswith("psnr_") and not name.endswith("bit"):
            psnr[name] = psnr["psnr"] - float(name.rpartition("_")[2]) / 10
    return psnr


def record(model: str, size: int, seed: int, better: float, closed_form: bool) -> RunRecord:
    """A run whose scores are those of PCA at `size`, times `better`."""
    bare = record_of(IMAGES, size)
    arrays = ARRAYS[size]
    score = better * float(arrays["test/mse"].mean())
    history = tuple(
        dataclasses.replace(
            each, values={**each.values, "train/reconstruction": score / each.epoch}
        )
        for each in bare.history
    )
    spec = dataclasses.replace(bare.spec, model=model, seed=seed)
    return dataclasses.replace(
        bare,
        run_key=spec.run_key,
        spec=spec,
        history=() if closed_form else history,
        scores={"val": {"mse": score}, "test": {"mse": score, **damaged(score)}},
    )


def cell(name: str, size: int, *better: float, model: str = "", closed_form: bool = False) -> Cell:
    records = tuple(
        record(model or name, size, seed, factor, closed_form) for seed, factor in enumerate(better)
    )
    return Cell(name, records, median_record(records), ARRAYS[size])


TRACK = Group(
    "photographs · quick · code size 4",
    (
        cell("fc_ae", 4, 1.1, 1.3, 1.2),
        cell("pca", 4, 1.0, closed_form=True),
        cell("vae", 2, 1.0, 1.0, 1.1),
        cell("vae, tuned (30 trials)", 2, 0.9, 0.9, 0.8, model="vae"),
    ),
)
BOARD = Group("photographs · quick", (*TRACK.cells, cell("fc_ae", 6, 0.9, 1.0, 1.1)))
GROUPS = {name: BOARD if row.all_tracks else TRACK for name, row in TRACK_FIGURES.items()}
EVERYBODY = Group("photographs · quick · code size 4", tuple(cell(n, 4, 1, 1.1) for n in MODELS))
NOTHING = Group(
    "photographs · quick",
    (dataclasses.replace(cell("fc_ae", 4, 1.0), shown=None, arrays={}),),
)


def mean(size: int, *better: float) -> float:
    return float(np.mean(better)) * float(ARRAYS[size]["test/mse"].mean())


def lines(ax: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): list(line.get_ydata()) for line in ax.get_lines()}


class TestContract:
    @pytest.mark.parametrize("name", TRACK_FIGURES)
    def test_says_what_it_shows_and_nothing_is_cut(self, name: str) -> None:
        row = TRACK_FIGURES[name]
        figure = row.draw(GROUPS[name])
        assert row.id == name and row.lacks(GROUPS[name]) == ""
        title, context = (text.get_text() for text in figure.texts[:2])
        assert title and context.startswith(GROUPS[name].about) and "3 seeds" in context
        assert_texts_inside(figure)
        assert pixels(figure).std() > 10, "an empty picture"

    @pytest.mark.parametrize("name", [n for n, row in TRACK_FIGURES.items() if not row.all_tracks])
    def test_every_variant_of_the_cast_finds_room(self, name: str) -> None:
        figure = TRACK_FIGURES[name].draw(EVERYBODY)
        shown = [*texts(figure), *(t.get_text() for t in figure.axes[0].get_yticklabels())]
        for model in MODELS:
            assert any(model in line.splitlines() for line in shown), model
        assert_texts_inside(figure)

    @pytest.mark.parametrize("name", TRACK_FIGURES)
    def test_says_why_there_is_nothing_to_draw(self, name: str) -> None:
        bare = tuple(
            dataclasses.replace(
                each,
                records=tuple(dataclasses.replace(r, scores={}, history=()) for r in each.records),
            )
            for each in NOTHING.cells
        )
        assert TRACK_FIGURES[name].lacks(dataclasses.replace(NOTHING, cells=bare))


def test_final_scores_are_means_with_the_range_of_seeds() -> None:
    (ax,) = TRACK_FIGURES["final_scores"].draw(TRACK).axes
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["pca", "vae, tuned (30 trials)", "fc_ae", "vae"]
    widths = [patch.get_width() for patch in ax.patches]
    assert widths[2] == pytest.approx(mean(4, 1.1, 1.2, 1.3))
    ends = ax.containers[5].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, [mean(4, 1.1), mean(4, 1.3)])
    assert [bool(patch.get_hatch()) for patch in ax.patches] == [True, False, False, False]


def test_training_curves_show_the_median_seed_and_the_range() -> None:
    left, right = TRACK_FIGURES["training_curves"].draw(TRACK).axes
    # The training error is derived from the reconstruction term: the run with the median score.
    assert lines(left)["fc_ae"] == pytest.approx([mean(4, 1.2) / e for e in range(1, 5)])
    assert lines(right)["fc_ae"] == pytest.approx([0.6**e for e in range(1, 5)])
    assert lines(right)["pca"] == pytest.approx([mean(4, 1)] * 2) and "pca" not in lines(left)
    band = left.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(mean(4, 1.3))
    names = {text.get_text() for text in right.texts} - {""}
    assert names == {cell.name for cell in TRACK.cells}
    # The gap between training and validation is on one scale.
    assert (left.get_ylim(), left.get_yscale()) == (right.get_ylim(), right.get_yscale())


def test_a_run_that_diverged_is_drawn_as_far_as_it_came() -> None:
    broken = record("fc_ae", 4, 0, 1.0, False)
    history = (
        *broken.history[:2],
        dataclasses.replace(broken.history[2], values={"val/mse": float("nan")}),
    )
    broken = dataclasses.replace(broken, status="diverged", scores={}, history=history)
    group = dataclasses.replace(TRACK, cells=(Cell("fc_ae", (broken,), None, {}), *TRACK.cells[1:]))
    _, right = TRACK_FIGURES["training_curves"].draw(group).axes
    assert len(lines(right)["fc_ae"]) == 2
    assert "fc_ae" not in texts(TRACK_FIGURES["final_scores"].draw(group))


def test_training_without_the_metric_shows_its_objective() -> None:
    def without(cell: Cell) -> Cell:
        records = tuple(
            dataclasses.replace(r, spec=dataclasses.replace(r.spec, task="classification"))
            for r in cell.records
        )
        return dataclasses.replace(cell, records=records)

    group = dataclasses.replace(TRACK, cells=tuple(map(without, TRACK.cells)))
    left, _ = TRACK_FIGURES["training_curves"].draw(group).axes
    assert lines(left)["fc_ae"] == pytest.approx([0.5**e for e in range(1, 5)])
    assert "objective" in left.get_title(loc="left")


def test_side_by_side_shows_the_best_variant_below_the_images() -> None:
    figure = TRACK_FIGURES["side_by_side"].draw(TRACK)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert [label for label in labels if "0." in label] == [
        f"pca\n{mean(4, 1):.5f}",
        f"vae\ntuned (30 trials)\n{mean(2, 0.9, 0.9, 0.8):.5f}",
        f"fc_ae\n{mean(4, 1.2):.5f}",
        f"vae\n{mean(2, 1.0, 1.0, 1.1):.5f}",
    ]
    canvas = figure.axes[0].images[0].get_array()
    above, best = canvas[:84:3, :84:3, 0], canvas[101:185:3, :84:3, 0]
    assert np.array_equal(above, np.rint(ARRAYS[4]["shown/test/x"][0, 0] * 255))
    assert np.array_equal(best, np.rint(ARRAYS[4]["shown/test/x_hat"][0, 0] * 255))


def test_class_map_holds_every_mean_hardest_class_first() -> None:
    figure = TRACK_FIGURES["class_map"].draw(TRACK)
    (ax,) = figure.axes
    shown = np.asarray(ax.images[0].get_array())
    scores, labels = ARRAYS[4]["test/mse"], ARRAYS[4]["label/test"]
    order = [tick.get_text() for tick in ax.get_xticklabels()]
    assert shown.shape == (4, 4) and (np.diff(shown.mean(0)) <= 0).all()
    easiest = next(i for i, name in enumerate(CLASSES) if order[-1][:4] == name[:4])
    assert shown[0, -1] == pytest.approx(scores[labels == easiest].mean())
    assert f"{shown[0, 0]:.5f}" in texts(figure)


def test_error_by_size_has_a_line_through_the_sizes_of_a_variant() -> None:
    (ax,) = TRACK_FIGURES["rate_distortion"].draw(BOARD).axes
    assert lines(ax)["fc_ae"] == pytest.approx([mean(4, 1.2), mean(6, 1.0)])
    assert TRACK_FIGURES["rate_distortion"].lacks(dataclasses.replace(TRACK, cells=TRACK.cells[:2]))


def test_variants_without_a_place_over_the_code_size_are_named_with_the_reason() -> None:
    def other(name: str, **facts: float) -> Cell:
        bare = cell(name, 4, 1.0)
        records = tuple(dataclasses.replace(r, facts={**r.facts, **facts}) for r in bare.records)
        return dataclasses.replace(bare, records=records)

    lost = dataclasses.replace(other("deep_ae").records[0], scores={}, status="diverged")
    cells = (
        *BOARD.cells,
        other("indexed", code_bits=288),
        other("wide (native)", code_size=784),
        other("wider (native)", code_size=1568),
        Cell("deep_ae", (lost,), None, {}),
    )
    figure = TRACK_FIGURES["rate_distortion"].draw(dataclasses.replace(BOARD, cells=cells))
    (note,) = (text for text in texts(figure) if text.startswith("Not drawn"))
    assert note.replace("\n", " ") == (
        "Not drawn: indexed (a discrete code of 288 bits, not of real numbers); "
        "wide (native), wider (native) (a code no smaller than the image); "
        "deep_ae (no test score at size 4)"
    )
    assert not {"indexed", "wide (native)", "deep_ae"} & lines(figure.axes[0]).keys()
    assert_texts_inside(figure)
    assert "Not drawn" not in " ".join(texts(TRACK_FIGURES["rate_distortion"].draw(BOARD)))


@pytest.mark.parametrize("name", TRACK_FIGURES)
def test_one_variant_with_one_seed_is_spoken_of_in_the_singular(name: str) -> None:
    both = (cell("fc_ae", 4, 1.0), cell("fc_ae", 6, 0.9))
    row = TRACK_FIGURES[name]
    group = dataclasses.replace(BOARD, cells=both if row.all_tracks else both[:1])
    said = " ".join(text.get_text() for text in row.draw(group).texts)
    assert "1 seed" in said
    for word in ("1 variants", "1 seeds", "mean of", "median", "lowest", "band"):
        assert word not in said, said


@pytest.mark.parametrize("name", ["side_by_side", "class_map"])
def test_without_validation_the_lowest_seed_is_shown_and_called_so(name: str) -> None:
    blind = tuple(
        dataclasses.replace(
            each,
            records=tuple(
                dataclasses.replace(r, scores={"test": r.scores["test"]}) for r in each.records
            ),
        )
        for each in TRACK.cells
    )
    group = dataclasses.replace(TRACK, cells=blind)
    assert "lowest" in TRACK_FIGURES[name].draw(group).texts[1].get_text()
    assert "median" in TRACK_FIGURES[name].draw(TRACK).texts[1].get_text()


@pytest.mark.parametrize("wanted", [[5, 5, 5], [0, 1, 90], [99, 98, 50, 1], [100] * 7])
def test_labels_keep_their_order_and_distance(wanted: list[float]) -> None:
    places = spread(np.array(wanted, dtype=float), 13, 100)
    ranked = places[np.argsort(wanted, kind="stable")]
    assert (np.diff(ranked) >= 13 - 1e-9).all()
    assert ranked[0] >= 0 and ranked[-1] <= 100


def test_labels_with_room_stay_where_they_are_wanted() -> None:
    wanted = np.array([80.0, 20.0, 40.0])
    assert np.array_equal(spread(wanted, 13, 100), wanted)
    np.testing.assert_allclose(spread(np.array([50.0, 50.0]), 10, 100), [45, 55])


def test_a_damaged_image_stands_at_its_strength() -> None:
    figure = TRACK_FIGURES["error_under_damage"].draw(TRACK)
    for ax, strengths in zip(
        figure.axes, ([0, 0.1, 0.2, 0.3], *[[0, 0.1, 0.25, 0.5]] * 2), strict=True
    ):
        (pca,) = (line for line in ax.get_lines() if line.get_label() == "pca")
        clean = -10 * np.log10(mean(4, 1.0))
        assert list(pca.get_xdata()) == strengths
        assert list(pca.get_ydata()) == pytest.approx([clean - 10 * s for s in strengths])
    bare = dataclasses.replace(
        TRACK.cells[0], records=(dataclasses.replace(TRACK.cells[0].records[0], scores={}),)
    )
    assert "robustness" in TRACK_FIGURES["error_under_damage"].lacks(Group("x", (bare,)))
