"""The committed results are what the committed code makes: `make leaderboard`, without make."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.protocol import load_protocol
from bench.core.store import Store

ROOT = Path(__file__).parent.parent


def _bench(*arguments: str) -> str:
    """Run a command that must succeed; what it said on both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _files(folder: Path) -> dict[str, bytes]:
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in [folder / "README.md", *(folder / "registry").rglob("*")]
        if path.is_file()
    }
    assert "registry/results.csv" in found
    return found


@pytest.mark.slow(minutes=15)
def test_the_main_job_reproduces_the_committed_table_and_changes_nothing(store: Store) -> None:
    shutil.copytree(ROOT / "registry", store.registry)
    shutil.copy(ROOT / "README.md", store.root)
    before = _files(store.root)
    protocol = load_protocol("quick")
    _bench("run", "--protocol", protocol.name)
    said = _bench("leaderboard", "--protocol", protocol.name, "--write")
    said += _bench("promote", "--protocol", protocol.name)
    runs = len(list(store.records.iterdir()))
    assert f"reproduced {runs} of {runs} rows" in said
    assert _files(store.root) == before
    assert "0 trained" in _bench("run", "--protocol", protocol.name)
