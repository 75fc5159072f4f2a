"""Commands that only look import nothing heavy, and a head that trains nothing needs no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.core.store import Store
from bench.records.files import iter_records

ROOT = Path(__file__).parent.parent
TORCH = ("torch", "torchvision")
HEAVY = (*TORCH, "mlflow", "seaborn", "matplotlib")
_CODE = """
import sys
from bench.cli import main
sys.argv = ["bench", *sys.argv[1:]]
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
loaded = " ".join(name for name in {heavy} if name in sys.modules)
print("code", code, "loaded", loaded, file=sys.stderr)
"""


def _loaded(home: Path, *arguments: str, heavy: tuple[str, ...] = HEAVY) -> str:
    """Which heavy libraries a command has imported in the end; the command must have worked."""
    return _ran(home, *arguments, heavy=heavy)[0]


def _ran(home: Path, *arguments: str, heavy: tuple[str, ...]) -> tuple[str, str]:
    """The same, and what it printed."""
    environment = {**os.environ, "BENCH_HOME": str(home)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(heavy=heavy), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=True,
    )
    code, _, loaded = done.stderr.splitlines()[-1].removeprefix("code ").partition(" loaded ")
    assert code == "0", done.stderr
    return loaded, done.stdout + done.stderr


COMMANDS = (
    *("run", "sweep", "reproduce", "models", "protocols", "speed", "leaderboard", "promote"),
    *("verify", "figures", "registry", "data", "ui", "sync", "doctor"),
)


def test_the_list_of_commands_is_complete() -> None:
    named = {item.name or item.callback.__name__ for item in app.registered_commands}  # type: ignore[union-attr]
    assert {*COMMANDS} == named | {group.name for group in app.registered_groups}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_light(command: str, tmp_path: Path) -> None:
    assert _loaded(tmp_path, command, "--help") == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("leaderboard",),
        ("leaderboard", "--check"),
        ("models",),
        ("protocols",),
        ("registry", "list"),
        ("registry", "show", "fashion_mnist_mini.quick.d8"),
    ],
    ids=" ".join,
)
def test_looking_is_light(arguments: tuple[str, ...]) -> None:
    """On this checkout, whose registry is the committed one; none of these writes anything."""
    assert _loaded(ROOT, *arguments) == ""


def test_the_head_of_a_run_and_of_a_sweep_imports_no_torch(
    store: Store, tiny_protocol: str
) -> None:
    run = ("run", "-p", tiny_protocol, "-m", "fc_ae", "--workers", "1")
    assert _loaded(store.root, *run, heavy=TORCH) == ""
    assert _loaded(store.root, *run, heavy=("torch", "matplotlib", "seaborn")) == ""  # all is there
    assert _loaded(store.root, *run, "--dry-run") == ""
    sweep = ("sweep", "-p", tiny_protocol, "-m", "fc_ae", "--trials", "2", "--workers", "1")
    assert _loaded(store.root, *sweep, heavy=TORCH) == ""
    assert _loaded(store.root, "promote", "-p", tiny_protocol, heavy=TORCH) == ""


def test_with_tracking_off_no_command_knows_mlflow_and_a_later_sync_sends_all(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    tiny, one = ("-p", tiny_protocol), ("--workers", "1")
    for command in (
        ("run", *tiny, "-m", "pca", "-m", "fc_ae", *one),
        ("run", *tiny, "-m", "pca", "-m", "fc_ae", *one),
        ("sweep", *tiny, "-m", "fc_ae", "--trials", "2", *one),
        ("leaderboard", *tiny, "--write"),
    ):
        loaded, said = _ran(store.root, *command, heavy=("mlflow",))
        assert loaded == ""
        for word in ("MLflow", "bench ui", "bench sync"):
            assert word not in said, said
    loaded, said = _ran(store.root, "promote", *tiny, heavy=("mlflow",))
    assert loaded == "" and "becomes champion" in said
    assert said.count("MLflow") == said.count("MLflow's registry was not told") == 1
    assert not list(store.mlruns.glob("*mlflow.db*")) and not list(store.artifacts.iterdir())

    monkeypatch.delenv("BENCH_TRACKING")
    records, trials = len(list(iter_records(store.records))), 2
    assert records >= 3
    for told, known in ((records + trials, 0), (0, records + trials)):
        result = CliRunner().invoke(app, ["sync", "--json"])
        assert json.loads(result.stdout) == {"told": told, "known": known, "missed": 0}
