"""Numbers do not move unnoticed: tiny cells against scores written down with their revisions.

A failure here means that code changed what a row computes. Where that was meant, raise `revision`
of the row in MODELS or METRICS and name it in the changelog; the test then writes the new score of
a variant down, as it does for a new variant.
"""

import dataclasses
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from bench.benchmark.plan import Request, plan
from bench.core.locks import locked
from bench.core.protocol import Protocol, SplitConfig, load_protocol
from bench.core.store import Store
from bench.data import load_splits
from bench.execution.runner import execute, ignore_epochs
from bench.metrics import METRICS
from bench.models.zoo import MODELS

TOLERANCE = 0.02
"""Relative: other processors and torch versions round differently, and training magnifies it."""

GOLDEN = Path(__file__).with_name("golden.json")
"""Revision and test MSE of each variant at 4 numbers, seed 0: after ten tiny epochs, or, for the
HEAVY ones, two epochs on 250 images."""
HEAVY = ("rnn_ae", "conv_baseline_ae", "conv_modified_ae", "conv_vae", "vq_vae", "res_ae")
VARIANTS = [name for name, row in MODELS.items() if row.kind == "autoencoder"]
METRIC_REVISIONS = {"mse": 1, "mae": 1, "psnr": 1, "ssim": 1, "ssim_gaussian": 1}
PCA_SCORES = {
    "mse": 0.03660576,
    "mae": 0.1238611,
    "psnr": 14.89028,
    "ssim": 0.4023046,
    "ssim_gaussian": 0.3379851,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_tiny_cell_scores_as_before(
    name: str, tiny_protocol: str, store: Store, tmp_path: Path
) -> None:
    tiny = load_protocol(tiny_protocol)
    chosen = _shorter(tiny, tmp_path) if name in HEAVY else _longer(tiny)
    spec = plan(Request(chosen, (name,), seeds=(0,)), store).specs[0]
    mse = execute(spec, store, ignore_epochs).scores["test"]["mse"]
    assert mse == pytest.approx(golden(GOLDEN, name, MODELS[name].revision, mse), rel=TOLERANCE)


def _longer(tiny: Protocol) -> Protocol:
    return dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, epochs=10))


def _shorter(tiny: Protocol, folder: Path) -> Protocol:
    few = load_splits("fashion_mnist_mini", SplitConfig()).train
    np.savez(folder / "few.npz", x_train=few.images[:300], y_train=few.labels[:300])
    return dataclasses.replace(
        tiny,
        dataset=f"npz:{folder / 'few.npz'}",
        split=SplitConfig(kind="pooled", validation=25, test=25),
        train=dataclasses.replace(tiny.train, epochs=2, batch_size=32),
    )


def golden(file: Path, name: str, revision: int, mse: float) -> float:
    """The score of a variant at a revision that is written down; a new one is written down now,
    to be committed (`.ci/run` fails if it is not)."""
    with locked(Path(tempfile.gettempdir()) / "bench-golden.lock"):
        known = json.loads(file.read_text())
        if known.get(name, {}).get("revision") != revision:
            known[name] = {"revision": revision, "test_mse": float(f"{mse:.5g}")}
            file.write_text(json.dumps(known, indent=1) + "\n")
            warnings.warn(f"{name}: wrote its score to {file.name}; commit it", stacklevel=2)
    score: float = known[name]["test_mse"]
    return score


def test_a_new_variant_or_revision_writes_its_score_once(tmp_path: Path) -> None:
    file = tmp_path / "golden.json"
    file.write_text("{}")
    with pytest.warns(UserWarning, match=r"golden.json; commit it"):
        assert golden(file, "new_ae", 1, 0.0712345) == pytest.approx(0.071234, rel=1e-4)
    assert golden(file, "new_ae", 1, 0.09) == pytest.approx(0.071234, rel=1e-4)
    with pytest.warns(UserWarning, match=r"golden.json; commit it"):
        assert golden(file, "new_ae", 2, 0.09) == 0.09


def test_the_metrics_score_as_before(tiny_protocol: str, store: Store) -> None:
    assert {name: METRICS[name].revision for name in METRIC_REVISIONS} == METRIC_REVISIONS
    spec = plan(Request(load_protocol(tiny_protocol), ("pca",)), store).specs[0]
    record = execute(spec, store, ignore_epochs)
    assert dict(record.scores["test"]) == pytest.approx(PCA_SCORES, rel=1e-4)
