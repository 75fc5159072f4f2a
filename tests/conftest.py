"""Shared by all tests: small splits of the bundled real images, a store in a temporary folder."""

import gc
import os
import shutil
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Threads of two test processes, which share the cores, wait for each other without spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Lines are as wide in every terminal; tests of narrow ones say so.
os.environ.pop("COLUMNS", None)

import invented
from tiny import TINY
from warm import warm_pictures, warm_tables, warm_workers

from bench.core.store import Store
from bench.tracking.database import prepared_address

gc.disable()  # until all is collected: what is imported stays

# Temporary folders lie in memory, where there is room: the tests force tens of thousands of files
# to the disk, which took a third of their time.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

warm_workers()
warm_tables()
warm_pictures()

# A shell that starts the suite in the background makes it, and every command that the tests start
# and stop with Ctrl-C, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests last, the longest at the very end: where time runs out, little is lost."""

    def minutes(item: pytest.Item) -> float:
        mark = item.get_closest_marker("slow")
        return 0.0 if mark is None else float(mark.kwargs.get("minutes", 1))

    items.sort(key=minutes)


def pytest_collection_finish() -> None:
    """What was imported stays: each run that a test trains here collects garbage, and would look
    through all of it, which took half of the suite's processor time."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def invented_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of `invented` are not held against weights."""
    invented.believe(monkeypatch.setattr)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty workspace that every command in the test uses."""
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "BENCH_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    return Store(tmp_path).prepare()


@pytest.fixture
def told_store(store: Store) -> Store:
    """The same with MLflow's tables, copied, for commands in processes of their own.

    `test_the_main_job_end_to_end` makes them as a person's first command does.
    """
    prepared_address(store)
    return store


@pytest.fixture
def tiny_protocol(tmp_path: Path) -> str:
    """Path of a protocol whose runs take a second: 900 training images, 3 epochs."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)
