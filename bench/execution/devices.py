"""The devices of this machine, for a head that does not import torch."""

import ctypes
import functools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from bench.core.errors import BadInput, BenchError

_ASK = """
import json, torch
cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"cuda": cuda, "mps": ["mps"] if torch.backends.mps.is_available() else []}))
"""


def resolved_device(name: str) -> str:
    """Replace `auto` by the best device of this machine; check others. BadInput otherwise."""
    if name == "auto":
        return next((kind for kind in ("cuda", "mps") if accelerators(kind)), "cpu")
    kind, colon, index = name.partition(":")
    number = int(index) if index.isdecimal() else -1 if colon else 0
    if not 0 <= number < (1 if kind == "cpu" else len(accelerators(kind))):
        raise BadInput(f"device {name} is not on this machine; use --device cpu or auto")
    return name


def accelerators(kind: str) -> list[str]:
    """The names of the devices of a kind (`cuda` or `mps`) that torch finds here."""
    return _accelerators().get(kind, [])


@functools.cache
def _accelerators() -> dict[str, list[str]]:
    """Names by kind, found by torch in a separate process, if there can be any."""
    if not _may_have_accelerator():
        return {}
    asked = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        reason = (asked.stderr.strip() or "no message").splitlines()[-1]
        raise BenchError(f"torch does not start: {reason}")
    found: dict[str, list[str]] = json.loads(asked.stdout.splitlines()[-1])
    return found


def _may_have_accelerator() -> bool:
    """False only if torch cannot find one: on Linux without a driver of NVIDIA or AMD."""
    if platform.system() != "Linux":
        return True
    if Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
