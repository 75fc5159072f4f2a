"""Commands that only look import nothing heavy, and a head that trains nothing needs no torch."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from one_process import run_all
from typer.testing import CliRunner

from bench.cli import app
from bench.core.store import Store
from bench.records.files import iter_records

ROOT = Path(__file__).parent.parent
TORCH = ("torch", "torchvision")
HEAVY = (*TORCH, "mlflow", "seaborn", "matplotlib")
Commands = Sequence[Sequence[str]]


def _loaded(home: Path, commands: Commands, heavy: tuple[str, ...] = HEAVY) -> str:
    """Which heavy libraries a process has imported after the commands; each must have worked."""
    return _ran(home, commands, heavy)[0]


def _ran(home: Path, commands: Commands, heavy: tuple[str, ...]) -> tuple[str, str]:
    """The same, and what they printed."""
    ended = run_all(commands, heavy, BENCH_HOME=str(home))
    assert not any(ended.codes), ended.said
    return ended.loaded, ended.said


COMMANDS = (
    *("run", "sweep", "reproduce", "models", "protocols", "speed", "leaderboard", "promote"),
    *("verify", "figures", "report", "simulate-ranks", "registry", "data", "ui", "sync", "doctor"),
    *("compare", "encode", "reconstruct", "anomaly", "interpolate", "sample", "export", "serve"),
    *("features", "conform"),
)


def test_the_list_of_commands_is_complete() -> None:
    named = {item.name or item.callback.__name__ for item in app.registered_commands}  # type: ignore[union-attr]
    assert {*COMMANDS} == named | {group.name for group in app.registered_groups}


def test_help_is_light(tmp_path: Path) -> None:
    assert _loaded(tmp_path, [(command, "--help") for command in COMMANDS]) == ""


def test_looking_is_light() -> None:
    """On this checkout, whose registry is the committed one; none of these writes anything."""
    looking = (
        ("leaderboard",),
        ("leaderboard", "--check"),
        ("models",),
        ("protocols",),
        ("registry", "list"),
        ("features", "list"),
        ("registry", "show", "fashion_mnist_mini.quick.d8"),
    )
    assert _loaded(ROOT, looking) == ""


def test_the_head_of_a_run_and_of_a_sweep_imports_no_torch(
    told_store: Store, tiny_protocol: str
) -> None:
    store = told_store
    run = ("run", "-p", tiny_protocol, "-m", "fc_ae", "--seed", "0", "--workers", "1")
    sweep = ("sweep", "-p", tiny_protocol, "-m", "fc_ae", "--trials", "2", "--workers", "1")
    promote = ("promote", "-p", tiny_protocol)
    commands = ((*run, "--dry-run"), run, sweep, promote)
    ended = run_all(commands, HEAVY, BENCH_HOME=str(store.root))
    assert not any(ended.codes), ended.said
    assert ended.each[0] == ""
    assert not {*ended.loaded.split()} & {*TORCH}
    assert _loaded(store.root, (run,), (*TORCH, "matplotlib", "seaborn")) == ""  # all is there


@pytest.mark.slow(minutes=0.5)
def test_with_tracking_off_no_command_knows_mlflow_and_a_later_sync_sends_all(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    tiny, one = ("-p", tiny_protocol), ("--workers", "1")
    run = ("run", *tiny, "-m", "pca", "-m", "fc_ae", *one)
    sweep = ("sweep", *tiny, "-m", "fc_ae", "--trials", "2", *one)
    promote = ("promote", *tiny)
    commands = (run, run, sweep, ("leaderboard", *tiny, "--write"), promote)
    loaded, said = _ran(store.root, commands, ("mlflow",))
    assert loaded == ""
    assert "bench ui" not in said and "bench sync" not in said, said
    assert "becomes champion" in said
    assert said.count("MLflow") == said.count("MLflow's registry was not told") == 1
    assert not list(store.mlruns.glob("*mlflow.db*")) and not list(store.artifacts.iterdir())

    monkeypatch.delenv("BENCH_TRACKING")
    records, trials = len(list(iter_records(store.records))), 2
    assert records >= 3
    for told, known in ((records + trials, 0), (0, records + trials)):
        result = CliRunner().invoke(app, ["sync", "--json"])
        assert json.loads(result.stdout) == {"told": told, "known": known, "missed": 0}
