"""`bench doctor` on a workspace that is read-only or partly unreadable: it looks as far as it
can."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_support import Scripted, Silent, make_plan, open_book
from typer.testing import CliRunner

from bench import cli
from bench.benchmark.plan import Request, plan
from bench.core.locks import is_held, locked
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.sweep.loop import Search

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions are others on Windows")
NOBODY = 65_534


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom permissions concern: root may do everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def doctor(*options: str) -> tuple[int, dict[str, list[str]], str]:
    """Exit code, what was found by kind, and the last line that was said."""
    done = CliRunner().invoke(cli.app, ["doctor", "--json", *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    found = json.loads(done.stdout)["repairs"] if done.stdout else {}
    return done.exit_code, found, done.stderr.splitlines()[-1]


@pytest.fixture
def damaged(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, tiny_protocol: str
) -> Iterator[Store]:
    """A workspace that everybody may read: two records, the second of them damaged, and a study.

    The folders of pytest are closed to others.
    """
    root = Path(tempfile.mkdtemp(prefix="bench-doctor-"))
    root.chmod(0o755)
    monkeypatch.setenv("BENCH_HOME", str(root))
    monkeypatch.setenv("BENCH_TRACKING", "off")
    store = Store(root).prepare()
    for spec in plan(Request(load_protocol(tiny_protocol), ("mean_image", "pca")), store).specs:
        execute(spec, store, ignore_epochs)
    book = open_book(make_plan(tiny_protocol, store, trials=2), store)
    list(Search(book, store, Scripted(), Silent()).events())  # type: ignore[arg-type]
    book.trials.storage.engine.dispose()
    last = sorted(store.records.iterdir())[-1]
    (last / "weights.safetensors").write_bytes(b"damaged")
    assert doctor()[1].keys() == {"damaged records"}
    yield store
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            Path(folder, name).chmod(0o644)
    shutil.rmtree(root)


def close(root: Path, mode_of_folders: int, mode_of_files: int) -> None:
    for folder, _, files in os.walk(root):
        for name in files:
            Path(folder, name).chmod(mode_of_files)
        Path(folder).chmod(mode_of_folders)


def test_a_read_only_workspace_is_looked_at_and_not_repaired(damaged: Store) -> None:
    database = damaged.mlruns / "optuna.db"
    database.write_bytes(b"no database here" * 512)
    close(damaged.root, 0o555, 0o444)
    before = sorted(damaged.root.rglob("*"))
    with unprivileged():
        code, found, said = doctor()
        assert (code, found.keys()) == (3, {"damaged records", "damaged databases", "studies"})
        assert said.endswith("3 to repair, nothing was changed; `bench doctor --fix`")
        code, found, said = doctor("--fix")
    assert (code, found) == (2, {})
    assert said.startswith(f"bench: cannot write to the store at {damaged.mlruns}: Permission")
    assert f"make {damaged.mlruns} writable, or set BENCH_HOME" in said
    assert sorted(damaged.root.rglob("*")) == before


@pytest.mark.parametrize(
    "part", ["records/*/record.json", "records/*", "studies/*", "optuna.db", "registry"]
)
def test_a_part_that_may_not_be_read_is_named_and_the_others_are_looked_at(
    damaged: Store, part: str
) -> None:
    if part == "registry":
        damaged.registry.mkdir()
        (damaged.registry / "results.csv").touch()
    root = damaged.root if part == "registry" else damaged.mlruns
    closed = sorted(root.glob(part))[0]
    closed.chmod(0)
    with unprivileged():
        code, found, said = doctor()
    assert code == 3 and len(found["not looked at"]) == 1, found
    (line,) = found.pop("not looked at")
    assert line.startswith(str(closed.relative_to(damaged.root)))
    assert line.endswith(": Permission denied")
    assert found.keys() == {"damaged records"}
    assert said == "bench: 1 cannot be repaired now (see the list)"


def test_a_lock_is_seen_where_nothing_can_be_written(damaged: Store) -> None:
    path = damaged.locks / "0123456789abcdef.lock"
    with locked(path):
        path.chmod(0o444)
        with unprivileged():
            assert is_held(path)
    with unprivileged():
        assert not is_held(path)


def test_what_may_not_be_read_is_one_line_in_every_command(damaged: Store) -> None:
    damaged.records.chmod(0)
    with unprivileged():
        done = CliRunner().invoke(cli.app, ["leaderboard"])
    assert done.exit_code == 2
    assert (
        done.stderr == f"bench: {damaged.records}: Permission denied; give this user access to it\n"
    )
