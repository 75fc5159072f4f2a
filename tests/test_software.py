"""Rows name the code that made them, and code that nobody can get ranks in no committed table."""

import shutil
import subprocess
from pathlib import Path

import pytest
from invented import EVERYTHING, invent, ranks, specs_of, table, write
from registry_store import tiny_protocol
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.protocol import Protocol, load_protocol
from bench.core.store import Store
from bench.execution import Finished, LocalPool, software
from bench.execution.software import Software, commit_of, digest_of, running_software
from bench.registry import results
from bench.registry.results import local_rows, read_results

HERE = Software("0123456789abcdef", "aaaaaaaaaaaa")
CHANGED = Software("fedcba9876543210", "aaaaaaaaaaaa+")


def made_by(code: Software, store: Store, protocol: Protocol, model: str, error: float) -> None:
    """The records of a row that this code made; without a digest they are of an earlier bench."""
    environment = {"git_commit": code.commit, "bench_digest": code.digest}
    for spec in specs_of(store, protocol, model):
        seen = error * (1 + spec.seed / 1000)
        invent(store, spec, seen, seen, environment=environment)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of three files of code, a data file and a cache."""
    folder = tmp_path / "package"
    (folder / "sub").mkdir(parents=True)
    for name in ("__init__.py", "sub/a.py", "sub/b.toml", "sub/data.npz"):
        (folder / name).write_text(name)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.cpython-311.pyc").write_text("")
    return folder


def test_the_digest_is_that_of_the_code_wherever_it_lies(package: Path, tmp_path: Path) -> None:
    before = digest_of(package)
    shutil.copytree(package, tmp_path / "copy")
    (tmp_path / "copy" / "sub" / "data.npz").write_text("other")
    shutil.rmtree(tmp_path / "copy" / "__pycache__")
    assert digest_of(tmp_path / "copy") == before
    for change in (
        lambda: (package / "sub" / "a.py").write_text("changed"),
        lambda: (package / "sub" / "b.toml").write_text("changed"),
        lambda: (package / "sub" / "a.py").rename(package / "sub" / "c.py"),
        lambda: (package / "new.py").write_text(""),
    ):
        change()
        assert digest_of(package) != before
        before = digest_of(package)


def _git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
def test_the_commit_says_whether_the_package_was_changed_since(package: Path) -> None:
    root = package.parent
    assert commit_of(package) == "", "in no repository"
    _git(root, "init")
    (root / ".gitignore").write_text("__pycache__/\n")
    _git(root, "add", ".gitignore")
    _git(root, "commit", "-m", "one")
    assert commit_of(package) == "", "the repository of somebody else, where it is installed"
    _git(root, "add", ".")
    _git(root, "commit", "-m", "two")
    clean = commit_of(package)
    assert len(clean) == 12 and not clean.endswith("+")
    (root / "notes.txt").write_text("outside of the package")
    assert commit_of(package) == clean
    (package / "mine.py").write_text("")
    assert commit_of(package) == f"{clean}+"


def test_a_worker_names_the_code_that_its_head_has_read(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(software, "_adopted", [CHANGED])
    pool = LocalPool(1, store)
    try:
        pool.submit(plan(Request(load_protocol(tiny_protocol), ("pca",)), store).specs[0])
        done: list[Finished] = []
        while not done:
            done = [event for event in pool.events(1.0) if isinstance(event, Finished)]
    finally:
        pool.close()
    found = done[0].record.environment
    assert (found["bench_digest"], found["git_commit"]) == (CHANGED.digest, CHANGED.commit)
    (row,) = local_rows(store, EVERYTHING)
    assert row.cells["bench_digest"] == CHANGED.digest


def test_this_process_reads_its_own_code() -> None:
    package = Path(software.__file__).parent.parent
    assert running_software() == Software(digest_of(package), commit_of(package))


@pytest.fixture
def small(store: Store) -> Protocol:
    return tiny_protocol(store.root)


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the workspace of the test were a checkout whose code is HERE."""
    monkeypatch.setattr(results, "is_shipped", lambda store: True)
    monkeypatch.setattr(results, "running_software", lambda: HERE)


def test_other_workspaces_rank_what_changed_code_made(store: Store, small: Protocol) -> None:
    made_by(CHANGED, store, small, "fc_ae", 0.03)
    write(store)
    assert ranks(store) == [("fc_ae", (1, 1))]


@pytest.mark.usefixtures("committed")
def test_changed_code_has_no_rank_in_the_committed_tables(
    store: Store, small: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by(HERE, store, small, "fc_ae", 0.03)
    made_by(Software("", CHANGED.commit), store, small, "deep_ae", 0.04)
    made_by(CHANGED, store, small, "vae", 0.02)
    write(store)
    assert ranks(store) == [("vae", None), ("fc_ae", (1, 1)), ("deep_ae", (2, 2))]
    assert table(store)["vae"]["why_unranked"] == "made with uncommitted changes of bench/"
    page = (store.registry / "README.md").read_text()
    assert "not ranked: made with uncommitted changes of bench/ |" in page

    # These very changes were committed: the rows are ranked, without another training.
    now = Software(CHANGED.digest, "bbbbbbbbbbbb")
    monkeypatch.setattr(results, "running_software", lambda: now)
    assert "3 rows are new" in write(store).lines
    order = ("vae", "fc_ae", "deep_ae")
    assert ranks(store) == [(name, (rank, rank)) for rank, name in enumerate(order, start=1)]
    rows = read_results(store.registry).ledger
    assert len(rows) == 9 and not any(row.uncommitted for row in rows)

    # A checkout that changed again takes no rank away.
    monkeypatch.setattr(results, "running_software", lambda: HERE)
    assert write(store).changed == []
    assert ranks(store)[0] == ("vae", (1, 1))


@pytest.mark.usefixtures("committed")
@pytest.mark.parametrize("command", [["run"], ["sweep", "-m", "fc_ae", "--trials", "2"]])
def test_changed_code_is_said_before_training(
    store: Store, tiny_protocol: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*command, "-p", tiny_protocol, "--dry-run"]
    assert "uncommitted changes" not in CliRunner().invoke(app, arguments).output
    monkeypatch.setattr(results, "running_software", lambda: CHANGED)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "bench/ has uncommitted changes: rows made now have no rank" in done.output
