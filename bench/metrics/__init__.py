"""METRICS: the scores of the benchmark, one value per image, averaged elsewhere and only once."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from torch import Tensor

from bench.errors import unknown_name
from bench.metrics import reconstruction, ssim
from bench.metrics.base import Metric
from bench.protocol import EvaluationConfig

__all__ = ["METRICS", "Metric", "per_image"]

_WANG = "Wang, Bovik, Sheikh, Simoncelli 2004; as scikit-image's structural_similarity"

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "mse": Metric(
            id="mse",
            title="Mean squared error",
            task="reconstruction",
            higher_is_better=False,
            revision=1,
            unit="",
            decimals=5,
            bounds=(0.0, 1.0),
            formula="mean (x - x_hat)^2",
            source="the usual definition; as numpy's mean over the image",
            score=reconstruction.mse,
        ),
        "mae": Metric(
            id="mae",
            title="Mean absolute error",
            task="reconstruction",
            higher_is_better=False,
            revision=1,
            unit="",
            decimals=4,
            bounds=(0.0, 1.0),
            formula="mean |x - x_hat|",
            source="the usual definition; as numpy's mean over the image",
            score=reconstruction.mae,
        ),
        "psnr": Metric(
            id="psnr",
            title="Peak signal-to-noise ratio",
            task="reconstruction",
            higher_is_better=True,
            revision=1,
            unit="dB",
            decimals=2,
            bounds=(0.0, reconstruction.PSNR_CAP),
            formula="10 log10(1 / MSE of the image), at most 100 dB",
            source="as scikit-image's peak_signal_noise_ratio at data_range=1, mean over images",
            score=reconstruction.psnr,
        ),
        "ssim": Metric(
            id="ssim",
            title="SSIM, uniform window",
            task="reconstruction",
            higher_is_better=True,
            revision=1,
            unit="",
            decimals=4,
            bounds=(-1.0, 1.0),
            formula="mean SSIM, uniform 7x7 window, sample covariance (settings: evaluation.ssim)",
            source=_WANG,
            score=ssim.ssim_uniform,
        ),
        "ssim_gaussian": Metric(
            id="ssim_gaussian",
            title="SSIM, Gaussian window",
            task="reconstruction",
            higher_is_better=True,
            revision=1,
            unit="",
            decimals=4,
            bounds=(-1.0, 1.0),
            formula="mean SSIM, Gaussian 11x11 window of sigma 1.5 "
            "(settings: evaluation.ssim_gaussian)",
            source=_WANG,
            score=ssim.ssim_gaussian,
        ),
    }
)


def per_image(
    metric_ids: Iterable[str], x: Tensor, x_hat: Tensor, config: EvaluationConfig
) -> dict[str, Tensor]:
    """Score reconstructions x_hat of images x, both N x C x H x W float32 in [0, 1].

    Gives one float32 tensor [N] a metric, in the order asked for. Raises BadInput for a metric
    that is not in METRICS, ValueError for shapes that differ.
    """
    ids = tuple(metric_ids)
    for name in ids:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    return {name: METRICS[name].compute(x, x_hat, config) for name in ids}
