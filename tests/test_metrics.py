"""Every metric against a second implementation (scikit-image, numpy), on photographs."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from bench.core.errors import BadInput
from bench.core.protocol import EvaluationConfig, SsimSettings
from bench.evaluation.evaluate import Labelled, evaluate
from bench.metrics import METRICS, Seen, metrics_of, per_image, seen_of
from bench.metrics.base import PSNR_CAP
from bench.metrics.latent import active_units
from bench.models.base import ClosedFormAutoencoder
from bench.models.zoo import build_model

CONFIG = EvaluationConfig()
PIXELS = [
    name for name, row in metrics_of("reconstruction").items() if "reconstructions" in row.needs
]
UNIFORM = {"win_size": 7, "data_range": 1.0}
GAUSSIAN = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 1.0,
}


def pair(x: Tensor, x_hat: Tensor) -> Seen:
    """What metrics of images and their reconstructions read."""
    return seen_of({"images": x, "reconstructions": x_hat})


def crops(photo: NDArray[np.uint8], height: int, width: int, step: int) -> NDArray[np.float32]:
    """Overlapping crops of a photograph (H x W x C) as N x C x height x width in [0, 1]."""
    windows = sliding_window_view(photo, (height, width), axis=(0, 1))[::step, ::step]
    images = windows.reshape(-1, photo.shape[2], height, width)
    return (images / np.float32(255)).astype(np.float32)


def compressed(images: NDArray[np.float32], components: int) -> NDArray[np.float32]:
    """Reconstructions by PCA, clipped to [0, 1]: what an autoencoder's output looks like."""
    flat = images.reshape(len(images), -1)
    mean = flat.mean(0)
    basis = np.linalg.svd(flat[:1000] - mean, full_matrices=False)[2][:components]
    return np.clip((flat - mean) @ basis.T @ basis + mean, 0, 1).reshape(images.shape)


@pytest.fixture(scope="module")
def grey() -> tuple[Tensor, Tensor]:
    images = crops(data.camera()[:, :, None], 28, 28, 4)[:10_000]
    assert images.shape == (10_000, 1, 28, 28)
    return torch.from_numpy(images), torch.from_numpy(compressed(images, 16))


@pytest.fixture(scope="module")
def colour() -> tuple[Tensor, Tensor]:
    images = crops(data.astronaut(), 32, 36, 24)
    assert images.shape[1:] == (3, 32, 36) and len(images) > 300
    return torch.from_numpy(images), torch.from_numpy(compressed(images, 32))


def reference_ssim(x: Tensor, y: Tensor, settings: dict[str, object]) -> NDArray[np.float64]:
    pairs = zip(x.double().numpy(), y.double().numpy(), strict=True)
    return np.array([structural_similarity(a, b, channel_axis=0, **settings) for a, b in pairs])


@pytest.mark.parametrize("images", ["grey", "colour"])
@pytest.mark.parametrize(("name", "settings"), [("ssim", UNIFORM), ("ssim_gaussian", GAUSSIAN)])
def test_ssim_is_that_of_scikit_image(request, images, name, settings) -> None:
    x, y = (part[::29] for part in request.getfixturevalue(images))
    ours = per_image([name], pair(x, y), CONFIG)[name].numpy()
    np.testing.assert_allclose(ours, reference_ssim(x, y, settings), atol=1e-5)
    assert ours.std() > 0.01, "the pairs must differ in quality, or the comparison shows nothing"


@pytest.mark.parametrize(
    "settings",
    [
        SsimSettings(window=5),
        SsimSettings(window=21, k1=0.05, k2=0.01),
        SsimSettings(window=3, k1=1e-3, k2=1e-3),
        SsimSettings(window=13, sigma=1.8),
    ],
)
def test_ssim_follows_its_settings(colour: tuple[Tensor, Tensor], settings: SsimSettings) -> None:
    x, y = (part[::50] for part in colour)
    expected = {"win_size": settings.window, "data_range": 1.0}
    expected |= {"K1": settings.k1, "K2": settings.k2}
    if settings.sigma is not None:  # scikit-image's window is 2 int(3.5 sigma + 0.5) + 1 wide
        expected |= {"gaussian_weights": True, "sigma": 1.8, "use_sample_covariance": False}
    ours = per_image(["ssim"], pair(x, y), EvaluationConfig(ssim=settings))["ssim"]
    np.testing.assert_allclose(ours, reference_ssim(x, y, expected), atol=2e-5)


