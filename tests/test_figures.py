"""Every figure from arrays like those of a run, made of photographs and their PCA."""

import dataclasses
import io
import subprocess
import sys
import zlib

import numpy as np
import pytest
from figure_material import CLASSES, arrays_of, crops, record_of
from looks import assert_drawn_inside, assert_texts_inside, pixels, texts
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from bench.core.protocol import SplitConfig
from bench.core.spec import RunRecord
from bench.figures import FIGURES, Bar, draw_figures, image_grid, ranking_bars
from bench.figures.latent import principal_plane
from bench.figures.style import Arrays, short_name, to_png

ROWS = [name for name, row in FIGURES.items() if row.judges != "classifier"]


@pytest.fixture(scope="module")
def grey() -> NDArray[np.float32]:
    images = crops(data.camera()[:, :, None], 28, 24)
    assert images.shape == (441, 1, 28, 28)
    return images


@pytest.fixture(scope="module")
def arrays(grey: NDArray[np.float32]) -> Arrays:
    return arrays_of(grey, 6)


@pytest.fixture(scope="module")
def record(grey: NDArray[np.float32]) -> RunRecord:
    return record_of(grey, 6)


class TestContract:
    @pytest.mark.parametrize("name", ROWS)
    def test_row_is_complete(self, name: str) -> None:
        row = FIGURES[name]
        assert row.id == name and row.title and (row.needs or row.epochs)

    @pytest.mark.parametrize("name", ROWS)
    def test_says_what_it_shows_within_the_figure(
        self, name: str, record: RunRecord, arrays: Arrays
    ) -> None:
        figure = FIGURES[name].draw(record, arrays)
        title, context = (text.get_text() for text in figure.texts[:2])
        assert title and context.startswith("photographs · pca · code size 6 · seed 3")
        assert_texts_inside(figure)

    @pytest.mark.parametrize("name", ROWS)
    def test_class_names_format_nothing(self, name: str, record: RunRecord, arrays: Arrays) -> None:
        """Formulas that are none, marks of direction, names that hide from a legend; and the file
        says nothing about this machine."""
        hostile = (r"$\frac{$", "a\nb\x1b[2J", "_x\u202ey", "a$b$c")
        named = dataclasses.replace(record, class_names=hostile)
        figure = FIGURES[name].draw(named, arrays)
        with Image.open(io.BytesIO(to_png(figure))) as picture:
            assert picture.info.keys() <= {"Software", "dpi"}
        shown = "".join(texts(figure))
        assert not {"\x1b", "\u202e"} & set(shown)

    @pytest.mark.parametrize("name", ROWS)
    def test_same_input_same_picture(self, name: str, record: RunRecord, arrays: Arrays) -> None:
        first, second = (pixels(FIGURES[name].draw(record, arrays)) for _ in range(2))
        assert np.array_equal(first, second)
        assert first.std() > 10, "an empty picture"

    @pytest.mark.parametrize("name", ROWS)
    def test_is_not_drawn_without_what_it_needs(
        self, name: str, record: RunRecord, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = FIGURES[name]
        monkeypatch.setattr("bench.figures.FIGURES", {name: row})
        assert name in draw_figures(record, arrays)
        for need in row.needs:
            kept = {key: value for key, value in arrays.items() if not key.startswith(need)}
            assert name not in draw_figures(record, kept)
        short = dataclasses.replace(record, history=record.history[:1])
        assert (name in draw_figures(short, arrays)) == (row.epochs <= 1)


def test_all_rows_are_drawn_when_everything_is_there(record: RunRecord, arrays: Arrays) -> None:
    assert list(draw_figures(record, arrays)) == ROWS


def test_a_model_without_code_gets_the_pictures_that_it_can(
    record: RunRecord, arrays: Arrays
) -> None:
    coded = ("codes/", "samples/", "interpolation/", "progress/", "generated/", "paths/", "grid/")
    left = {key: value for key, value in arrays.items() if not key.startswith(coded)}
    no_code = dataclasses.replace(record, facts={"code_size": 0}, history=())
    figures = draw_figures(no_code, left)
    assert list(figures) == ["reconstructions", "extremes", "class_scores", "score_histogram"]
    assert "no code" in figures["extremes"].texts[1].get_text()


LARGE = [pytest.param(side, marks=pytest.mark.slow(minutes=side / 200)) for side in (96, 224)]


@pytest.mark.parametrize("side", [32, *LARGE])
def test_colour_images_of_any_size(side: int) -> None:
    images = crops(data.astronaut(), side, 24)[:80]
    figures = draw_figures(record_of(images, 3), arrays_of(images, 3))
    assert list(figures) == ROWS
    for figure in figures.values():
        shown = pixels(figure)
        assert max(shown.shape[:2]) <= 1120
        assert_drawn_inside(figure)
    red, green, blue = np.moveaxis(pixels(figures["samples"]).astype(int), 2, 0)
    assert max(np.abs(red - green).max(), np.abs(green - blue).max()) > 50


@pytest.mark.parametrize("code_size", [1, 2, 6])
def test_latent_map_says_what_its_axes_are(grey: NDArray[np.float32], code_size: int) -> None:
    found = arrays_of(grey, code_size)
    figure = FIGURES["latent_map"].draw(record_of(grey, code_size), found)
    (ax,) = figure.axes
    if code_size == 6:
        codes = found["codes/z"]
        share = codes.var(0)[0] / codes.var(0).sum()
        assert ax.get_xlabel() == f"component 1 ({share:.1%} of the codes' variance)"
        assert "first two principal components" in figure.texts[0].get_text()
    else:
        assert ax.get_xlabel() == "z1"
        assert ax.get_ylabel() == ("z2" if code_size == 2 else "class number")
        drawn = np.concatenate([each.get_offsets() for each in ax.collections])
        assert np.allclose(np.sort(drawn[:, 0]), np.sort(found["codes/z"][:, 0]))
    assert set(texts(figure)) >= {short_name(name, 14) for name in CLASSES}


@pytest.mark.parametrize("dead", [(), (1,), (0, 1)])
def test_the_grid_of_a_number_that_does_not_vary_can_be_seen(
    grey: NDArray[np.float32], dead: tuple[int, ...]
) -> None:
    found = dict(arrays_of(grey, 2))
    for key in ("grid/z", "codes/z"):
        found[key] = found[key].copy()
        found[key][:, list(dead)] = 0.25
    (ax,) = FIGURES["latent_grid"].draw(record_of(grey, 2), found).axes
    (image,) = ax.get_images()
    left, right, low, high = image.get_extent()
    assert (left, right, low, high) == (*ax.get_xlim(), *ax.get_ylim())
    for number, (start, end) in enumerate(((left, right), (low, high))):
        assert start < end
        if number in dead:
            assert (start, end) == (-0.25, 0.75)
    drawn = sum(len(each.get_offsets()) for each in ax.collections)
    assert drawn == len(found["codes/z"])


def test_latent_map_of_many_classes_and_of_none(record: RunRecord, arrays: Arrays) -> None:
    many = {**arrays, "codes/label": np.arange(441) % 25}
    named = dataclasses.replace(record, class_names=tuple(f"kind {i}" for i in range(25)))
    assert "15 other classes" in texts(FIGURES["latent_map"].draw(named, many))
    unnamed = FIGURES["latent_map"].draw(dataclasses.replace(record, class_names=()), arrays)
    assert unnamed.axes[0].get_legend() is None


def test_principal_plane_is_that_of_the_eigenvectors(arrays: Arrays) -> None:
    codes = np.asarray(arrays["codes/z"], np.float64) @ np.diag([1, 5, 1, 9, 1, 1.0])
    points, explained = principal_plane(codes)
    values = np.linalg.eigvalsh(np.cov(codes.T, ddof=0))[::-1]
    np.testing.assert_allclose(points.var(0), values[:2], rtol=1e-9)
    np.testing.assert_allclose(explained, values[:2] / values.sum(), rtol=1e-9)
    np.testing.assert_allclose(principal_plane(-codes).points, -points, atol=1e-9)


def test_principal_plane_of_long_codes_agrees_with_the_exact_one() -> None:
    """Beyond 512 numbers the axes are found by iteration."""
    pixels_as_codes = crops(data.camera()[:, :, None], 28, 16)[:700].reshape(700, -1).astype(float)
    assert min(pixels_as_codes.shape) > 512
    _, explained = principal_plane(pixels_as_codes)
    values = np.linalg.svd(pixels_as_codes - pixels_as_codes.mean(0), compute_uv=False) ** 2
    np.testing.assert_allclose(explained, values[:2] / values.sum(), rtol=1e-4)


def test_principal_plane_of_a_dead_code() -> None:
    points, explained = principal_plane(np.full((50, 8), 0.25))
    assert not points.any() and explained == (0.0, 0.0)


def test_the_kept_epoch_is_marked(record: RunRecord, arrays: Arrays) -> None:
    words = texts(FIGURES["loss_curves"].draw(record, arrays))
    assert f"epoch  (★ kept: epoch 3, {0.6**3:.4g})" in words
    assert "training penalty term" not in words
    penalised = tuple(
        dataclasses.replace(each, values={**each.values, "train/penalty": 0.1})
        for each in record.history
    )
    with_penalty = dataclasses.replace(record, history=penalised)
    assert "training penalty term" in texts(FIGURES["loss_curves"].draw(with_penalty, arrays))


def test_extremes_and_histogram_tell_their_scores(record: RunRecord, arrays: Arrays) -> None:
    words = texts(FIGURES["extremes"].draw(record, arrays))
    assert f"{arrays['extremes/score'][0]:.5f}" in words
    assert f"{arrays['extremes/score'][-1]:.5f}" in words
    words = texts(FIGURES["score_histogram"].draw(record, arrays))
    assert f"test mean {arrays['test/mse'].mean():.5f}" in words
    assert any(word.startswith("SSIM") for word in words)


def test_pictures_say_test_where_there_is_no_validation(record: RunRecord, arrays: Arrays) -> None:
    spec = dataclasses.replace(record.spec, split=SplitConfig(validation=0))
    without = dataclasses.replace(record, spec=spec)
    assert "worst test images" in FIGURES["extremes"].draw(without, arrays).texts[0].get_text()
    assert "441 test images" in FIGURES["latent_map"].draw(without, arrays).texts[1].get_text()


def test_samples_name_their_source(record: RunRecord, arrays: Arrays) -> None:
    normal = {**arrays, "samples/fitted": np.array([0])}
    assert "N(0, I)" in FIGURES["samples"].draw(record, normal).texts[0].get_text()
    assert "fitted" in FIGURES["samples"].draw(record, arrays).texts[0].get_text()


def test_image_grid_keeps_every_pixel(grey: NDArray[np.float32]) -> None:
    grid = image_grid(grey[:6].reshape(2, 3, 1, 28, 28), upscale=4)
    assert grid.shape == (2 * 112 + 2, 3 * 112 + 4, 3) and grid.dtype == np.uint8
    last = grid[114:, 228:]
    assert np.array_equal(last[::4, ::4, 0], np.rint(grey[5, 0] * 255))
    assert np.array_equal(last[1::4, 3::4], last[::4, ::4])
    assert (grid[112:114] == 255).all() and (grid[:, 112:114] == 255).all()


def test_image_grid_survives_what_a_diverged_model_gives(grey: NDArray[np.float32]) -> None:
    broken = grey[:2].reshape(1, 2, 1, 28, 28).copy()
    broken[0, 0], broken[0, 1, 0, 0, :3] = np.nan, (-5, 7, np.inf)
    grid = image_grid(broken, upscale=1)
    assert not grid[:, :28].any() and grid[0, 29:32, 0].tolist() == [0, 255, 255]


def test_image_grid_keeps_colours() -> None:
    images = crops(data.astronaut(), 32, 64)[:4]
    grid = image_grid(images.reshape(2, 2, 3, 32, 32), upscale=1)
    assert np.array_equal(grid[33:, :32], np.rint(images[2] * 255).transpose(1, 2, 0))


def test_short_names_stay_different() -> None:
    long = [f"class number {i}" for i in range(3)]
    shortened = [short_name(name, 9) for name in long]
    assert len(set(shortened)) == 3 and {len(name) for name in shortened} == {9}
    assert short_name("coat", 9) == "coat"


def test_drawing_changes_no_global_setting(record: RunRecord, arrays: Arrays) -> None:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before = zlib.crc32(str(sorted(mpl.rcParams.items())).encode())
    draw_figures(record, arrays)
    ranking_bars([Bar("a", 1, 1, 1)], "mse", "")
    assert zlib.crc32(str(sorted(mpl.rcParams.items())).encode()) == before
    assert not plt.get_fignums()


def test_figures_need_no_display_and_no_mlflow() -> None:
    code = "import sys, bench.figures; print(sorted({'mlflow', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
