"""Numbers do not move unnoticed: tiny cells against scores written down with their revisions.

A failure here means that code changed what a row computes. Where that was meant, raise `revision`
of the row in MODELS or METRICS, name it in the changelog, and write the new numbers down.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bench.benchmark.plan import Request, plan
from bench.core.protocol import SplitConfig, load_protocol
from bench.core.store import Store
from bench.data import load_splits
from bench.execution.runner import execute, ignore_epochs
from bench.metrics import METRICS
from bench.models.zoo import MODELS

TOLERANCE = 0.02
"""Relative: other processors and torch versions round differently, and training magnifies it."""

GOLDEN = {
    # variant: (revision, test mse after ten tiny epochs at 4 numbers, seed 0)
    "mean_image": (1, 0.087602),
    "pca": (1, 0.036606),
    "fc_ae": (1, 0.048051),
    "deep_ae": (1, 0.037858),
    "cnn_ae": (1, 0.053247),
    "vae": (1, 0.060556),
    "tapered_ae": (1, 0.059738),
    "conv_bn_ae": (1, 0.038083),
    "mlp_ae": (1, 0.036575),
    "sparse_ae": (1, 0.055302),
    "denoising_ae": (1, 0.028033),
    "contractive_ae": (1, 0.028161),
    "beta_vae": (1, 0.045053),
    "wae_mmd": (1, 0.028418),
    "rae": (1, 0.028294),
}
HEAVY_GOLDEN = {
    # variant: (revision, test mse after two epochs on 250 images at 4 numbers, seed 0)
    "rnn_ae": (1, 0.093788),
    "conv_baseline_ae": (1, 0.143117),
    "conv_modified_ae": (1, 0.086488),
    "conv_vae": (1, 0.087841),
    "vq_vae": (1, 0.101486),
    "res_ae": (1, 0.081466),
}
METRIC_REVISIONS = {"mse": 1, "mae": 1, "psnr": 1, "ssim": 1, "ssim_gaussian": 1}
PCA_SCORES = {
    "mse": 0.03660576,
    "mae": 0.1238611,
    "psnr": 14.89028,
    "ssim": 0.4023046,
    "ssim_gaussian": 0.3379851,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_tiny_cell_scores_as_before(name: str, tiny_protocol: str, store: Store) -> None:
    revision, mse = GOLDEN[name]
    assert MODELS[name].revision == revision, "the revision was raised: write the new score down"
    tiny = load_protocol(tiny_protocol)
    longer = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, epochs=10))
    spec = plan(Request(longer, (name,), seeds=(0,)), store).specs[0]
    record = execute(spec, store, ignore_epochs)
    assert record.scores["test"]["mse"] == pytest.approx(mse, rel=TOLERANCE)


@pytest.mark.parametrize("name", HEAVY_GOLDEN)
def test_a_heavy_variant_scores_as_before(
    name: str, tiny_protocol: str, store: Store, tmp_path: Path
) -> None:
    revision, mse = HEAVY_GOLDEN[name]
    assert MODELS[name].revision == revision, "the revision was raised: write the new score down"
    few = load_splits("fashion_mnist_mini", SplitConfig()).train
    np.savez(tmp_path / "few.npz", x_train=few.images[:300], y_train=few.labels[:300])
    tiny = load_protocol(tiny_protocol)
    shorter = dataclasses.replace(
        tiny,
        dataset=f"npz:{tmp_path / 'few.npz'}",
        split=SplitConfig(kind="pooled", validation=25, test=25),
        train=dataclasses.replace(tiny.train, epochs=2, batch_size=32),
    )
    spec = plan(Request(shorter, (name,), seeds=(0,)), store).specs[0]
    record = execute(spec, store, ignore_epochs)
    assert record.scores["test"]["mse"] == pytest.approx(mse, rel=TOLERANCE)


def test_every_trained_variant_has_a_golden_score() -> None:
    reconstructing = {name for name, row in MODELS.items() if row.kind == "autoencoder"}
    assert reconstructing == set(GOLDEN) | set(HEAVY_GOLDEN)


def test_the_metrics_score_as_before(tiny_protocol: str, store: Store) -> None:
    assert {name: METRICS[name].revision for name in METRIC_REVISIONS} == METRIC_REVISIONS
    spec = plan(Request(load_protocol(tiny_protocol), ("pca",)), store).specs[0]
    record = execute(spec, store, ignore_epochs)
    assert dict(record.scores["test"]) == pytest.approx(PCA_SCORES, rel=1e-4)
