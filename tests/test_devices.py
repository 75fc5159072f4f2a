"""A head names devices and measures speeds without torch of its own."""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.benchmark.forecast import forecast, known_forecast
from bench.benchmark.plan import Request, plan
from bench.core.errors import BadInput, BenchError
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution import devices, stopwatch
from bench.execution.devices import accelerators, resolved_device


def test_devices_are_those_that_torch_sees() -> None:
    assert len(accelerators("cuda")) == torch.cuda.device_count()
    assert bool(accelerators("mps")) == torch.backends.mps.is_available()
    assert resolved_device("cpu") == "cpu"
    if torch.cuda.is_available():
        assert resolved_device("auto") == "cuda"
        assert devices._may_have_accelerator()


def test_torch_is_asked_where_there_may_be_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_may_have_accelerator", lambda: True)
    devices._accelerators.cache_clear()
    try:
        assert len(accelerators("cuda")) == torch.cuda.device_count()
    finally:
        devices._accelerators.cache_clear()


@pytest.mark.parametrize(
    "name", ["cuda:2", "cuda:x", "cuda:", "cuda:-1", "cpu:1", "tpu", "", "mps"]
)
def test_a_device_that_is_not_here_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_accelerators", lambda: {"cuda": ["one", "two"], "mps": []})
    with pytest.raises(BadInput, match="not on this machine"):
        resolved_device(name)


def test_two_gpus_are_named_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_accelerators", lambda: {"cuda": ["one", "two"], "mps": []})
    names = ("auto", "cuda", "cuda:0", "cuda:1")
    assert [resolved_device(name) for name in names] == ["cuda", "cuda", "cuda:0", "cuda:1"]


def test_speeds_are_measured_once_and_said(tiny_protocol: str, store: Store) -> None:
    made = plan(Request(load_protocol(tiny_protocol)), store)
    said: list[str] = []
    cost = forecast(made.specs, made.sizes, store, 2, said.append)
    assert [line.partition(" (")[0].removeprefix("measuring the speed of ") for line in said] == [
        "mean_image at 4",
        "pca at 4",
        "fc_ae at 4",
        "a stack of fc_ae at 4",
    ]
    assert "(3 of 3)" in said[-2] and "(1 of 1)" in said[-1]
    again = forecast(made.specs, made.sizes, store, 2, said.append)
    assert len(said) == 4 and again == cost == known_forecast(made.specs, made.sizes, store, 2)
    assert all(0 < seconds < 600 for seconds in cost.by_run.values())


def test_what_was_measured_before_a_death_is_kept(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(Request(load_protocol(tiny_protocol)), store)
    real = stopwatch.Stopwatch.measure

    def dies(self: stopwatch.Stopwatch, spec: object, sizes: object) -> object:
        if spec is made.specs[-1]:
            self._process.kill()
            self._process.join()
        return real(self, spec, sizes)  # type: ignore[arg-type]

    monkeypatch.setattr(stopwatch.Stopwatch, "measure", dies)
    specs = [made.specs[0], made.specs[-1]]
    with pytest.raises(BenchError, match="died"):
        forecast(specs, made.sizes, store, 1)
    known = json.loads(Path(store.costs).read_text())
    assert [key.split(" | ")[1].split()[0] for key in known] == ["mean_image"]


def test_a_killed_head_leaves_no_process_that_measures() -> None:
    """The process holds the head's output open: whoever reads that would wait for ever."""
    code = (
        "import sys, time; from bench.execution.stopwatch import Stopwatch; "
        "watch = Stopwatch(); print(watch._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as head:
        assert head.stdout is not None
        assert int(head.stdout.readline()) > 0
        head.send_signal(signal.SIGKILL)
        assert head.communicate(timeout=60)[0] == ""


def test_a_fault_while_measuring_is_one_line(tiny_protocol: str, store: Store) -> None:
    made = plan(Request(load_protocol(tiny_protocol), ("fc_ae",)), store)
    nowhere = dataclasses.replace(made.specs[0], device="cuda:77")
    broken = dataclasses.replace(made.specs[0], model="nobody")
    with stopwatch.Stopwatch() as watch:
        with pytest.raises(BadInput, match="cuda:77"):
            watch.measure(nowhere, made.sizes)
        with pytest.raises(BenchError, match="nobody"):
            watch.measure(broken, made.sizes)
        assert watch.measure(made.specs[0], made.sizes)[0] > 0, "it goes on"
