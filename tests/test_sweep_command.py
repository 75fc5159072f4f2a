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
from sweep_support import make_plan, open_book

from bench.cli import app
from bench.core.store import Store
from bench.records.files import iter_records
from bench.sweep.results import iter_trials
from bench.sweep.storage import quiet_optuna
from bench.sweep.trials import Ticket
from bench.sweep.winner import winner_text, write_winner
from bench.tracking.address import Address

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


@pytest.mark.slow(minutes=1)
def test_kills_lose_nothing_and_the_winner_becomes_a_row(
    store: Store, tiny_protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker and the head once each; `test_many_kills` has fifty."""
    random.seed(time.time_ns())
    torture(store, tiny_protocol, trials=5, kills=2)
    assert in_process(capsys, "doctor", "--fix")[0] == 0
    assert not running_in_mlflow(store)
    winner = tomllib.loads((store.mlruns / "studies" / NAME / "winner.toml").read_text())
    assert winner["recipe"] == "tuned (5 trials)"
    best = min(iter_trials(store, NAME), key=lambda r: r.value or 1.0)
    records = list(iter_records(store.records))
    default = [r for r in records if r.spec.recipe == "default"]
    tuned = [r for r in records if r.spec.recipe == "tuned (5 trials)"]
    assert {r.spec.seed for r in default} == {0, 1}
    if best.source == "default":
        assert not tuned
    else:
        assert {r.spec.seed for r in tuned} == {0, 1}
        assert {r.spec.train.lr for r in tuned} == {best.spec.train.lr}
        assert {r.spec.train.batch_size for r in tuned} == {best.spec.train.batch_size}
        _, shown, _ = in_process(capsys, "leaderboard", "-p", tiny_protocol, "--json")
        rows = {(row["model"], row["recipe"]) for row in json.loads(shown)}
        closed = {("pca", "default"), ("mean_image", "default")}
        assert rows == {("fc_ae", "default"), ("fc_ae", "tuned (5 trials)")} | closed


@pytest.mark.slow(minutes=0.5)
def test_trials_that_mlflow_missed_are_told_when_the_search_is_over(
    store: Store,
    tiny_protocol: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """MLflow answers from the first trial's end on; by then it is left alone for a while."""
    monkeypatch.setattr(Address, "is_server", property(lambda _: True))
    monkeypatch.setattr(Address, "why_not", lambda _: "" if finished_count(store) else "it starts")
    monkeypatch.chdir(store.root)  # a server would choose where artifacts go
    options = ("sweep", "-m", "fc_ae", "-p", tiny_protocol, "--trials", "2", "--workers", "2")
    code, _, said = in_process(capsys, *options)
    assert code == 0, said
    client = MlflowClient(tracking_uri=f"sqlite:///{store.mlruns / 'mlflow.db'}")
    found = client.get_experiment_by_name("tiny sweeps")
    runs = client.search_runs([found.experiment_id], "tags.trial != ''")
    assert [run.info.status for run in runs] == ["FINISHED"] * 2


@pytest.mark.slow(minutes=8)
def test_many_kills(store: Store, tiny_protocol: str) -> None:
    random.seed(time.time_ns())
    torture(store, tiny_protocol, trials=30, kills=50)
    assert bench("doctor", "--fix").returncode == 0
    assert not running_in_mlflow(store)


@pytest.mark.slow(minutes=0.5)
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(
    told_store: Store, tiny_protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = told_store
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 9"))
    options = ("sweep", "-m", "fc_ae", "-p", tiny_protocol, "--trials", "3", "--workers", "1")
    process = start(*options, "--pruner", "none")
    wait_until(store, 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "resumes from here" in errors
    assert "Traceback" not in errors
    assert not [t for t in trials_of(store) if t.state.name == "RUNNING"]
    assert not running_in_mlflow(store)
    before = {trial.number for trial in finished_of(store)}
    code, out, err = in_process(capsys, *options, "--pruner", "none", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["trials"] == 3
    assert before <= {trial.number for trial in finished_of(store)}
    check_whole(store, 3)


def test_a_winner_is_trained_again_by_the_name_of_its_study(
    store: Store, tiny_protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(tiny_protocol, store)
    settings = {**plan.known["default"], "lr": 2e-3}
    ticket = Ticket(4, plan.spec(settings), "", settings)
    write_winner(store, NAME, winner_text(plan, ticket, "tuned (3 trials)"))
    code, out, err = in_process(capsys, "sweep", "--winner", NAME, "--dry-run")
    assert code == 0
    assert "6 to do" in err and "mean_image and pca run along" in err
    assert out.count("fc_ae") == 4
    assert not list(store.records.iterdir()), "a dry run trains nothing"
    code, _, err = in_process(capsys, "sweep", "--winner", "nowhere")
    assert (code, "neither a file nor a study" in err) == (2, True)


def test_a_refused_study_does_not_cost_the_others(
    store: Store, tiny_protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    open_book(make_plan(tiny_protocol, store), store)
    text = Path(tiny_protocol).read_text()
    Path(tiny_protocol).write_text(text.replace("epochs = 3", "epochs = 2"))
    options = ("-m", "sparse_ae", "-m", "fc_ae", "-p", tiny_protocol, "--trials", "2")
    code, _, err = in_process(capsys, "sweep", *options)
    assert code == 2
    assert "train.epochs is 3 in the study and 2 now" in err
    assert not (store.mlruns / "studies" / "tiny.sparse_ae.d4").exists(), "nothing was trained"


def test_a_dry_run_says_what_it_would_do(
    store: Store, tiny_protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = in_process(capsys, "sweep", "--all", "-p", tiny_protocol, "--dry-run", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert row["study"] == NAME
    assert set(row["first"]) == {"default", "origin"}
    assert row["search_seconds"] > 0
    two = ("sweep", "-m", "fc_ae", "-d", "4", "-d", "8", "-p", tiny_protocol, "--dry-run")
    code, _, err = in_process(capsys, *two)
    assert code == 0
    assert "2 studies to go, at most about" in err
    on_ray = ("sweep", "-m", "fc_ae", "-p", tiny_protocol, "--dry-run", "--executor", "ray")
    code, out, _ = in_process(capsys, *on_ray)
    assert code == 0
    assert "GPUs (or cores)" in out
    assert not (store.mlruns / "optuna.db").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say what to tune"),
        (("-m", "pca"), "nothing to tune"),
        (("-m", "fc_ae", "--trials", "0"), "--trials"),
        (("-m", "fc_ae", "--sampler", "magic"), "unknown sampler"),
        (("--winner", "/nowhere/winner.toml"), "--protocol: --winner trains one recipe again"),
        (("-m", "fc_ae", "--dry-run", "--storage", ""), "--storage: is empty"),
        (("-m", "fc_ae", "--dry-run", "--storage", "postgresql://a:b@c:d/e"), "not an address"),
        (("-m", "fc_ae", "--dry-run", "--storage", "sqlite+odd:///a"), "cannot live in sqlite+odd"),
        (("-m", "fc_ae", "--dry-run", "--storage", "nowhere"), "--storage: not an address"),
        (("-m", "fc_ae", "--dry-run", "--storage", "mysql://a/b"), "cannot live in mysql"),
        (("-m", "fc_ae", "--dry-run", "--address", "a:1"), "only --executor ray has one"),
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
