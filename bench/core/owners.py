"""Process identifiers that can be stored, and whether such a process is still running."""

import os
import socket

import psutil


def owner() -> str:
    """This process as HOST:PID:START, so that others can check whether it still runs."""
    return f"{socket.gethostname()}:{os.getpid()}:{int(psutil.Process().create_time())}"


def owner_state(owner: str) -> str:
    """`alive`, `gone` or `elsewhere` (on another machine) for an `owner` text HOST:PID:START."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    started = owner.rpartition(":")[2]
    if not (host and rest.isdigit() and started.isdigit()):
        return "gone"
    if host != socket.gethostname():
        return "elsewhere"
    try:
        # The process id may have been reused since.
        same = abs(psutil.Process(int(rest)).create_time() - int(started)) < 2
    except psutil.NoSuchProcess:
        return "gone"
    return "alive" if same else "gone"
