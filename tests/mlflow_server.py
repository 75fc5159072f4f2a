"""An MLflow server as several heads share it, for tests: started, stopped dead, started again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.core.store import Store
from bench.tracking.address import local_address
from bench.tracking.database import prepare_database


class MlflowServer:
    """A server with its own store in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        store = Store(folder).prepare()
        self._database = store.mlruns / "mlflow.db"
        prepare_database(self._database, store.artifacts)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._port)]
        command += ["--backend-store-uri", local_address(self._database).uri, "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
                cwd=self._folder,
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.address}/health", timeout=2).close()
                return
            time.sleep(0.5)
        raise AssertionError((self._folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        """End it and all of its children at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None


@contextlib.contextmanager
def running_mlflow(folder: Path) -> Iterator[MlflowServer]:
    """A server that answers; gone afterwards."""
    folder.mkdir()
    server = MlflowServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
