"""What takes seconds is done once per test process: importing torch, making tables, drawing.

Workers, and the processes that decode for them, are forked from a process that has imported torch
and seen no image. They are processes of their own as the real ones are, with their own pipe,
signals and end. MLflow's tables are copied. Tests that start `python -m bench` have the real ones;
what is scored in a test process itself is decoded by a real one too.
"""

import contextlib
import functools
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess, ForkServerProcess
from pathlib import Path
from typing import Any, cast

from bench.core.spec import RunRecord
from bench.execution import local, stopwatch
from bench.records.files import Arrays
from bench.tracking import database

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
    _warm_decoder(args)
    target(*args)


def _warm_decoder(held: Iterable[object]) -> None:
    """Fork the decoder of this worker now, before an image is read; `held`: what is not for it."""
    from bench.execution.decoding import _Process, serve  # imports torch, which heads must not do

    def decode() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for end in (ours, *held):
            if isinstance(end, Connection):
                end.close()
        serve(os.dup(theirs.fileno()))

    def start() -> _Process:
        _Process.start = real  # type: ignore[method-assign]
        return _Process(ours, cast("Any", _Forked(process)), tempfile.TemporaryFile())

    # A worker is a daemon, which may start none: its decoder ends with it, or with its pipe.
    vars(multiprocessing.current_process())["_config"]["daemon"] = False
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=decode, daemon=True)
    process.start()
    theirs.close()
    real = _Process.start
    _Process.start = start  # type: ignore[method-assign]


class _Forked:
    """What is asked of a `subprocess.Popen`."""

    def __init__(self, process: ForkProcess) -> None:
        self._process = process
        self.kill = process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("the decoder", timeout or 0.0)
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
