"""What takes seconds is done once per test process: importing torch, making tables, drawing.

Workers, and the processes that decode for them, are forked from a process that has imported torch
and seen no image. They are processes of their own as the real ones are, with their own pipe,
signals and end. MLflow's tables are copied. Tests that start `python -m bench` have the real ones;
what is scored in a test process itself is decoded by a real one too.
"""

import contextlib
import functools
import gc
import io
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.core.spec import RunRecord
from bench.execution import local, stopwatch
from bench.records.files import Arrays
from bench.tracking import database

if TYPE_CHECKING:
    from bench.execution.decoding import _Process

_IMPORTED = ["bench.execution.runner", "bench.execution.speeds", "bench.execution.memory"]


class _Warm:
    """What `multiprocessing.get_context("spawn")` returns, as far as pools need it."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_IMPORTED)
        self.Pipe = self._context.Pipe

    def Process(
        self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool
    ) -> ForkServerProcess:
        given = (dict(os.environ), target, args)
        return self._context.Process(target=_work, args=given, daemon=daemon)


def _work(environment: Mapping[str, str], target: Callable[..., None], args: tuple[Any]) -> None:
    """Do the work in the environment of the process that asked for it."""
    os.environ.clear()
    os.environ.update(environment)
    gc.freeze()  # a run collects what it left, not among all that was imported
    _warm_decoder()
    target(*args)


def _warm_decoder() -> None:
    """Fork the decoder of this worker now, before an image is read."""
    from bench.execution.decoding import _Process  # imports torch, which heads must not do

    def start() -> _Process:
        _Process.start = real  # type: ignore[method-assign]
        return waiting

    real, waiting = _Process.start, fork_decoder()
    _Process.start = start  # type: ignore[method-assign]


def fork_decoder() -> "_Process":
    """A decoder forked from this process; of the open files it keeps only its end of the pipe."""
    from bench.execution.decoding import _Process, serve

    ours, theirs = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            kept = theirs.fileno()
            os.closerange(3, kept)
            os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
            serve(kept)
        finally:
            os._exit(0)
    theirs.close()
    return _Process(ours, cast("Any", _Forked(pid)), io.BytesIO())


class _Forked:
    """What is asked of a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._code: int | None = None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def poll(self) -> int | None:
        if self._code is None:
            with contextlib.suppress(ChildProcessError):
                ended, status = os.waitpid(self._pid, os.WNOHANG)
                self._code = os.waitstatus_to_exitcode(status) if ended else None
        return self._code

    def wait(self, timeout: float = 5.0) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("the decoder", timeout)
            time.sleep(0.002)
        return code


class _Multiprocessing:
    def __init__(self) -> None:
        self._warm = _Warm()

    def get_context(self, _: str) -> _Warm:
        return self._warm


def warm_workers() -> None:
    """Fork the workers that this process starts from now on."""
    vars(local)["multiprocessing"] = vars(stopwatch)["multiprocessing"] = _Multiprocessing()


_create_tables = database._create_tables


@functools.cache
def _tables() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """The folder, removed with the process, and the file in it."""
    folder = tempfile.TemporaryDirectory(prefix="bench-tables-")
    path = Path(folder.name) / "mlflow.db"
    _create_tables(path, path.parent)
    return folder, path


def _copy_tables(path: Path, artifacts: Path) -> None:
    shutil.copyfile(_tables()[1], path)
    with contextlib.closing(sqlite3.connect(path)) as opened, opened:
        place = f"{artifacts.as_uri()}/0"
        opened.execute("UPDATE experiments SET artifact_location = ?", (place,))


def warm_tables() -> None:
    """Copy MLflow's tables where this process would make them from now on."""
    vars(database)["_create_tables"] = _copy_tables


def warm_pictures() -> None:
    """Draw each kind of figure of a run once per process, from now on: later runs get that picture.

    This serves what MLflow and champions store. What a picture shows, and what cannot be drawn, is
    tested where figures are drawn (`draw_files.__wrapped__` is the real function).
    """
    from bench import figures

    draw_files, known = figures.draw_files, dict[str, bytes]()

    @functools.wraps(draw_files)
    def drawn_once(record: RunRecord, arrays: Arrays) -> dict[str, bytes]:
        wanted = [row.id for row in figures.FIGURES.values() if row.can_draw(record, arrays)]
        if not known.keys() >= {*wanted}:
            known.update(draw_files(record, arrays))
        return {name: known[name] for name in wanted if name in known}

    vars(figures)["draw_files"] = drawn_once
