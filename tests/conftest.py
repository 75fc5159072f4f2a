"""Shared by all tests: small splits of the bundled real images, a store in a temporary folder."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from bench.store import Store

# A shell that starts the suite in the background makes it, and every command that the tests start
# and stop with Ctrl-C, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = """
name = "tiny"
description = "a few epochs on a few of the bundled images, for tests"
dataset = "fashion_mnist_mini"
models = ["mean_image", "pca", "fc_ae"]
latent_dims = [4]
seeds = [0, 1]
[split]
kind = "pooled"
validation = 100
test = 7000
[train]
epochs = 3
batch_size = 64
lr = 0.003
schedule = "one_cycle"
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty workspace that every command in the test uses."""
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store(tmp_path).prepare()


@pytest.fixture
def tiny_protocol(tmp_path: Path) -> str:
    """Path of a protocol whose runs take a second: 900 training images, 3 epochs."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)
