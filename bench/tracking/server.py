"""MLflow's web interface on this machine: one process, the right store, a clean end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment

import bench
from bench.core.errors import BadInput, BenchError
from bench.core.store import Store
from bench.core.text import without_secrets
from bench.tracking import views
from bench.tracking.address import HOST, Address, find_address, noted_port
from bench.tracking.database import prepared_address

_START_SECONDS, _END_SECONDS = 120.0, 10.0


def experiment_links(store: Store, port: int) -> list[tuple[str, str]]:
    """Name and deep link of every experiment of the suite, newest first.

    Creates the store if missing; raises BadInput if it cannot be used, or if the server at
    `MLFLOW_TRACKING_URI` does not answer or is not MLflow's.
    """
    address = prepared_address(store)
    if reason := address.why_not():
        raise BadInput(
            f"MLflow at {address.shown} does not answer ({reason}); start it, or unset "
            "MLFLOW_TRACKING_URI to open this workspace's own results"
        )
    base = address.shown if address.is_server else f"http://{HOST}:{port}"
    client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
    links = []
    for found in _experiments(client, address):
        # Experiments of searches have both views; their trials are shown.
        for view in (views.TRIALS, views.LEADERBOARD):
            if f"{views.VIEW_TAG}{view}" in found.tags:
                links.append((found.name, views.deep_link(base, found.experiment_id, view)))
                break
    return links


def _experiments(client: MlflowClient, address: Address) -> list[Experiment]:
    try:
        return list(client.search_experiments(order_by=["last_update_time DESC"]))
    except Exception as error:  # a foreign answer fails in as many ways as there are answers
        if address.database:
            raise
        reason = without_secrets(" ".join(str(error).split()))[:200]
        raise BadInput(
            f"{address.shown} does not answer as an MLflow server ({reason}); correct "
            "MLFLOW_TRACKING_URI, or unset it"
        ) from None


def is_elsewhere(store: Store) -> bool:
    """Whether `MLFLOW_TRACKING_URI` names a server that is already running."""
    return find_address(store).is_server


def check_port(port: int) -> None:
    """Raise BadInput if the port is taken or not permitted."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BadInput(
                f"port {port} on {HOST} cannot be used ({error.strerror}); give another one with "
                "--port, or open the interface that is running there already"
            ) from None


@contextlib.contextmanager
def serving(store: Store, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """MLflow's server on the workspace's store, once it answers; ended with all its children.

    Its output goes to `mlruns/ui.log`. Raises BenchError if it does not start.
    """
    address = prepared_address(store)
    log = store.mlruns / "ui.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            _command(port),
            stdin=subprocess.PIPE,  # closes with this process: see interface.py
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=_environment(address, store),
            cwd=store.mlruns,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, port, log)
        with noted_port(store, port):
            yield server
    finally:
        end_server(server)


def _command(port: int) -> list[str]:
    return [sys.executable, "-m", "bench.tracking.interface", str(port)]


def _environment(address: Address, store: Store) -> dict[str, str]:
    """Our environment, with the store's address: any user of the machine can read arguments."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI",)}
    return {
        **kept,
        # The server runs in another folder, where a source checkout would not be found.
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(Path(bench.__file__).parent.parent), os.environ.get("PYTHONPATH")))
        ),
        "MLFLOW_BACKEND_STORE_URI": address.uri,
        "MLFLOW_ARTIFACTS_DESTINATION": store.artifacts.as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _wait_until_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    here = Address(f"http://{HOST}:{port}")
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        if not here.why_not():
            return
        time.sleep(0.3)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise BenchError(f"MLflow's server did not start: {lines[-1] if lines else ''} (see {log})")


def end_server(server: "subprocess.Popen[bytes]") -> None:
    """End the process and whatever it started: its whole process group."""
    if os.name == "nt":
        server.terminate()
        server.wait()
        return
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_END_SECONDS)
    # What it started may briefly outlive it.
