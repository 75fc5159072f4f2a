"""A trained model behind MLflow's model server, on this machine only.

Run as `python -m bench.tracking.model_server PORT` by `serving_model`. The model's folder comes in
an environment variable of MLflow's. Standard input is a pipe that the parent holds open: when it
closes, however the parent ended, so does the server.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import mlflow

import bench
from bench.core.errors import BenchError
from bench.tracking.address import HOST
from bench.tracking.interface import (
    App,
    Message,
    OwnOriginOnly,
    Receive,
    Scope,
    Send,
    end_with_parent,
)
from bench.tracking.models import Trained, packed_options
from bench.tracking.server import check_port, end_server

_START_SECONDS = 120.0


@contextlib.contextmanager
def serving_model(trained: Trained, weights: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's model server with this model, once it answers at /ping; then it is ended.

    Raises BadInput if the port is taken, BenchError with the server's last words if it does not
    start.
    """
    check_port(port)
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        model, log = Path(folder) / "model", Path(folder) / "server.log"
        with warnings.catch_warnings():
            # An example is shown by MLflow's pages, which this folder is never on.
            warnings.filterwarnings("ignore", ".*input example was not provided")
            mlflow.pyfunc.save_model(str(model), **packed_options(Path(folder), trained, weights))
        with log.open("wb") as stream:
            server = subprocess.Popen(
                [sys.executable, "-m", "bench.tracking.model_server", str(port)],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=_environment(model),
                start_new_session=True,
            )
        try:
            _wait_until_ready(server, port, log)
            yield server
        finally:
            end_server(server)


def _environment(model: Path) -> dict[str, str]:
    source = str(Path(bench.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "__pyfunc_model_path__": str(model)}


def _wait_until_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/ping", timeout=2).close()
            return
        except OSError:  # not yet
            pass
        time.sleep(0.2)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = " ".join(lines[-1].split()) if lines else "it did not answer"
    raise BenchError(f"{last}: MLflow's model server did not start")


_ECHO = re.compile(r"(?<=data) (`.*?`(?= to type)|'.*?'(?= with schema|\. \n))", re.DOTALL)
"""The images that an error repeats, thousands of numbers."""


def reason_first(message: str) -> str:
    """An error of MLflow's scoring server, its reason first and without the images.

    The server says `Failed to predict data '[[[[0. ...]]]]'. Error: ...`: what is wrong stands at
    the end, after everything that was sent.
    """
    told, _, _ = message.partition("\nInput:")
    context, _, reason = " ".join(_ECHO.sub("", told).split()).rpartition("Error: ")
    reason = reason.strip("'")
    return f"{reason} ({context.rstrip(' .')})" if context else reason


class ReasonFirst:
    """An application whose error messages are those of `reason_first`."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection (ASGI)."""
        started: Message = {}
        body = b""

        async def send_told(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start" and message["status"] >= 400:
                started.update(message)
            elif not started:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    told = _told(body)
                    length = (b"content-length", str(len(told)).encode())
                    others = [pair for pair in started["headers"] if pair[0] != length[0]]
                    await send({**started, "headers": [*others, length]})
                    await send({"type": "http.response.body", "body": told})

        await self._app(scope, receive, send_told)


def _told(body: bytes) -> bytes:
    """The body of an error with its message turned round; another body as it is."""
    try:
        error = json.loads(body)
        return json.dumps({**error, "message": reason_first(error["message"])}).encode()
    except (ValueError, KeyError, TypeError):
        return body


def main() -> None:
    """Serve until the parent ends."""
    port = int(sys.argv[1])
    threading.Thread(target=end_with_parent, daemon=True).start()
    import uvicorn
    from mlflow.pyfunc.scoring_server.app import app

    uvicorn.run(OwnOriginOnly(ReasonFirst(app), port), host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    main()
