"""The boundary for errors that no code foresaw: one line for the reader, a log for the report."""

import os
import sys
import time
import traceback

from bench.cli import console
from bench.core.errors import BenchError
from bench.core.store import open_store, write_atomically
from bench.core.text import without_secrets

_DEBUG = "BENCH_DEBUG"


def explain(error: Exception) -> str:
    """One line for an unforeseen error.

    Its traceback, without secrets, goes to a file in `mlruns/logs/`, and with BENCH_DEBUG=1 to
    stderr as well.
    """
    trace = without_secrets("".join(traceback.format_exception(error)))
    if os.environ.get(_DEBUG, "") not in ("", "0"):
        console.say(trace)
    line = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
    return f"unexpected error: {line}; {_logged(trace)}"


def _logged(trace: str) -> str:
    """Write the log; say where it is, or why there is none."""
    command = without_secrets(" ".join(sys.argv))
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        path = open_store().mlruns / "logs" / f"error-{stamp}.log"
        write_atomically(path, f"{command}\n\n{trace}".encode(errors="backslashreplace"))
    except (OSError, BenchError) as error:
        return f"no log could be written ({error}); {_DEBUG}=1 shows the traceback"
    return f"the traceback is in {path} (please report it)"
