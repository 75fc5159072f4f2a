"""Which folder is the workspace, what an installed package brings, and odd surroundings."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

import bench
from bench.cli import app
from bench.core import store as stores
from bench.core.errors import BadInput
from bench.core.store import Store, is_workspace, open_store, shipped
from bench.tracking.address import find_address, local_address
from bench.tracking.database import prepared_address

ROOT = Path(__file__).parent.parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, two below another project's; no BENCH_HOME."""
    monkeypatch.delenv("BENCH_HOME", raising=False)
    folder = tmp_path / "project" / "notebooks"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("content", ["0/meta.yaml", "mlflow.db", "models/m.txt", ".trash/x"])
def test_the_mlruns_of_another_project_is_left_alone(here: Path, content: str) -> None:
    foreign = here.parent / "mlruns" / content
    foreign.parent.mkdir(parents=True)
    foreign.write_text("theirs")
    store = open_store()
    assert store.root == here
    store.prepare()
    assert is_workspace(here) and not is_workspace(here.parent)
    assert [path.name for path in (here.parent / "mlruns").iterdir()] == [Path(content).parts[0]]
    with pytest.raises(BadInput, match=r"mlruns was made by another program .* set BENCH_HOME"):
        Store(here.parent).prepare()
    assert [path.name for path in (here.parent / "mlruns").iterdir()] == [Path(content).parts[0]]


@pytest.mark.parametrize(
    "content",
    ["mlruns/.bench", "mlruns/records/0123456789abcdef/record.json", "registry/results.csv"],
    ids=["marked", "made before marks", "a clone"],
)
def test_a_workspace_is_found_from_its_sub_folders(here: Path, content: str) -> None:
    mark = here.parent / content
    mark.parent.mkdir(parents=True)
    mark.write_text("")
    (here.parent / "mlruns").mkdir(exist_ok=True)
    assert open_store().root == here.parent
    open_store().prepare()
    assert (here.parent / "mlruns" / ".bench").is_file()


def test_a_log_of_an_error_is_no_workspace_and_no_other_program(here: Path) -> None:
    (here.parent / "mlruns" / "logs").mkdir(parents=True)
    assert open_store().root == here
    Store(here.parent).prepare()
    assert open_store().root == here.parent


def test_commands_that_write_say_where(store: Store, tiny_protocol: str) -> None:
    for command in (["run"], ["sweep", "-m", "fc_ae", "--trials", "2"]):
        done = CliRunner().invoke(app, [*command, "-p", tiny_protocol, "--dry-run"])
        assert done.exit_code == 0, done.output
        assert done.output.count(f"results are written to {store.root}\n") == 1


def test_the_committed_tables_and_champions_are_there_in_every_workspace(store: Store) -> None:
    assert shipped().registry == ROOT / "registry"
    done = CliRunner().invoke(app, ["leaderboard", "-p", "quick"])
    assert "committed with bench: quick on fashion_mnist_mini" in done.output
    assert "no results here yet" in done.output
    done = CliRunner().invoke(app, ["leaderboard", "-p", "quick", "--json"])
    rows = json.loads(done.stdout)
    assert {row["committed_with_bench"] for row in rows} == {True}
    assert len(rows) == len(bench.table("quick")) == 30
    listed = json.loads(CliRunner().invoke(app, ["registry", "list", "--json"]).stdout)
    assert {row["track"] for row in listed} >= {"fashion_mnist_mini.quick.d32"}
    assert bench.load("quick.d32").code_size == 32
    assert not list(store.registry.glob("*"))


def test_in_the_clone_the_committed_tables_are_not_shown_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCH_HOME", str(ROOT))
    done = CliRunner().invoke(app, ["leaderboard", "-p", "quick"])
    assert "quick on fashion_mnist_mini" in done.output and "committed with" not in done.output


def test_an_installed_package_reads_the_results_that_it_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = tmp_path / "bench" / "core"
    (tmp_path / "bench" / "committed" / "registry").mkdir(parents=True)
    monkeypatch.setattr(stores, "__file__", str(core / "store.py"))
    assert shipped().registry == tmp_path / "bench" / "committed" / "registry"


@pytest.mark.slow
def test_a_wheel_holds_what_it_needs_and_works_from_any_folder(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir")
    subprocess.run([*pip, str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    (tmp_path / "any").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "BENCH_TRACKING": "off"}
    environment.pop("BENCH_HOME", None)

    def said(*command: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "bench", *command],
            capture_output=True,
            check=True,
            text=True,
            cwd=tmp_path / "any",
            env=environment,
        ).stdout

    assert "committed with bench: quick" in said("leaderboard")
    assert "quick.d32" in said("registry", "list")
    said("run", "--model", "mean_image", "--latent-dim", "8")
    assert (tmp_path / "any" / "mlruns" / ".bench").is_file()
    local, committed = (f"{name}quick on fashion_mnist_mini" for name in ("", "with bench: "))
    tables = said("leaderboard", "-p", "quick")
    assert tables.index(local) < tables.index(committed)


ODD = ["a%20b", "a%2Fb", "a?b", "a#b", "50%", "a;b:c@d&e=f", "[a] {b} 'c' \"d\"", "é\nü"]


@pytest.mark.parametrize("name", ODD)
def test_the_address_of_the_store_means_the_same_file_to_others(name: str, tmp_path: Path) -> None:
    database = tmp_path / name / "mlruns" / "mlflow.db"
    address = local_address(database)
    assert make_url(address.uri).database == str(database)
    assert find_address(Store(tmp_path / name)) == address


def test_the_store_is_made_where_the_name_says_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow makes the folder that the escaped address would be without its escapes."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Store(tmp_path / "job%2Ffeature?x%20y").prepare()
    address = prepared_address(store)
    assert address.database == store.mlruns / "mlflow.db"
    assert address.database.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [store.root.name]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.uri)
    assert find_address(Store(tmp_path)) == address


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    number = {"stdout": 1, "stderr": 2}[closed]
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m bench protocols {number}>&-', sys.executable],
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0
    assert b"rror" not in done.stderr


def test_a_reader_that_has_enough_gets_no_message() -> None:
    """As `bench leaderboard | head -1`: the pipe is closed before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "bench", "leaderboard", "-p", "quick", "--json"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
