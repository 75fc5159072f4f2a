"""What large images need of memory is said, and refused where it is not there."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.benchmark import memory
from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.protocol import load_protocol
from bench.core.spec import SplitSizes
from bench.core.store import Store
from bench.data import load_set
from bench.execution.memory import needed_bytes
from bench.models.zoo import MODELS
from bench.records.files import iter_records

SIDE = 112


@pytest.fixture
def large(tmp_path: Path) -> str:
    """Forty real images, four times as wide and as high, in three channels."""
    images = load_set("fashion_mnist_mini").parts["train"].images[:40]
    wide = images.repeat(SIDE // 28, axis=2).repeat(SIDE // 28, axis=3).repeat(3, axis=1)
    np.savez(tmp_path / "large.npz", x_train=np.moveaxis(wide, 1, 3))
    return f"npz:{tmp_path / 'large.npz'}"


def _free(monkeypatch: pytest.MonkeyPatch, gibibytes: float) -> None:
    free = SimpleNamespace(available=int(gibibytes * 2**30))
    monkeypatch.setattr(memory, "psutil", SimpleNamespace(virtual_memory=lambda: free))


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (0.5, ["needs about", "GiB of memory", "512.0 MiB are free", "--image-size"]),
        (3.5, ["with 2 workers", "3.5 GiB are free", "use --workers 1, or"]),
    ],
)
def test_runs_that_do_not_fit_are_refused_with_figures_before_training(
    large: str, store: Store, monkeypatch: pytest.MonkeyPatch, free: float, words: list[str]
) -> None:
    _free(monkeypatch, free)
    command = ["run", "--dataset", large, "--model", "deep_ae", "--workers", "2", "-d", "8"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert all(word in line for word in [f"3x{SIDE}x{SIDE}", "deep_ae d=8", *words])
    assert not list(iter_records(store.records))


def test_what_is_needed_is_in_the_plan_of_large_images(
    large: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(Request(load_protocol("own"), ("fc_ae",), (8,), dataset=large), store)
    _free(monkeypatch, 64)
    needs = memory.require_memory(made.missing, made.sizes, 2)
    assert needs.endswith("GiB of memory are needed, 64.0 GiB are free")


def test_small_images_are_planned_without_a_look_at_the_memory(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _free(monkeypatch, 0)
    made = plan(Request(load_protocol(tiny_protocol)), store)
    assert memory.require_memory(made.missing, made.sizes, 8) == ""


@pytest.mark.parametrize("model", MODELS)
def test_every_variant_takes_more_for_larger_images_and_batches(model: str, store: Store) -> None:
    """What is not looked at takes little more than a gigabyte, with the process that decodes."""
    task = MODELS[model].tasks[0]
    protocol = load_protocol("quick" if task == "reconstruction" else "classifier_quick")
    (spec, *_) = plan(Request(protocol, (model,)), store).specs
    small, large = (
        needed_bytes(spec, SplitSizes(100, 20, 20, (3, side, side), 10)) for side in (32, 64)
    )
    assert small < large
    assert small < 1.4 * 2**30


MEASURED = """
import dataclasses, sys
import psutil
from bench.benchmark.plan import Request, plan
from bench.core.protocol import load_protocol
from bench.core.store import open_store
from bench.execution import decoding
from bench.execution.memory import needed_bytes
from bench.execution.runner import execute, ignore_epochs
store = open_store().prepare()
own = load_protocol("own")
brief = dataclasses.replace(own, train=dataclasses.replace(own.train, steps=3))
made = plan(Request(brief, (sys.argv[2],), (8,), dataset=sys.argv[1], seeds=(0,)), store)
execute(made.specs[0], store, ignore_epochs)
# Not ru_maxrss: a child starts with the peak of the process that made it.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
decoder = psutil.Process(decoding._process().process.pid).memory_full_info().uss
print(needed_bytes(made.specs[0], made.sizes), int(peak.split()[1]) + decoder // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pca", "fc_ae", "cnn_ae"])
def test_the_estimate_bounds_what_a_process_takes(large: str, store: Store, model: str) -> None:
    out = subprocess.check_output([sys.executable, "-c", MEASURED, large, model], text=True)
    estimated, kibibytes = map(int, out.split())
    assert 0.4 * estimated < 1024 * kibibytes < 1.1 * estimated


MiB = 2**20
HEAD, WORKER = 500 * MiB, 650 * MiB
"""Of the command, and of a worker above `import torch`, for a dense variant of `quick`. Workers of
the same run took 380 to 540 MB above it."""


def _peaks(command: list[str]) -> tuple[int, int]:
    """The peak resident memory in bytes of a command, and of the largest of its workers."""
    seen: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as head:
        while head.poll() is None:
            with contextlib.suppress(OSError, IndexError):  # one of them has just ended
                started = Path(f"/proc/{head.pid}/task/{head.pid}/children").read_text()
                for process in (head.pid, *map(int, started.split())):
                    words = Path(f"/proc/{process}/cmdline").read_bytes()
                    said = Path(f"/proc/{process}/status").read_text()
                    # Between fork and exec a process has the memory of its parent.
                    if command[-1].encode() in words if process == head.pid else b"spawn" in words:
                        seen[process] = 1024 * int(said.split("VmHWM:")[1].split()[0])
            time.sleep(0.05)
    assert head.returncode == 0
    return seen.pop(head.pid), max(seen.values(), default=0)


@pytest.mark.slow(minutes=1)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' /proc")
def test_the_command_and_its_workers_stay_small(store: Store) -> None:
    torch_alone, _ = _peaks([sys.executable, "-c", "import torch, time; time.sleep(0.3)"])
    asked = ["run", "--model", "fc_ae", "-d", "32", "--seed", "0", "--workers", "1"]
    head, worker = _peaks([sys.executable, "-m", "bench", *asked])
    assert head < HEAD, f"{head / MiB:.0f} MiB"
    assert torch_alone < worker < torch_alone + WORKER, f"{(worker - torch_alone) / MiB:.0f} MiB"
