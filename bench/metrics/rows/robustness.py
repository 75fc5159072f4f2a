"""Rows of METRICS: reconstructions of damaged images, and errors of foreign ones."""

from functools import partial

from bench.core.lazy import Lazy
from bench.metrics.base import PSNR_CAP, Metric

_DAMAGES = {
    **{
        f"gaussian_{percent}": (
            f"Gaussian noise {percent / 100}",
            f"noise of standard deviation {percent / 100}, clipped to [0, 1]",
        )
        for percent in (10, 20, 30)
    },
    **{
        f"salt_and_pepper_{percent}": (
            f"salt and pepper {percent} %",
            f"{percent} % of the pixels black or white at random",
        )
        for percent in (10, 25, 50)
    },
    **{
        f"masking_{percent}": (f"masking {percent} %", f"{percent} % of the pixels 0 at random")
        for percent in (10, 25, 50)
    },
}

_SHORT = {"gaussian_20": "noise", "salt_and_pepper_25": "salt", "masking_25": "masking"}
"""Of each kind of damage the middle one; the others are details."""

ROBUSTNESS = (
    *(
        Metric(
            id=f"psnr_{name}",
            title=f"PSNR after {title}",
            short=_SHORT.get(name, ""),
            detail=name not in _SHORT,
            task="robustness",
            higher_is_better=True,
            revision=1,
            unit="dB",
            decimals=2,
            bounds=(0.0, PSNR_CAP),
            transform="identity",
            formula=f"PSNR of the reconstruction of the image with {damage}, against the clean "
            "image; of 500 images of a larger part",
            source="of denoising: Vincent, Larochelle, Lajoie, Bengio, Manzagol 2010; PSNR as "
            "scikit-image's peak_signal_noise_ratio",
            needs=frozenset({"images", "reconstruct"}),
            score=partial(Lazy("bench.metrics.robustness", "psnr_after"), name),
        )
        for name, (title, damage) in _DAMAGES.items()
    ),
    Metric(
        id="ood_auroc",
        title="AUROC of foreign images",
        short="AUROC",
        task="robustness",
        higher_is_better=True,
        revision=1,
        unit="",
        decimals=4,
        bounds=(0.0, 1.0),
        transform="log_one_minus",
        formula="probability that a test image of another data set (Fashion-MNIST against MNIST "
        "and back: the 1,000 bundled ones) has a larger squared error than an image of this part",
        source="Hanley, McNeil 1982; as scikit-learn's roc_auc_score",
        needs=frozenset({"images", "reconstructions", "others", "reconstruct", "train"}),
        score=Lazy("bench.metrics.robustness", "ood_auroc"),
        per_image=False,
    ),
)
