"""Sheets of images of any shape, and pictures of discrete codes."""

import dataclasses

import numpy as np
import pytest
from figure_material import arrays_of, record_of
from looks import assert_texts_apart, assert_texts_inside, pixels, texts
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from skimage import data

from bench.core.spec import RunRecord
from bench.figures import FIGURES, TRACK_FIGURES, Cell, Group, draw_figures
from bench.figures.sheet import Row, draw_sheet
from bench.figures.style import Arrays

NAMES = ("Wheelbarrow wheel", "a class with a very long name", "WWWWWWWWWWWWWW", "Ankle boot")
SHEETS = ("reconstructions", "extremes", "interpolation", "samples", "progress")


def colour(width: int, height: int) -> NDArray[np.float32]:
    found = sliding_window_view(data.astronaut(), (height, width), axis=(0, 1))[::32, ::32]
    return (found.reshape(-1, 3, height, width) / 255).astype(np.float32)


@pytest.fixture(scope="module", params=[(12, 40), (40, 12)], ids=["narrow", "wide"])
def material(request: pytest.FixtureRequest) -> tuple[RunRecord, Arrays]:
    images = colour(*request.param)
    record = record_of(images, 4)
    scores = {"val": {"mse": 0.1}, "test": {"mse": 0.1}}
    return dataclasses.replace(record, class_names=NAMES, scores=scores), arrays_of(images, 4)


def vq(record: RunRecord) -> RunRecord:
    """The same run with a discrete code."""
    return dataclasses.replace(record, facts={**record.facts, "code_bits": 36})


@pytest.mark.parametrize("name", SHEETS)
def test_texts_above_images_never_touch(name: str, material: tuple[RunRecord, Arrays]) -> None:
    figure = FIGURES[name].draw(*material)
    assert_texts_inside(figure)
    assert_texts_apart(figure)
    assert max(pixels(figure).shape[:2]) <= 1250


def test_variants_side_by_side_never_touch(material: tuple[RunRecord, Arrays]) -> None:
    record, arrays = material
    names = ("fc_ae", "vae, tuned (30 trials)", "an unusually long name of a variant")
    cells = tuple(Cell(name, (record,), record, arrays) for name in names)
    figure = TRACK_FIGURES["side_by_side"].draw(Group("photographs · quick", cells))
    assert_texts_inside(figure)
    assert_texts_apart(figure)


def test_a_long_title_widens_the_sheet_and_leaves_the_images_alone() -> None:
    rows = [Row(colour(28, 28)[:2])]
    short, long = draw_sheet("short", "below", rows), draw_sheet("long title " * 12, "below", rows)
    assert_texts_inside(long)
    plain, wider = pixels(short), pixels(long)
    assert wider.shape[1] > plain.shape[1]
    assert np.array_equal(plain[60:, :300], wider[60:, :300])


def test_an_image_fills_whole_pixels_beside_long_labels() -> None:
    image = colour(12, 40)[:1]
    figure = draw_sheet("t", "b", [Row(image, "a label of some length " * 3, ["W" * 13])])
    box = figure.axes[0].bbox
    assert box.x0 == pytest.approx(round(box.x0)) and box.width == pytest.approx(36)
    left, top = round(box.x0), round(figure.bbox.height - box.y1)
    shown = pixels(figure)[top : top + 120 : 3, left : left + 36 : 3]
    np.testing.assert_array_equal(shown, np.rint(image[0] * 255).transpose(1, 2, 0))


def test_discrete_codes_are_not_spoken_of_as_places(material: tuple[RunRecord, Arrays]) -> None:
    record, arrays = material
    row = FIGURES["latent_map"]
    assert row.lacks(record, arrays) == "" and "discrete" in row.lacks(vq(record), arrays)
    figures = draw_figures(vq(record), arrays)
    assert "latent_map" not in figures
    samples, interpolation = (figures[n] for n in ("samples", "interpolation"))
    assert "its own frequencies" in texts(samples)[0] and "Gaussian" not in texts(samples)[0]
    assert "B's indices" in texts(interpolation)[0] and "line" not in texts(interpolation)[0]
    assert "4 indices, 36 bits" in texts(samples)[1]
    for figure in (samples, interpolation):
        assert_texts_inside(figure)
