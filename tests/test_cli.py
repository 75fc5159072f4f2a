"""The command as a person meets it: end to end with a real store, and every mistake in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bench.benchmark.plan import Request, plan
from bench.cli import app, console, main
from bench.core.protocol import load_protocol
from bench.core.store import Store, open_store
from bench.records.files import iter_records

ROOT = Path(__file__).parent.parent


def bench(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=ROOT,
    )


def here(*arguments: str) -> Result:
    """The end of a command that is run in this process."""
    return CliRunner().invoke(app, arguments)


def test_the_main_job_end_to_end(store: Store, tiny_protocol: str) -> None:
    first = bench("run", "-p", tiny_protocol, "--json")
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert result["trained"] == 4
    assert len(result["runs"]) == 4
    assert "workflowType=machine_learning" in result["mlflow"]
    again = here("run", "-p", tiny_protocol, "--json")
    assert json.loads(again.stdout)["trained"] == 0
    assert {r["run_key"] for r in result["runs"]} == {
        record.run_key for record in iter_records(store.records)
    }
    shown = here("leaderboard", "-p", tiny_protocol)
    assert shown.exit_code == 0, shown.stderr
    for model in ("mean_image", "pca", "fc_ae"):
        assert model in shown.stdout


def test_a_log_hears_of_a_long_run_before_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = plan(Request(load_protocol("quick"), ("fc_ae",), (8,), seeds=(0,)), open_store()).specs[
        0
    ]
    with console.RunProgress(total=1) as progress:
        progress.epoch(spec, 1, "mse 0.02000", "about 3 min left")
        assert capsys.readouterr().err == "", "short runs need no line an epoch"
        monkeypatch.setattr(console, "SILENCE_SECONDS", 0.0)
        progress.epoch(spec, 2, "mse 0.01900", "about 2 min left")
    said = capsys.readouterr().err
    assert "fc_ae d=8 seed 0: epoch 2 of " in said
    assert said.endswith("mse 0.01900; about 2 min left\n")


def test_a_dry_run_trains_nothing(store: Store, tiny_protocol: str) -> None:
    result = here("run", "-p", tiny_protocol, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    made = json.loads(result.stdout)
    assert len(made["runs"]) == 4
    assert made["forecast_seconds"] > 0
    assert not list(iter_records(store.records))
    shown = here("run", "-p", tiny_protocol, "--dry-run")
    assert "4 to do" in shown.stderr
    assert "fc_ae" in shown.stdout


def test_a_dry_run_tells_of_clusters_where_there_is_none(store: Store, tiny_protocol: str) -> None:
    command = ("run", "-p", tiny_protocol, "--executor", "ray", "--dry-run")
    shown = here(*command)
    assert shown.exit_code == 0, shown.stderr
    assert "GPUs (or cores)" in shown.stdout
    told = here(*command, "--json")
    by_workers = json.loads(told.stdout)["by_workers"]
    assert list(by_workers) == ["1", "2", "4"]
    assert by_workers["1"] > by_workers["4"] > 0
    lost = here(*command, "--address", "localhost:1")
    assert lost.exit_code == 2
    assert "--address localhost:1" in lost.stderr


@pytest.mark.parametrize("stale", ["file", "variable"])
def test_a_cluster_that_ended_is_not_waited_for(
    store: Store, tiny_protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: str
) -> None:
    """`ray start` leaves the address of its cluster, and Ray would ask there for ever."""
    if stale == "file":
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    else:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    lost = here("run", "-p", tiny_protocol, "--executor", "ray")
    assert lost.exit_code == 2
    assert "no Ray cluster answers" in lost.stderr


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, id="ctrl-c"),
        pytest.param(signal.SIGTERM, id="scheduler", marks=pytest.mark.slow(minutes=0.5)),
        pytest.param(signal.SIGKILL, id="kill-9", marks=pytest.mark.slow(minutes=0.5)),
    ],
)
def test_a_stopped_command_goes_on(
    store: Store, tiny_protocol: str, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    text = Path(tiny_protocol).read_text()
    Path(tiny_protocol).write_text(text.replace("epochs = 3", "epochs = 20"))
    arguments = [sys.executable, "-m", "bench", "run", "-p", tiny_protocol, "--workers", "1"]
    process = subprocess.Popen(
        arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(store.records.glob("*/record.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    if how is signal.SIGKILL:
        process.send_signal(how)
    else:
        os.killpg(process.pid, how)  # terminals and schedulers send it to the whole group
    _, errors = process.communicate(timeout=60)
    if how is not signal.SIGKILL:
        assert process.returncode == 130, errors
        assert "its worker" not in errors
        assert "the same command resumes" in errors
        assert "Traceback" not in errors
    done = len(list(iter_records(store.records)))
    assert 0 < done < 4
    again = here("run", "-p", tiny_protocol, "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["trained"] == 4 - done
    assert len(list(iter_records(store.records))) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "-m", "cnn_a"], ["unknown model 'cnn_a'", "cnn_ae"]),
        (["run", "-p", "quik"], ["unknown protocol 'quik'", "quick"]),
        (["run", "--dataset", "fashion_mnst"], ["fashion_mnst", "fashion_mnist"]),
        (["run", "-d", "0"], ["--latent-dim", "0", "1 to 65536"]),
        (["run", "-d", "eight"], ["--latent-dim", "'eight'", "whole number"]),
        (["run", "--seeds", "many"], ["--seeds", "many"]),
        (["run", "--seed", "-1"], ["--seed", "-1"]),
        (["run", "--workers", "0"], ["--workers", "0"]),
        (["run", "--device", "tpu"], ["tpu", "--device"]),
        (["run", "--dataset", "csv:/nowhere/x.csv"], ["/nowhere/x.csv"]),
        (["run", "-p", "/nowhere/mine.toml"], ["/nowhere/mine.toml"]),
        (["run", "--latnt-dim", "8"], ["--latnt-dim", "--latent-dim"]),
        (["rnu"], ["rnu", "run"]),
        (["leaderboard", "-p", "quik"], ["quik", "quick"]),
        (["run", "--model", ""], ["--model", "empty"]),
        (["run", "--dataset", ""], ["--dataset", "empty"]),
        (["run", "--dataset", "csv:"], ["csv:", "path"]),
        (["sync", "-p", "quik"], ["quik", "quick"]),
        (["sync", "-p", ""], ["--protocol", "empty"]),
        (["leaderboard", "-p", ""], ["--protocol", "empty"]),
        (["run", "--seeds", "3", "--seed", "1"], ["--seeds", "--seed", "exclude"]),
        (["run", "-p", "/"], ["protocol /", ".toml"]),
        (["run", "--dataset", "folder:README.md"], ["README.md", "a file", "csv:"]),
        (["verify", "abcd", "--all"], ["--all", "abcd"]),
        (["ui", "--port", "many"], ["--port", "many"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(
    store: Store, arguments: list[str], words: list[str]
) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]
    assert result.stdout == ""
    assert not list(iter_records(store.records))


def test_an_unwritable_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("BENCH_HOME", str(blocked))
    result = bench("run", "--dry-run")
    assert result.returncode == 2
    assert str(blocked) in result.stderr
    assert "Traceback" not in result.stderr


def test_help_and_version_are_quick_and_light() -> None:
    assert "leaderboard" in bench("--help").stdout
    assert bench("--version").stdout.startswith("bench ")
    code = (
        "import sys, bench.cli; "
        "print(*{'torch', 'mlflow', 'pandas', 'optuna', 'matplotlib'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert loaded.stdout.strip() == ""


def test_the_cast_is_listed() -> None:
    rows = json.loads(here("models", "--json").stdout)
    assert {"mean_image", "pca", "fc_ae", "deep_ae", "cnn_ae", "vae"} <= {r["id"] for r in rows}
    assert next(r for r in rows if r["id"] == "fc_ae")["parameters"] == 218_192


def test_protocols_are_listed_with_their_cost(store: Store) -> None:
    rows = json.loads(here("protocols", "--json").stdout)
    quick = next(r for r in rows if r["name"] == "quick")
    assert quick["runs"] > 0
    assert quick["cost_note"] == "not measured yet (--measure)"


def test_the_shell_completes_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """As bash asks: the words so far and which of them is being typed."""
    monkeypatch.setenv("_BENCH_COMPLETE", "complete_bash")
    for words, position, expected in (
        ("bench lead", "1", "leaderboard"),
        ("bench run --lat", "2", "--latent-dim"),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", position)
        code = "import sys; sys.argv[0] = 'bench'; from bench.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert expected in done.stdout.split(), done.stderr


def test_ctrl_c_anywhere_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.benchmark.catalogue.describe_models", interrupted)
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 130
    assert result.stderr == (
        "bench: stopped; what was finished is kept, and the same command resumes\n"
    )


def test_a_polite_kill_stops_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "models"])
    monkeypatch.setattr(
        "bench.benchmark.catalogue.describe_models", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 130
    assert capsys.readouterr().err.startswith("bench: stopped; what was finished is kept")
