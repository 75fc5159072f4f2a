"""`bench sweep` as a person meets it: killed at random moments, stopped, and confirmed."""

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow import MlflowClient

from bench.cli import app
from bench.records import iter_records
from bench.store import Store
from bench.sweep.results import iter_trials
from bench.sweep.storage import quiet_optuna

ROOT = Path(__file__).parent.parent
NAME = "tiny.fc_ae.d4"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench", *arguments]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def bench(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=ROOT,
    )


def trials_of(store: Store) -> list[optuna.trial.FrozenTrial]:
    quiet_optuna()
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{store.mlruns / 'optuna.db'}")
    return study.get_trials()


def finished_of(store: Store) -> list[optuna.trial.FrozenTrial]:
    return [t for t in trials_of(store) if t.state.name in ("COMPLETE", "PRUNED")]


def finished_count(store: Store) -> int:
    """What is on disk already, without looking into a data base that is being made."""
    return len(list((store.mlruns / "studies" / NAME / "trials").glob("[!.]*.json")))


def wait_until(store: Store, count: int, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while finished_count(store) < count and time.monotonic() < deadline:
        time.sleep(0.05)


def kill_a_worker(head: int) -> bool:
    """SIGKILL one process that the head spawned; False where there is none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        workers = [
            child
            for child in psutil.Process(head).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        if workers:
            random.choice(workers).kill()
            return True
    return False


def check_whole(store: Store, trials: int) -> None:
    """Exactly N finished trials, each on disk, no point twice, nothing left running."""
    finished = finished_of(store)
    assert len(finished) == trials
    assert not [t for t in trials_of(store) if t.state.name == "RUNNING"]
    records = list(iter_trials(store, NAME))
    assert {record.number for record in records} == {trial.number for trial in finished}
    assert len({record.spec.run_key for record in records}) == trials
    assert collections.Counter(record.source for record in records)["default"] == 1
    for trial, record in zip(finished, records, strict=True):
        if record.outcome == "complete":
            assert trial.value == record.value


def running_in_mlflow(store: Store) -> list[str]:
    client = MlflowClient(tracking_uri=f"sqlite:///{store.mlruns / 'mlflow.db'}")
    found = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(found, "attributes.status = 'RUNNING'")
    return [run.info.run_name or "" for run in runs]


def torture(store: Store, protocol: str, trials: int, kills: int) -> None:
    """Kill the command or one of its workers at random moments, start it again, then let it end."""
    options = ("sweep", "-m", "fc_ae", "-p", protocol, "--trials", str(trials), "--workers", "2")
    acknowledged: set[int] = set()
    process = start(*options)
    try:
        for kill in range(kills):
            if kill:
                time.sleep(random.uniform(0, 1.5))
            else:
                wait_until(store, 1)
            if kill % 2 == 0 or not kill_a_worker(process.pid):
                process.kill()
                process.communicate()
                acknowledged |= {t.number for t in finished_of(store)}
                process = start(*options)
                wait_until(
                    store, min(trials, finished_count(store) + random.choice((0, 1, 1, 1))), 30
                )
        _, errors = process.communicate(timeout=240)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
    assert acknowledged <= {trial.number for trial in finished_of(store)}
    check_whole(store, trials)


def in_process(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that starts no process of its own."""
    with pytest.raises(SystemExit) as ended:
        app(list(arguments))
    out, err = capsys.readouterr()
    code = ended.value.code
    return code if isinstance(code, int) else 0, out, err


def test_kills_lose_nothing_and_the_winner_becomes_a_row(
    store: Store, tiny_protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    random.seed(time.time_ns())
    torture(store, tiny_protocol, trials=7, kills=3)
    assert in_process(capsys, "doctor")[0] == 0
    assert not running_in_mlflow(store)
    winner = tomllib.loads((store.mlruns / "studies" / NAME / "winner.toml").read_text())
    assert winner["recipe"] == "tuned (7 trials)"
    best = min(iter_trials(store, NAME), key=lambda r: r.value or 1.0)
    records = list(iter_records(store.records))
    default = [r for r in records if r.spec.recipe == "default"]
    tuned = [r for r in records if r.spec.recipe == "tuned (7 trials)"]
    assert {r.spec.seed for r in default} == {0, 1}
    if best.source == "default":
        assert not tuned
    else:
        assert {r.spec.seed for r in tuned} == {0, 1}
        assert {r.spec.train.lr for r in tuned} == {best.spec.train.lr}
        assert {r.spec.train.batch_size for r in tuned} == {best.spec.train.batch_size}
        _, shown, _ = in_process(capsys, "leaderboard", "-p", tiny_protocol, "--json")
        rows = {(row["model"], row["recipe"]) for row in json.loads(shown)}
        assert rows == {("fc_ae", "default"), ("fc_ae", "tuned (7 trials)")}


@pytest.mark.slow
def test_many_kills(store: Store, tiny_protocol: str) -> None:
    random.seed(time.time_ns())
    torture(store, tiny_protocol, trials=30, kills=50)
    assert bench("doctor").returncode == 0
    assert not running_in_mlflow(store)


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(
    store: Store, tiny_protocol: str
) -> None:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 9"))
    options = ("sweep", "-m", "fc_ae", "-p", tiny_protocol, "--trials", "3", "--workers", "1")
    process = start(*options, "--pruner", "none")
    wait_until(store, 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "goes on from here" in errors
    assert "Traceback" not in errors
    assert not [t for t in trials_of(store) if t.state.name == "RUNNING"]
    assert not running_in_mlflow(store)
    before = {trial.number for trial in finished_of(store)}
    again = bench(*options, "--pruner", "none", "--json")
    assert again.returncode == 0, again.stderr
    (row,) = json.loads(again.stdout)
    assert row["trials"] == 3
    assert before <= {trial.number for trial in finished_of(store)}
    check_whole(store, 3)


def test_a_dry_run_says_what_it_would_do(
    store: Store, tiny_protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = in_process(capsys, "sweep", "--all", "-p", tiny_protocol, "--dry-run", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert row["study"] == NAME
    assert set(row["first"]) == {"default", "origin"}
    assert row["search_seconds"] > 0
    assert not (store.mlruns / "optuna.db").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say what to tune"),
        (("-m", "pca"), "nothing to tune"),
        (("-m", "fc_ae", "--trials", "0"), "--trials"),
        (("-m", "fc_ae", "--sampler", "magic"), "unknown sampler"),
        (("--winner", "/nowhere/winner.toml"), "cannot read"),
    ],
)
def test_mistakes_are_one_line(
    options: tuple[str, ...],
    message: str,
    store: Store,
    tiny_protocol: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = in_process(capsys, "sweep", "-p", tiny_protocol, *options)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
