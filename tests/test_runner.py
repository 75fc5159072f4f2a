"""execute(): a complete, honest, durable record of one run."""

import dataclasses
import pickle
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.benchmark.plan import Request, plan
from bench.core.errors import CheckFailed
from bench.core.protocol import load_protocol
from bench.core.spec import EpochValues, RunSpec
from bench.core.store import Store
from bench.data import load_splits
from bench.execution.processor import prepare_torch
from bench.execution.recomputing import recompute
from bench.execution.runner import StoppedEarly, execute, ignore_epochs
from bench.records.files import iter_records, read_arrays, read_record, read_weights


def _spec(tiny_protocol: str, store: Store, model: str, latent_dim: int = 4) -> RunSpec:
    request = Request(load_protocol(tiny_protocol), (model,), (latent_dim,), seeds=(0,))
    return plan(request, store).specs[0]


@pytest.mark.parametrize("model", ["mean_image", "pca", "fc_ae", "vae"])
def test_a_record_says_all_that_later_stages_need(
    model: str, tiny_protocol: str, store: Store
) -> None:
    spec = _spec(tiny_protocol, store, model)
    epochs: list[EpochValues] = []
    record = execute(spec, store, lambda values: epochs.append(values) or False)  # type: ignore[func-returns-value]
    assert record == read_record(store.records, spec.run_key)
    assert record.status == "finished"
    assert set(record.scores) == {"val", "test"}
    assert set(record.scores["test"]) == set(spec.evaluation.metrics)
    assert tuple(epochs) == record.history
    assert str(record.track) == "d4"
    arrays = read_arrays(store.records, record)
    for part, images in (("validation", 100), ("test", 7000)):
        for metric in spec.evaluation.metrics:
            values = arrays[f"{part}/{metric}"]
            assert values.shape == (images,)
            short = "val" if part == "validation" else "test"
            assert record.scores[short][metric] == pytest.approx(
                float(np.mean(values, dtype=np.float64)), rel=1e-12
            )
    assert arrays["shown/test/x"].shape == (10, 1, 28, 28)
    shown = (arrays["shown/test/x_hat"].clip(0, 1) - arrays["shown/test/x"]).astype(float)
    assert arrays["shown/test/score"] == pytest.approx((shown**2).mean((1, 2, 3)), rel=1e-5)
    assert ("codes/z" in arrays) == (model != "mean_image")
    assert ("progress/x_hat" in arrays) == (model in {"fc_ae", "vae"})
    if model != "mean_image":
        assert arrays["interpolation/x_hat"].shape == (5, 5, 1, 28, 28)
        assert arrays["samples/x_hat"].shape == (64, 1, 28, 28)
        # The ends of an interpolation are the reconstructions of the images themselves.
        np.testing.assert_allclose(
            arrays["interpolation/x_hat"][:, 0], arrays["shown/test/x_hat"][::2], atol=1e-5
        )
        assert arrays["samples/fitted"][0] == (0 if model == "vae" else 1)
        assert ("samples/standard_x_hat" in arrays) == (model != "vae")
    labels = load_splits(spec.dataset, spec.split)
    assert np.array_equal(arrays["label/validation"], labels.validation.labels)
    assert np.array_equal(arrays["label/test"], labels.test.labels)


def test_scores_are_recomputed_from_the_weights(tiny_protocol: str, store: Store) -> None:
    spec = _spec(tiny_protocol, store, "fc_ae")
    record = execute(spec, store, ignore_epochs)
    again = recompute(spec, read_weights(store.records, record)).scores
    for part, scores in record.scores.items():
        assert again[part] == pytest.approx(dict(scores), rel=1e-6)


def test_reconstructions_of_pca_score_as_computed_by_hand(tiny_protocol: str, store: Store) -> None:
    """A second implementation of the whole path: numpy on the same split."""
    spec = _spec(tiny_protocol, store, "pca", latent_dim=6)
    splits = load_splits(spec.dataset, spec.split)
    train = splits.train.images.reshape(len(splits.train.images), -1) / 255
    test = splits.test.images.reshape(len(splits.test.images), -1) / 255
    mean = train.mean(axis=0)
    components = np.linalg.svd(train - mean, full_matrices=False)[2][:6]
    x_hat = np.clip((test - mean) @ components.T @ components + mean, 0, 1)
    record = execute(spec, store, ignore_epochs)
    assert record.scores["test"]["mse"] == pytest.approx(((x_hat - test) ** 2).mean(), rel=1e-4)


def test_what_is_recorded_is_not_trained_again(tiny_protocol: str, store: Store) -> None:
    spec = _spec(tiny_protocol, store, "fc_ae")
    first = execute(spec, store, ignore_epochs)
    epochs: list[EpochValues] = []
    second = execute(spec, store, lambda values: epochs.append(values) or False)  # type: ignore[func-returns-value]
    assert second == first
    assert not epochs


