"""Where a record was made: versions, device, code. None of it is part of the identity."""

import platform

import numpy as np
import torch

import bench
from bench.core.spec import RunSpec
from bench.execution.software import running_software


def environment(spec: RunSpec) -> dict[str, str]:
    """Facts outside a run's identity that may explain a difference."""
    software = running_software()
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
        "git_commit": software.commit,
        "bench_digest": software.digest,
    }


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
