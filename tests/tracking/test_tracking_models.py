"""The model that MLflow serves: the same numbers as ours, nothing pickled, clear refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
import torch
import tracked_store
from mlflow.exceptions import MlflowException
from tracked_store import client_of, runs_of

from bench.core.store import Store
from bench.models.zoo import build_model
from bench.records.files import read_arrays, read_weights
from bench.records.selection import median_record


@pytest.fixture(scope="module")
def logged(tracked: Store) -> Path:
    """The folder of the servable model of `fc_ae`."""
    (cell,) = [c for c in tracked_store.cells(tracked) if c[0].spec.model == "fc_ae"]
    median = median_record(cell)
    assert median is not None
    model_id = runs_of(tracked)[median.run_key].data.tags["bench.model_id"]
    found = client_of(tracked).get_logged_model(model_id)
    assert found.name == "fc_ae-d4"
    return Path(found.artifact_location.removeprefix("file://"))


def test_one_model_a_cell_is_logged_in_the_experiment_with_its_scores(tracked: Store) -> None:
    client = client_of(tracked)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    assert {found.name for found in client.search_experiments()} == {"Default", "tiny"}
    models = client.search_logged_models([experiment.experiment_id])
    assert sorted(model.name for model in models) == ["fc_ae-d4", "pca-d4"]
    for model in models:
        (median,) = [
            median_record(cell)
            for cell in tracked_store.cells(tracked)
            if cell[0].spec.model == model.name.removesuffix("-d4")
        ]
        assert median is not None
        scores = {metric.key: metric for metric in model.metrics}
        assert scores["test/mse"].value == pytest.approx(median.scores["test"]["mse"], rel=1e-5)
        assert scores["test/mse"].dataset_digest != scores["kept/val_mse"].dataset_digest
        history = client.get_metric_history(model.source_run_id, "test/mse")
        assert len(history) == 1, "linking the model doubled the run's score"


def test_the_served_model_answers_as_ours(tracked: Store, logged: Path) -> None:
    card = json.loads((logged / "artifacts" / "card.json").read_text())
    (record,) = [
        r for cell in tracked_store.cells(tracked) for r in cell if r.run_key == card["run_key"]
    ]
    model = build_model("fc_ae", record.image_shape, 4)
    weights = read_weights(tracked.records, record)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    model.eval()
    images = read_arrays(tracked.records, record)["shown/test/x"].astype(np.float32)
    x = torch.from_numpy(images)
    served = mlflow.pyfunc.load_model(str(logged))
    expected = model.reconstruct(x)
    np.testing.assert_allclose(served.predict(images), expected.numpy(), atol=1e-6)
    code = served.predict(images, params={"output": "code"})
    np.testing.assert_allclose(code, model.encode_images(x).numpy(), atol=1e-6)
    score = served.predict(images, params={"output": "anomaly_score"})
    np.testing.assert_allclose(score, (expected - x).square().mean(dim=(1, 2, 3)), atol=1e-7)
    # What the record says of these images is what the served model answers.
    np.testing.assert_allclose(
        served.predict(images), read_arrays(tracked.records, record)["shown/test/x_hat"], atol=1e-5
    )


@pytest.mark.parametrize(
    ("images", "params", "says"),
    [
        (np.full((1, 1, 28, 28), 255, np.float32), {}, "divide 8-bit pixels by 255"),
        (np.full((1, 1, 28, 28), np.nan, np.float32), {}, "expected pixels in"),
        (np.zeros((0, 1, 28, 28), np.float32), {}, "N x 1 x 28 x 28"),
        (np.zeros((1, 1, 28, 28), np.float32), {"output": "fame"}, "anomaly_score"),
    ],
)
def test_bad_requests_are_named(
    logged: Path, images: np.ndarray, params: dict[str, str], says: str
) -> None:
    with pytest.raises(MlflowException, match=says):
        mlflow.pyfunc.load_model(str(logged)).predict(images, params=params)


def test_nothing_is_pickled(logged: Path) -> None:
    # Loading compiles the code that travels along.
    found = [path for path in logged.rglob("*") if path.is_file()]
    files = [path for path in found if path.parent.name != "__pycache__"]
    assert any(path.suffix == ".safetensors" for path in files)
    for path in files:
        assert path.suffix in {
            *(".safetensors", ".json", ".py", ".yaml", ".txt", ".typed", ""),
        }, path
        assert not path.read_bytes().startswith((b"\x80\x02", b"\x80\x04", b"\x80\x05")), path


def test_it_is_rebuilt_where_the_suite_is_not_installed(logged: Path, tmp_path: Path) -> None:
    """The classes travel with the model: the copy is complete without the rest of the suite."""
    code = f"""
import sys
root = {str(Path.cwd())!r}  # the virtual environment may lie below it and has to stay
sys.path[:] = [p for p in sys.path if "site-packages" in p or (p and not p.startswith(root))]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
import importlib.util
assert importlib.util.find_spec("bench") is None, "the suite is still there"
import mlflow.pyfunc, numpy as np
out = mlflow.pyfunc.load_model({str(logged)!r}).predict(np.zeros((2, 1, 28, 28), np.float32))
assert out.shape == (2, 1, 28, 28)
import bench
assert "artifacts" in bench.__file__, bench.__file__
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_altered_weights_are_refused(logged: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(logged, copy)
    weights = copy / "artifacts" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises((RuntimeError, MlflowException), match="SHA-256"):
        mlflow.pyfunc.load_model(str(copy))
