"""Which process something belongs to, in a text that outlives it; and whether it still lives."""

import os
import socket

import psutil


def owner() -> str:
    """This process, so that `bench doctor` and other heads can tell the living from the dead."""
    return f"{socket.gethostname()}:{os.getpid()}:{int(psutil.Process().create_time())}"


def owner_state(owner: str) -> str:
    """`alive`, `gone` or `elsewhere` (another machine) for HOST:PID:START of a run's process."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    started = owner.rpartition(":")[2]
    if not (host and rest.isdigit() and started.isdigit()):
        return "gone"
    if host != socket.gethostname():
        return "elsewhere"
    try:
        # A number may have been given to another process since.
        same = abs(psutil.Process(int(rest)).create_time() - int(started)) < 2
    except psutil.NoSuchProcess:
        return "gone"
    return "alive" if same else "gone"
