"""A PostgreSQL server of its own for a test, from Debian's package, in a temporary folder."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_USER = "postgres"


@dataclass(frozen=True)
class Server:
    """A running server; `folder` holds its data."""

    binaries: Path
    folder: Path
    port: int

    @property
    def address(self) -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{_USER}"

    def control(self, *arguments: str) -> None:
        """Run pg_ctl and wait for what it was asked for."""
        log = self.folder / "log"
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        command = [str(self.binaries / "pg_ctl"), "-D", str(self.folder / "data"), "-w"]
        _as_user([*command, "-l", str(log), "-o", options, *arguments])

    def restart(self) -> None:
        """End it as a power cut would, and start it again."""
        self.control("-m", "immediate", "restart")


def _as_user(command: list[str]) -> None:
    """PostgreSQL refuses to run as root."""
    prefix = ["runuser", "-u", _USER, "--"] if os.getuid() == 0 else []
    subprocess.run([*prefix, *command], check=True, capture_output=True, cwd="/", timeout=120)


def binaries() -> Path | None:
    """Where PostgreSQL's programs are; on Debian they are not on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        return None
    return found[-1].parent if found else Path(str(on_path)).parent


def why_not() -> str:
    """Why no server can be started here; "" if one can."""
    if binaries() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser"
    return ""


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """A fresh, empty server on a free port, ended and removed afterwards."""
    reason = why_not()
    if reason and os.environ.get("BENCH_REQUIRE_FULL_DATA"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    place = binaries()
    assert place is not None
    # Not pytest's folder: that one belongs to its user alone.
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, _USER)
        data = str(folder / "data")
        _as_user([str(place / "initdb"), "-D", data, "-U", _USER, "-A", "trust", "--no-sync"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = Server(place, folder, port)
        server.control("start")
        try:
            yield server
        finally:
            server.control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