def test_ssim_does_not_lose_digits_in_flat_bright_areas(grey: tuple[Tensor, Tensor]) -> None:
    x, y = (1 - part[:50] * 0.004 for part in grey)
    ours = per_image(["ssim", "ssim_gaussian"], pair(x, y), CONFIG)
    np.testing.assert_allclose(ours["ssim"], reference_ssim(x, y, UNIFORM), atol=2e-5)
    np.testing.assert_allclose(ours["ssim_gaussian"], reference_ssim(x, y, GAUSSIAN), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ssim", UNIFORM),
        pytest.param("ssim_gaussian", GAUSSIAN, marks=pytest.mark.slow(minutes=0.2)),
    ],
)
def test_ssim_of_ten_thousand_images_is_scikit_images(
    grey: tuple[Tensor, Tensor], name: str, settings: dict[str, Any]
) -> None:
    # In float64: scikit-image in float32 is itself off by 3e-5 on these skies.
    pairs = list(zip(*(part.double().numpy()[:, 0] for part in grey), strict=True))
    theirs = np.array([structural_similarity(a, b, **settings) for a, b in pairs])
    np.testing.assert_allclose(per_image([name], pair(*grey), CONFIG)[name], theirs, atol=2e-5)


@pytest.mark.parametrize("images", ["grey", "colour"])
def test_pixel_errors_are_those_of_numpy(request, images) -> None:
    x, y = (part[::29] for part in request.getfixturevalue(images))
    ours = per_image(["mse", "mae", "psnr"], pair(x, y), CONFIG)
    a, b = x.double().numpy(), y.double().numpy()
    np.testing.assert_allclose(ours["mse"], ((a - b) ** 2).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(ours["mae"], np.abs(a - b).mean((1, 2, 3)), rtol=1e-5)
    psnr = [peak_signal_noise_ratio(p, q, data_range=1.0) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(ours["psnr"], psnr, atol=1e-4)


@pytest.mark.parametrize("images", ["grey", "colour"])
@pytest.mark.parametrize("name", PIXELS)
class TestContract:
    def test_row_tells_what_a_table_needs(self, name: str, images: str) -> None:
        row = METRICS[name]
        assert row.id == name and row.revision >= 1 and 0 <= row.decimals <= 6
        assert row.title and row.formula and row.source and row.bounds[0] < row.bounds[1]

    def test_one_float_per_image_within_bounds(self, request, name: str, images: str) -> None:
        x, y = (part[:100] for part in request.getfixturevalue(images))
        scores = METRICS[name].compute(pair(x, y), CONFIG)
        low, high = METRICS[name].bounds
        assert scores.shape == (100,) and scores.dtype == torch.float32
        assert scores.min() >= low and scores.max() <= high

    def test_identity_is_best(self, request, name: str, images: str) -> None:
        x, y = (part[:100] for part in request.getfixturevalue(images))
        same, other = (
            METRICS[name].compute(pair(x, x), CONFIG),
            METRICS[name].compute(pair(x, y), CONFIG),
        )
        torch.testing.assert_close(same, torch.full((100,), METRICS[name].best))
        assert ((other < same) if METRICS[name].higher_is_better else (other > same)).all()

    def test_worse_images_score_worse(self, request, name: str, images: str) -> None:
        x, y = (part[:200] for part in request.getfixturevalue(images))
        good, bad = (
            METRICS[name].compute(pair(x, z), CONFIG).mean() for z in (y, (y + x.flip(0)) / 2)
        )
        assert (good > bad) == METRICS[name].higher_is_better

    def test_images_do_not_influence_each_other(self, request, name: str, images: str) -> None:
        x, y = (part[:300] for part in request.getfixturevalue(images))
        together = METRICS[name].compute(pair(x, y), CONFIG)
        alone = torch.cat(
            [METRICS[name].compute(pair(x[i : i + 1], y[i : i + 1]), CONFIG) for i in (0, 7, 299)]
        )
        torch.testing.assert_close(together[[0, 7, 299]], alone, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            METRICS[name].compute(pair(x.flip(0), y.flip(0)), CONFIG), together.flip(0)
        )

    def test_inputs_are_left_alone(self, request, name: str, images: str) -> None:
        x, y = (part[:20].clone() for part in request.getfixturevalue(images))
        kept = x.clone(), y.clone()
        METRICS[name].compute(pair(x, y), CONFIG)
        assert torch.equal(x, kept[0]) and torch.equal(y, kept[1])

    def test_a_broken_output_does_not_look_like_a_score(
        self, request, name: str, images: str
    ) -> None:
        x, y = (part[:3].clone() for part in request.getfixturevalue(images))
        y[1, 0, 5, 5] = torch.nan
        assert METRICS[name].compute(pair(x, y), CONFIG).isnan().tolist() == [False, True, False]


def test_metrics_come_in_the_order_asked_for(grey: tuple[Tensor, Tensor]) -> None:
    x, y = (part[:5] for part in grey)
    assert list(per_image(["ssim", "mse"], pair(x, y), CONFIG)) == ["ssim", "mse"]


def test_a_perfect_image_has_a_finite_psnr(grey: tuple[Tensor, Tensor]) -> None:
    x = grey[0][:4]
    assert per_image(["psnr"], pair(x, x), CONFIG)["psnr"].tolist() == [PSNR_CAP] * 4


def test_unknown_metric_is_named_with_its_neighbour(grey: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(BadInput, match=r"unknown metric 'ssimm'; did you mean ssim"):
        per_image(["ssimm"], pair(grey[0][:1], grey[1][:1]), CONFIG)


@pytest.mark.parametrize(("window", "message"), [(8, "must be odd"), (29, r"larger than .*28x28")])
def test_impossible_windows_are_refused(grey, window: int, message: str) -> None:
    config = EvaluationConfig(ssim=SsimSettings(window=window))
    with pytest.raises(BadInput, match=message):
        per_image(["ssim"], pair(grey[0][:2], grey[1][:2]), config)


def test_shapes_that_would_broadcast_are_refused(colour: tuple[Tensor, Tensor]) -> None:
    x, y = colour
    for wrong in (y[:, :1], y[:1], y[0]):
        with pytest.raises(ValueError, match="equal, non-empty"):
            per_image(["mse"], pair(x, wrong), CONFIG)


def test_active_units_counts_what_varies(grey: tuple[Tensor, Tensor]) -> None:
    flat = grey[0].flatten(1)[:, :300]
    codes = torch.cat([flat, torch.full((len(flat), 3), 0.7), flat[:, :5] * 0.1], dim=1)
    expected = int((np.var(codes.double().numpy(), axis=0) > 0.01).sum())
    assert active_units(codes) == expected == active_units(codes.view(len(codes), 4, -1))
    assert active_units(flat) == expected and active_units(flat, threshold=10.0) == 0


def test_active_units_survives_a_large_offset(grey: tuple[Tensor, Tensor]) -> None:
    """E[z^2] - E[z]^2 in float32 would call these constant columns active, or the others dead."""
    codes = grey[0].flatten(1)[:, :10] + 1000
    assert active_units(codes) == 10 and active_units(torch.full((500, 10), 1000.1)) == 0


def test_the_spread_of_outputs_tells_a_constant_output(colour: tuple[Tensor, Tensor]) -> None:
    """`output_std` of an evaluation: the mean over pixels of the deviation over images."""
    pictures = (colour[0] * 255).round().to(torch.uint8)
    unlabelled = Labelled(pictures, torch.zeros(len(pictures), dtype=torch.int64))
    constant = build_model("mean_image", (3, *pictures.shape[2:]), 4)
    assert isinstance(constant, ClosedFormAutoencoder)
    constant.fit(pictures)
    assert evaluate(constant, unlabelled, CONFIG).output_std == pytest.approx(0, abs=1e-7)
    solved = build_model("pca", (3, *pictures.shape[2:]), 4)
    assert isinstance(solved, ClosedFormAutoencoder)
    solved.fit(pictures)
    given = solved.reconstruct(pictures.float() / 255).double().numpy()
    expected = float(given.std(axis=0).mean())
    assert evaluate(solved, unlabelled, CONFIG).output_std == pytest.approx(expected, rel=1e-5)
