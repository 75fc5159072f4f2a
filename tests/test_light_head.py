"""Commands that only look import nothing heavy, and a head that trains nothing needs no torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.store import Store

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
    return loaded


COMMANDS = (
    *("run", "sweep", "reproduce", "models", "protocols", "speed", "leaderboard", "promote"),
    *("verify", "figures", "registry", "data", "ui", "sync", "doctor"),
)


def test_the_list_of_commands_is_complete() -> None:
    from bench.cli import app

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
