"""`bench serve`: a champion answers over HTTP with reconstruction, code and score."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import bench
from bench.cli import app
from bench.data import load_set
from bench.tracking.model_server import reason_first

ROOT = Path(bench.__file__).parent.parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ask(port: int, images: np.ndarray, output: str) -> np.ndarray:
    body = json.dumps({"inputs": images.tolist(), "params": {"output": output}}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return np.array(json.load(answer)["predictions"], np.float32)


@pytest.mark.slow(minutes=0.5)
def test_a_served_champion_answers_with_reconstruction_code_and_score(tmp_path: Path) -> None:
    port = _free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "bench", "serve", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "BENCH_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == f"http://127.0.0.1:{port}/invocations"
        images = load_set("fashion_mnist_mini").parts["test"].images[:3]
        x = images / np.float32(255)
        model = bench.load()
        again = model.reconstruct(images)
        np.testing.assert_allclose(_ask(port, x, "reconstruction"), again, atol=1e-5)
        np.testing.assert_allclose(_ask(port, x, "code"), model.encode(images), atol=1e-4)
        scores = ((again - x) ** 2).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(_ask(port, x, "anomaly_score"), scores, rtol=1e-4)
        for given, output, says in (
            (x * 255, "code", "expected pixels in [0, 1], got 0 to 255; divide 8-bit pixels by"),
            (x, "codes", "output 'codes' is unknown; expected one of reconstruction, code"),
            (x[:, :, :20], "code", "Shape of input (3, 1, 20, 28) does not match expected shape"),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                _ask(port, given, output)
            message = json.load(refused.value)["message"]
            assert message.startswith(says) and len(message) < 300
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
    with socket.socket() as probe:  # nobody listens any more
        assert probe.connect_ex(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Failed to predict data '[[[[0. 1.]\n   [0. 1.]]]]'. \nError: Failed to enforce schema "
            "of data '[[[[0. 1.]\n   [0. 1.]]]]' with schema '[Tensor('float32', (-1, 1))]'. "
            "Error: Shape of input (1, 2) does not match expected shape (-1, 1).",
            "Shape of input (1, 2) does not match expected shape (-1, 1). (Failed to predict data. "
            "Error: Failed to enforce schema of data with schema '[Tensor('float32', (-1, 1))]')",
        ),
        (
            "Invalid input. Ensure that input is a valid JSON formatted string. Error: "
            "'JSONDecodeError('Expecting value: line 1')'\nInput: \nb'{\"inpu'\n",
            "JSONDecodeError('Expecting value: line 1') (Invalid input. Ensure that input is a "
            "valid JSON formatted string)",
        ),
        (
            "Invalid input. Failed to convert data `[0, 1,\n 2]` to type `Tensor` defined in it.",
            "Invalid input. Failed to convert data to type `Tensor` defined in it.",
        ),
        ("anything else", "anything else"),
    ],
)
def test_an_error_has_its_reason_first_and_no_images(message: str, told: str) -> None:
    assert reason_first(message) == told


@pytest.mark.usefixtures("store")
def test_what_cannot_be_served_is_one_line_with_the_reason_first() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, says in (
            (["serve", "--port", port], f"port {port} on 127.0.0.1 cannot be used"),
            (["serve", "nothing.d8"], "unknown track 'nothing.d8'"),
        ):
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 2
            assert done.stderr.startswith(f"bench: {says}")
            assert done.stderr.count("\n") == 1
