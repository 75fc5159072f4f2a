"""Commands of bench in processes forked from one that has imported what they need.

Starting Python and importing torch takes seconds, a fork milliseconds, and a kill or a failed call
means the same to both. Workers of a pool and decoders are forked as well, and close what they
inherited, so that they hear of their head's death and hold no lock of it.
"""

import contextlib
import ctypes
import gc
import importlib
import multiprocessing
import os
import signal
import stat
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.util import _exit_function
from pathlib import Path
from typing import Any

SECRET = "hunter2secret"
"""The password in every address of every try; it must appear nowhere else."""
CLOSED = f"http://ann:{SECRET}@127.0.0.1:9/x?token={SECRET}"
"""An MLflow server that does not answer: nothing listens at the discard port."""
_HEAVY = (
    *("bench.cli", "bench.execution.runner", "bench.registry.promotion", "bench.figures"),
    *("bench.sweep.running", "bench.benchmark.running", "bench.benchmark.doctor"),
    *("bench.tracking.tracker", "bench.tracking.studies", "bench.cli.studies", "optuna", "mlflow"),
    *("bench.registry.verification", "bench.benchmark.reproduction", "matplotlib.pyplot"),
)
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
CRASHED = 70
"""Exit code of a process whose code under test raised what no command may raise."""


def warm_up() -> None:
    """Import what commands need, make pools fork their workers, and keep pictures once drawn."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MPLBACKEND"] = "Agg"
    import torch

    torch.set_num_threads(1)
    for name in _HEAVY:
        importlib.import_module(name)
    from bench.execution import local, stopwatch
    from bench.execution.decoding import _Process
    from tests.warm import fork_decoder, warm_pictures

    warm_pictures()
    _Process.start = fork_decoder  # type: ignore[method-assign]
    fork = types.SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))
    vars(local)["multiprocessing"] = vars(stopwatch)["multiprocessing"] = fork
    for module in (local, stopwatch):
        vars(module)["_work"] = _lean(module._work)
    gc.collect()
    gc.freeze()  # each run collects what it left: not among all that was imported


def _lean(work: Callable[..., None]) -> Callable[..., None]:
    """A worker that keeps of what it inherited only its own pipe."""

    def lean(pipe: Connection, *rest: object) -> None:
        for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            with contextlib.suppress(OSError):
                kind = os.fstat(number).st_mode
                if number > 2 and number != pipe.fileno() and not stat.S_ISFIFO(kind):
                    os.close(number)
        work(pipe, *rest)

    return lean


@dataclass(frozen=True)
class Said:
    """The end of a process: its exit code (minus the signal that killed it) and its output."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        """Everything that a person saw."""
        return self.out + self.err


class Running:
    """A process forked to do some work, in a session of its own."""

    def __init__(
        self, work: Callable[[], int], root: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        self._began = time.monotonic()
        _adopt_orphans()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(work, root, environment or {})

    def _become(self, work: Callable[[], int], root: Path, environment: Mapping[str, str]) -> None:
        code = CRASHED
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _speak_into(self._out.fileno(), self._err.fileno())
            os.environ.update({"BENCH_HOME": str(root), "MLFLOW_TRACKING_URI": CLOSED})
            os.environ.update(environment)
            os.chdir(root)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                _exit_function()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def kill(self, *, group: bool) -> None:
        """SIGKILL to the process alone, or to its workers as well."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = 300.0) -> Said:
        """Its end; whatever still belongs to it is killed then, and after so many seconds."""
        deadline = self._began + seconds
        found = (0, 0)
        while found[0] == 0 and time.monotonic() < deadline:
            found = os.waitpid(self.pid, os.WNOHANG)
            if found[0] == 0:
                time.sleep(0.002)
        late = found[0] == 0
        self.kill(group=True)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1] if late else found[1])
        self._await_group()
        texts = []
        for stream in (self._out, self._err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="backslashreplace"))
            stream.close()
        note = f"\nTraceback: it did not end within {seconds:.0f} s" if late else ""
        return Said(code, texts[0], texts[1] + note, time.monotonic() - self._began)

    def _await_group(self) -> None:
        """Until killed workers are gone, and their locks with them."""
        for _ in range(500):
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-self.pid, os.WNOHANG)[0]:
                    pass
            try:
                os.killpg(self.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(0.002)


def _adopt_orphans() -> None:
    """Become the parent of what a command leaves behind, where Linux can do that: the first process
    of a container buries the dead after a second, or never."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _speak_into(out: int, err: int) -> None:
    """Make these files the standard output and error of this process."""
    quiet = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((quiet, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", closefd=False, encoding="utf-8", errors="backslashreplace")
        for number in (1, 2)
    )


def command(
    arguments: Sequence[str], prepare: Callable[[], object] = lambda: None
) -> Callable[[], int]:
    """`bench ARGUMENTS` as work of a process; `prepare` is called before it."""

    def work() -> int:
        from bench.cli import main

        sys.argv = ["bench", *arguments]
        prepare()
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    return work


def bench(root: Path, *arguments: str, **environment: str) -> Said:
    """The end of `bench ARGUMENTS` in the workspace `root`."""
    return Running(command(arguments), root, environment).wait()


def at_once(
    works: Sequence[Callable[[], int]], root: Path, environment: Mapping[str, str]
) -> list[Said]:
    """The ends of several processes that begin at the same moment."""
    gate = multiprocessing.get_context("fork").Barrier(len(works))

    def waiting(work: Callable[[], int]) -> Callable[[], int]:
        def wait_and_work() -> int:
            gate.wait(60)
            return work()

        return wait_and_work

    running = [Running(waiting(work), root, environment) for work in works]
    return [process.wait() for process in running]


def answer(work: Callable[[], Any], root: Path, **environment: str) -> Any:
    """What `work` returns in a process of its own (plain values)."""
    import pickle

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer"

        def write() -> int:
            path.write_bytes(pickle.dumps(work()))
            return 0

        said = Running(write, root, environment).wait(600)
        if said.code != 0:
            raise RuntimeError(f"exit code {said.code}: {said.text}")
        return pickle.loads(path.read_bytes())
