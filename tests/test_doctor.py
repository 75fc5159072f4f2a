"""`bench doctor` looks and changes nothing; with --fix it repairs, loses nothing, and leaves alone
what a running command holds."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_support import Scripted, Silent, make_plan, open_book
from typer.testing import CliRunner

from bench import cli
from bench.benchmark.plan import Request, plan
from bench.core.locks import locked, take
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.records.files import iter_records
from bench.records.studies import STUDY_FILE
from bench.sweep.loop import Search
from bench.sweep.opening import attend, look_up
from bench.sweep.results import iter_trials
from bench.sweep.storage import open_storage

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")


@pytest.fixture
def recorded(store: Store, tiny_protocol: str) -> Store:
    """A workspace with two records."""
    for spec in plan(Request(load_protocol(tiny_protocol), ("mean_image", "pca")), store).specs:
        execute(spec, store, ignore_epochs)
    return store


def doctor(*options: str) -> tuple[int, dict[str, list[str]], str]:
    """Exit code, what was found by kind, and what was said."""
    done = CliRunner().invoke(cli.app, ["doctor", "--json", *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)["repairs"], done.stderr


def keys(store: Store) -> list[str]:
    return sorted(record.run_key for record in iter_records(store.records))


def content(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 4
    path.write_bytes(data)


def test_a_sound_workspace_is_well(recorded: Store) -> None:
    before = content(recorded)
    for options in ((), ("--fix",)):
        assert doctor(*options)[:2] == (0, {})
    assert content(recorded) == before


def test_doctor_only_looks_and_fix_repairs(recorded: Store) -> None:
    first, second = keys(recorded)
    mlruns = recorded.mlruns
    left = [
        recorded.locks / f"{first}.lock",
        recorded.checkpoints / f"{first}.safetensors",
        recorded.checkpoints / ".0123456789abcdef.safetensors.abcd_123",
        recorded.records / second / "boards" / ".0123456789abcdef.json.abcd_123",
        mlruns / ".costs.json.abcd_123",
        mlruns / "studies" / "s.fc_ae.d4" / "trials" / f".{first}.json.abcd_123",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folders = [mlruns / "registry.change" / "building", recorded.records / f".new-{first}-x"]
    for folder in folders:
        folder.mkdir(parents=True)
    before = content(recorded)
    code, found, said = doctor()
    assert (code, sum(map(len, found.values()))) == (3, 8)
    assert "8 to repair, nothing was changed; `bench doctor --fix`" in said
    assert all(": to be " in line for lines in found.values() for line in lines)
    assert content(recorded) == before and all(folder.is_dir() for folder in folders)
    code, fixed, said = doctor("--fix")
    assert (code, fixed.keys()) == (0, found.keys())
    assert "8 repaired" in said and "all is well" in said
    assert not any(path.exists() for path in (*left, *folders))
    assert keys(recorded) == [first, second]
    assert doctor()[:2] == (0, {})


def test_it_says_what_it_did_line_by_line(recorded: Store) -> None:
    path = recorded.locks / f"{keys(recorded)[0]}.lock"
    path.touch()
    done = CliRunner().invoke(cli.app, ["doctor", "--fix"])
    assert "locks of commands that are gone: 1\n  mlruns/locks/" in done.stdout
    assert f"{path.name}: removed\n" in done.stdout
    assert done.exit_code == 0


@pytest.mark.parametrize(
    "name", ["record.json", "weights.safetensors", "arrays.safetensors", "scores.json", "boards"]
)
def test_a_damaged_record_is_put_aside_and_trained_again(
    recorded: Store, tiny_protocol: str, name: str
) -> None:
    key, other = keys(recorded)
    (path,) = (recorded.records / key).glob("boards/*" if name == "boards" else f"**/{name}")
    flip(path)
    code, found, _ = doctor()
    (line,) = found["damaged records"]
    assert code == 3 and f"mlruns/records/{key} (" in line and str(recorded.root) not in line
    code, found, said = doctor("--fix")
    (line,) = found["damaged records"]
    assert code == 0 and "moved to mlruns/quarantine/" in line
    (aside,) = recorded.mlruns.glob(f"quarantine/*/records/{key}")
    assert str(aside.parent.parent) in said
    assert keys(recorded) == [other]
    (missing,) = plan(
        Request(load_protocol(tiny_protocol), ("mean_image", "pca")), recorded
    ).missing
    assert missing.run_key == key
    execute(missing, recorded, ignore_epochs)
    assert doctor()[:2] == (0, {})


def test_what_a_living_process_holds_is_left_alone(recorded: Store) -> None:
    first, second = keys(recorded)
    flip(recorded.records / first / "weights.safetensors")
    (recorded.checkpoints / f"{second}.safetensors").touch()
    held = [take(recorded.locks / f"{key}.lock") for key in (first, second)]
    (recorded.mlruns / "registry.change" / "building").mkdir(parents=True)
    script = (
        "import sys, os\n"
        "from pathlib import Path\n"
        "from bench.core.locks import locked\n"
        "from bench.core.store import _new_file, new_folder\n"
        "records = Path(sys.argv[1])\n"
        "_, file = _new_file(records.parent / 'costs.json')\n"
        "with new_folder(records / 'x', '.new-x-') as folder:\n"
        "    print(file, folder, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    with locked(recorded.locks / "registry.lock"):
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(recorded.records)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert writer.stdout is not None and writer.stdin is not None
        building = [Path(name) for name in writer.stdout.readline().split()]
        code, found, _ = doctor("--fix")
        (line,) = found.pop("damaged records")
        assert (code, found) == (3, {}) and "left alone" in line
        assert all(path.exists() for path in building)
        assert (recorded.mlruns / "registry.change" / "building").is_dir()
    writer.stdin.write("\n")
    writer.stdin.close()
    writer.wait()
    for stream in held:
        assert stream is not None
        stream.close()
    code, found, _ = doctor("--fix")
    assert code == 0
    assert len(found["temporary files"]) == 2 and not any(path.exists() for path in building)
    assert len(found["locks of commands that are gone"]) == 2
    assert len(found["damaged records"]) == len(found["checkpoints of finished runs"]) == 1
    assert not (recorded.mlruns / "registry.change").exists()


def test_folders_in_the_place_of_locks_are_put_aside(recorded: Store) -> None:
    key = keys(recorded)[0]
    names = ("locks/registry.lock", f"locks/{key}.lock", "studies/s/head.lock", ".optuna.db.users")
    for name in names:
        (recorded.mlruns / name).mkdir(parents=True)
        (recorded.mlruns / name / "something").touch()
    code, found, _ = doctor("--fix")
    assert (code, len(found["folders in the place of lock files"])) == (0, 4)
    for name in names:
        assert list(recorded.mlruns.glob(f"quarantine/*/{name}/something"))
    assert doctor()[:2] == (0, {})


@pytest.mark.slow
def test_beside_a_running_sweep(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real sweep is looked after again and again, and ends as if nobody had."""
    monkeypatch.delenv("BENCH_TRACKING")
    command = [sys.executable, "-m", "bench", "sweep", "-p", tiny_protocol, "-m", "fc_ae"]
    sweep = subprocess.Popen(
        [*command, "--trials", "3", "--workers", "1"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    visits = 0
    while sweep.poll() is None:
        code, found, _ = doctor("--fix")
        assert (code, found) == (0, {})
        visits += 1
        time.sleep(0.2)
    assert sweep.stderr is not None
    assert sweep.returncode == 0, sweep.stderr.read()
    assert visits > 3
    assert len(list(iter_trials(store, "tiny.fc_ae.d4"))) == 3
    assert not list(store.mlruns.glob("quarantine/*"))


@pytest.fixture
def searched(store: Store, tiny_protocol: str) -> Iterator[Store]:
    """A study of four scripted trials, in Optuna and on disk."""
    study = make_plan(tiny_protocol, store, trials=4)
    book = open_book(study, store)
    list(Search(book, store, Scripted(), Silent()).events())  # type: ignore[arg-type]
    book.trials.storage.engine.dispose()
    yield store


@pytest.mark.parametrize("how", ["header", "pages", "cut", "a state", "an attribute"])
def test_a_damaged_file_of_studies_is_rebuilt(
    searched: Store, tiny_protocol: str, how: str
) -> None:
    database = searched.mlruns / "optuna.db"
    trials = open_storage(searched).get_all_trials(1)
    _damage(database, how)
    study = make_plan(tiny_protocol, searched, trials=4)
    done = CliRunner().invoke(
        cli.app, ["sweep", "-p", tiny_protocol, "-m", "fc_ae", "--trials", "4", "--dry-run"]
    )
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert f"the studies in {database} cannot be used: " in line and "doctor --fix" in line
    code, found, _ = doctor()
    assert code == 3 and len(found["damaged databases"]) == 1
    code, found, _ = doctor("--fix")
    assert code == 0, found
    (line,) = found["damaged databases"]
    assert f"{database.name} (" in line and "moved to mlruns/quarantine/" in line
    assert "rebuilt from 4 results" in found["studies"][0]
    assert len(list(searched.mlruns.glob("quarantine/*/optuna.db"))) == 1
    assert look_up([study], searched)[0].finished == 4
    again = open_storage(searched).get_all_trials(1)
    for before, now in zip(trials, again, strict=True):
        assert (now.number, now.state, now.value) == (before.number, before.state, before.value)
        assert now.params == pytest.approx(before.params)
        assert now.intermediate_values == before.intermediate_values
    book = open_book(study, searched)
    assert book.settled and doctor()[:2] == (0, {})


def _damage(database: Path, how: str) -> None:
    data = bytearray(database.read_bytes())
    if how == "header":
        data[:16] = b"no database here"
    elif how == "pages":
        data[4096:] = bytes(255 - byte for byte in data[4096:])
    elif how == "cut":
        del data[4096 * 3 :]
    else:
        with sqlite3.connect(database) as connection:
            if how == "a state":
                connection.execute("UPDATE trials SET state = 'COMPLEUE' WHERE number = 1")
            else:
                connection.execute("UPDATE study_user_attributes SET value_json = '{\"a'")
        connection.close()
        return
    database.write_bytes(data)


def test_a_study_in_use_is_left_alone(searched: Store) -> None:
    database = searched.mlruns / "optuna.db"
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path; from bench.core.locks import use\n"
            "use(Path(sys.argv[1])); print(flush=True); sys.stdin.readline()",
            str(database),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    _damage(database, "pages")
    before = database.read_bytes()
    code, found, _ = doctor("--fix")
    assert code == 3 and "another command is using it" in found["damaged databases"][0]
    assert database.read_bytes() == before
    holder.communicate(b"\n")
    assert doctor("--fix")[0] == 0


def test_a_study_whose_default_has_no_result_is_said_plainly(searched: Store) -> None:
    for trial in iter_trials(searched, "tiny.fc_ae.d4"):
        if trial.source == "default":
            folder = searched.mlruns / "studies" / "tiny.fc_ae.d4" / "trials"
            flip(folder / f"{trial.spec.run_key}.json", at=0.0)
    _damage(searched.mlruns / "optuna.db", "pages")
    code, found, _ = doctor("--fix")
    assert code == 3
    assert "moved to mlruns/quarantine/" in found["damaged results of trials"][0]
    assert "cannot be rebuilt: there is no result of its default recipe" in found["studies"][0]


def test_a_damaged_file_of_a_study_is_put_aside_unless_it_is_in_use(searched: Store) -> None:
    path = searched.mlruns / "studies" / "tiny.fc_ae.d4" / STUDY_FILE
    for content in (b"", b"{}", b'{"schema_version": "a\\nb"}', b'{"schema_version": 2}'):
        path.write_bytes(content)
        code, found, _ = doctor()
        assert (code, list(found), path.exists()) == (3, ["damaged files of studies"], True)
        with attend(searched, "tiny.fc_ae.d4"):
            code, found, _ = doctor("--fix")
            assert code == 3 and "left alone" in found["damaged files of studies"][0]
            assert path.read_bytes() == content
        code, found, _ = doctor("--fix")
        assert code == 0 and "moved to mlruns/quarantine/" in found["damaged files of studies"][0]
        assert not path.exists() and doctor()[:2] == (0, {})


def test_results_of_a_study_that_is_running_are_left_alone(searched: Store) -> None:
    folder = searched.mlruns / "studies" / "tiny.fc_ae.d4" / "trials"
    path = sorted(folder.glob("*.json"))[0]
    flip(path, at=0.0)
    with attend(searched, "tiny.fc_ae.d4"):
        code, found, _ = doctor("--fix")
        assert code == 3 and "left alone" in found["damaged results of trials"][0]
        assert path.exists()
    assert doctor("--fix")[0] == 0
    assert not path.exists()
