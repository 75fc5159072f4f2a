"""Where a record was made: versions, device, commit. None of it is part of the identity."""

import functools
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import bench
from bench.core.spec import RunSpec


def environment(spec: RunSpec) -> dict[str, str]:
    """Facts outside a run's identity that may explain a difference."""
    return {
        "bench": bench.__version__,
        # Plain text: torch's own class would make every reader of the record import torch.
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": _device_name(spec.device),
        "threads": str(spec.threads),
        "git_commit": git_commit(),
    }


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


@functools.cache
def git_commit() -> str:
    """The commit of the running code, with `+` if it was changed since; empty without git."""
    here = Path(bench.__file__).resolve().parent
    ask: Callable[..., subprocess.CompletedProcess[str]] = functools.partial(
        subprocess.run, cwd=here, capture_output=True, text=True, check=False
    )
    try:
        commit = ask(["git", "rev-parse", "--short=12", "HEAD"])
        changed = ask(["git", "status", "--porcelain", "--", "."])
    except OSError:
        return ""
    if commit.returncode:
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