def test_another_evaluation_scores_anew_and_trains_nothing(
    tiny_protocol: str, store: Store
) -> None:
    spec = _spec(tiny_protocol, store, "fc_ae")
    first = execute(spec, store, ignore_epochs)
    fewer = dataclasses.replace(
        spec,
        evaluation=dataclasses.replace(spec.evaluation, metrics=("mse", "ssim")),
        metric_revisions={"mse": 1, "ssim": 1},
    )
    assert fewer.run_key == spec.run_key
    second = execute(fewer, store, ignore_epochs)
    assert set(second.scores["test"]) == {"mse", "ssim"}
    assert second.weights_sha256 == first.weights_sha256
    assert second.history == first.history
    assert second.scores["test"]["mse"] == pytest.approx(first.scores["test"]["mse"], rel=1e-6)


def test_a_stopped_run_leaves_no_record_and_goes_on(tiny_protocol: str, store: Store) -> None:
    spec = _spec(tiny_protocol, store, "fc_ae")
    with pytest.raises(StoppedEarly):
        execute(spec, store, lambda values: values.epoch == 2)
    assert read_record(store.records, spec.run_key) is None
    seen: list[int] = []
    record = execute(spec, store, lambda values: seen.append(values.epoch) or False)  # type: ignore[func-returns-value]
    assert seen == [1, 2, 3]
    assert record.status == "finished"
    assert not list(store.checkpoints.iterdir())


def test_a_diverged_run_is_a_record_without_scores(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _spec(tiny_protocol, store, "fc_ae")
    wild = dataclasses.replace(spec, train=dataclasses.replace(spec.train, lr=10.0), model="vae")
    wild = dataclasses.replace(wild, hyperparameters={"beta": 20.0})
    record = execute(wild, store, ignore_epochs)
    assert record.status == "diverged"
    assert record.scores == {}
    assert "diverged in epoch" in record.message
    assert read_record(store.records, wild.run_key) == record


def test_changed_data_are_refused(tiny_protocol: str, store: Store) -> None:
    spec = dataclasses.replace(_spec(tiny_protocol, store, "pca"), data_digest="0" * 64)
    with pytest.raises(CheckFailed, match="changed"):
        execute(spec, store, ignore_epochs)


@pytest.mark.parametrize(
    "file",
    [
        "record.json",
        "weights.safetensors",
        "scores/*/scores.json",
        "scores/*/arrays.safetensors",
        "boards/*.json",
    ],
)
def test_an_edited_record_is_caught_and_named(file: str, tiny_protocol: str, store: Store) -> None:
    spec = _spec(tiny_protocol, store, "pca")
    record = execute(spec, store, ignore_epochs)
    (path,) = (store.records / spec.run_key).glob(file)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(CheckFailed, match=re.escape(str(path))):
        read_record(store.records, spec.run_key)
        read_weights(store.records, record)
        read_arrays(store.records, record)


def test_records_come_back_oldest_first_and_leftovers_are_passed_over(
    tiny_protocol: str, store: Store
) -> None:
    made = [execute(_spec(tiny_protocol, store, "pca", d), store, ignore_epochs) for d in (2, 3)]
    (store.records / ".new-deadbeef-x").mkdir()
    assert [record.run_key for record in iter_records(store.records)] == [
        record.run_key for record in made
    ]


def test_identity_ignores_device_and_threads_and_nothing_else(
    tiny_protocol: str, store: Store, tmp_path: Path
) -> None:
    spec = _spec(tiny_protocol, store, "fc_ae")
    same = dataclasses.replace(spec, device="cuda", threads=4, recipe="tuned (30 trials)")
    assert same.run_key == spec.run_key
    for field, value in {
        "seed": 1,
        "latent_dim": 5,
        "model_revision": 2,
        "data_digest": "x",
        "hyperparameters": {"beta": 1.0},
        "train": dataclasses.replace(spec.train, lr=1.0),
        "split": dataclasses.replace(spec.split, seed=1),
    }.items():
        assert dataclasses.replace(spec, **{field: value}).run_key != spec.run_key, field


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_large_blocks_of_memory_are_reused_not_mapped_anew() -> None:
    prepare_torch(threads=1)

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    pages = 64 * 2**20 // resource.getpagesize()
    torch.ones(64 * 2**18)  # the first block comes from the system
    before = faults()
    for _ in range(10):
        torch.ones(64 * 2**18)
    assert faults() - before < 3 * pages, "ten blocks of 64 MiB cost new pages for one or two"


_TRAINED = """
import sys, pickle
from bench.execution.runner import execute, ignore_epochs
spec, store = pickle.load(sys.stdin.buffer)
assert execute(spec, store, ignore_epochs).status == "finished"
print(*({"torch._dynamo", "triton", "sympy", "sklearn", "mlflow"} & sys.modules.keys()))
"""


def test_a_worker_imports_nothing_heavy_besides_torch(tiny_protocol: str, store: Store) -> None:
    """torch's optimisers and its counter of operations import its compiler: 130 MB, seconds."""
    work = pickle.dumps((_spec(tiny_protocol, store, "fc_ae"), store))
    done = subprocess.run(
        [sys.executable, "-c", _TRAINED], input=work, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == []
