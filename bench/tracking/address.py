"""The address of the MLflow store, and whether it answers. Nothing here imports mlflow."""

import contextlib
import http.client
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from bench.core.errors import BadInput
from bench.core.owners import owner, owner_state
from bench.core.paths import given_path
from bench.core.store import Store, write_atomically
from bench.core.text import require_hidden, without_secrets

_SQLITE, _SQLITE_DRIVER = "sqlite:///", "sqlite+pysqlite:///"
_PROBE_SECONDS = 1.5
HOST, DEFAULT_PORT = "127.0.0.1", 5000
"""Where `bench ui` serves MLflow's web interface."""


@dataclass(frozen=True)
class Address:
    """An MLflow tracking address. `database` is its file if it is a local SQLite store."""

    uri: str
    database: Path | None = None

    @property
    def shown(self) -> str:
        """The address for readers, without its secrets."""
        return without_secrets(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether it is an MLflow server, which stores the artifacts itself."""
        return self.uri.startswith(("http://", "https://"))

    def why_not(self) -> str:
        """Why a server does not answer, in a few words; empty if it does or if it is a file.

        Takes 1.5 seconds at most, short enough to call during training.
        """
        if not self.is_server:
            return ""
        parts = urlsplit(self.uri)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.netloc.rpartition("@")[2], timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/health")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException, ValueError) as error:
            return without_secrets(str(error)) or type(error).__name__
        finally:
            connection.close()
        return f"it answers {status}" if status >= 500 else ""


def find_address(store: Store) -> Address:
    """`MLFLOW_TRACKING_URI`, else `mlruns/mlflow.db` of the workspace; always absolute.

    Raises BadInput for an address that MLflow no longer supports (a folder).
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not given:
        return local_address(store.mlruns / "mlflow.db")
    if given.startswith((_SQLITE, _SQLITE_DRIVER)):
        path = unquote(given.partition(":///")[2])
        return local_address(given_path(path, "MLFLOW_TRACKING_URI").resolve())
    if "://" in given:
        require_hidden(given, "MLFLOW_TRACKING_URI")
    if given.startswith(("http://", "https://", "postgresql", "mysql", "mssql", "databricks")):
        _check_port(given)
        return Address(given)
    raise BadInput(
        f"MLFLOW_TRACKING_URI is {without_secrets(given)!r}; expected sqlite:///FILE, "
        "postgresql://... or http(s)://... (MLflow no longer keeps runs in a folder); unset it "
        "to use mlruns/mlflow.db"
    )


def _check_port(uri: str) -> None:
    """Refuse an address that would be split in the middle of its password, which later errors
    would then quote as a port."""
    try:
        urlsplit(uri).port  # noqa: B018  (raises for anything but a number)
    except ValueError:
        raise BadInput(
            "MLFLOW_TRACKING_URI: its port is not a number; write special characters of a user or "
            "password as %XX (%2F for /, %40 for @)"
        ) from None


def local_address(database: Path) -> Address:
    """The address of a SQLite file with the given absolute path.

    What has a meaning in addresses is written as %XX, as SQLAlchemy reads it.
    """
    path = database.as_posix()
    escaped = re.sub("[%?#]", lambda sign: quote(sign.group(), safe=""), path)
    # For an address that begins with sqlite:/// MLflow makes a folder whose name has the escapes.
    return Address(f"{_SQLITE if escaped == path else _SQLITE_DRIVER}{escaped}", database)


def interface_address(store: Store) -> str:
    """The address of `bench ui` on this workspace: with the port of the one that is running, else
    the default port."""
    try:
        noted, who = _port_file(store).read_text().split()
        port = int(noted) if owner_state(who) == "alive" else DEFAULT_PORT
    except (OSError, ValueError):
        port = DEFAULT_PORT
    return f"http://{HOST}:{port}"


def experiments_page(base: str) -> str:
    """The list of all experiments in MLflow's model-training mode: its plain address opens the one
    for language models."""
    return f"{base.rstrip('/')}/#/experiments?workflowType=machine_learning"


@contextlib.contextmanager
def noted_port(store: Store, port: int) -> Iterator[None]:
    """While `bench ui` runs, links that other commands print carry its port."""
    write_atomically(_port_file(store), f"{port} {owner()}".encode())
    try:
        yield
    finally:
        _port_file(store).unlink(missing_ok=True)


def _port_file(store: Store) -> Path:
    return store.mlruns / "ui.port"
