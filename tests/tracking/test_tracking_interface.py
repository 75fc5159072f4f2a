"""`bench ui`: its server ends with it, however that is, and serves its own pages only."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.core.store import Store
from bench.tracking.versions import with_pictures_of

ROOT = Path(__file__).parent.parent.parent
SEARCH = "/api/2.0/mlflow/experiments/search"


def _status(port: int, headers: dict[str, str], path: str = SEARCH, body: bytes = b"{}") -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body or None)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def opened(store: Store) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """A `bench ui` that answers: its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bench", "ui", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            break
        except OSError:
            time.sleep(0.2)
    yield port, process
    process.kill()
    process.wait()


def test_only_its_own_pages_and_it_ends_with_its_parent(
    opened: tuple[int, "subprocess.Popen[str]"],
) -> None:
    port, process = opened
    own = f"127.0.0.1:{port}"
    for origin in (None, f"http://{own}"):
        body = b'{"max_results": 1}'
        assert _status(port, {"Origin": origin} if origin else {}, body=body) == 200
    local = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert _status(port, local, body=b'{"max_results": 1}') == 200
    for origin in (
        f"http://127.0.0.1:{port + 1}",
        "http://localhost:8888",
        "http://[::1]:8888",
        f"https://{own}",
        "null",
        "http://evil.example",
    ):
        assert _status(port, {"Origin": origin}) == 403, origin
    for host in ("evil.example", f"10.evil.example:{port}", "127.0.0.1"):
        assert _status(port, {"Host": host}) == 403, host
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=2)


@pytest.mark.parametrize(
    ("desktop", "terminal", "options", "opens"),
    [
        ({"DISPLAY": ":0"}, True, (), True),
        ({"DISPLAY": ":0"}, True, ("--no-browser",), False),
        ({"DISPLAY": ":0"}, False, (), False),  # in a script
        ({}, True, (), False),  # a browser of text would take the terminal
    ],
)
def test_the_browser_opens_at_the_ready_view_where_there_is_a_screen(
    desktop: dict[str, str],
    terminal: bool,
    options: tuple[str, ...],
    opens: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in desktop.items():
        monkeypatch.setenv(name, value)
    shown: list[str] = []
    link = "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=leaderboard"
    monkeypatch.setattr("bench.tracking.server.experiment_links", lambda *_: [("quick", link)])
    monkeypatch.setattr("bench.tracking.server.is_elsewhere", lambda _: True)
    monkeypatch.setattr("webbrowser.open", shown.append)
    monkeypatch.setattr("bench.cli.ui._is_terminal", lambda: terminal)
    done = CliRunner().invoke(app, ["ui", *options])
    assert done.exit_code == 0 and link in done.output
    assert shown == [link] * opens


def test_pictures_of_a_card_are_those_of_its_run() -> None:
    text = with_pictures_of("ab12", "# A card\n![](loss_curves.png) and [a page](other.md)")
    place = "get-artifact?path=figures%2Floss_curves.png&run_uuid=ab12"
    assert text == f"# A card\n![]({place}) and [a page](other.md)"
