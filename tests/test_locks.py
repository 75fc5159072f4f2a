"""Locks on files: one holder at a time among processes, and none after its holder has died."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.benchmark.sharing import one_at_a_time
from bench.core import locks
from bench.core.errors import BadInput
from bench.core.locks import is_held, locked, release, take, try_lock, use
from bench.core.store import Store
from bench.sweep.opening import alone, attend

ROOT = Path(__file__).parent.parent
TAKE = """
import sys
from pathlib import Path
from bench.core.locks import release, take
path = Path(sys.argv[1])
stream = take(path)
print("held by another" if stream is None else "mine", flush=True)
sys.stdin.readline()
if stream is not None:
    release(path, stream)
print("gone", flush=True)
"""
WAIT = """
import sys
from pathlib import Path
from bench.core.locks import locked
print("waits", flush=True)
with locked(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.readline()
print("gone", flush=True)
"""


class Other:
    """Another process at a lock; it says what it has, and goes on when it is told to."""

    def __init__(self, script: str, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)


@contextmanager
def other(script: str, path: Path) -> Iterator[Other]:
    there = Other(script, path)
    try:
        yield there
    finally:
        there.kill()
        there.process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "run.lock"


def test_two_processes_cannot_take_one_lock(path: Path) -> None:
    with other(TAKE, path) as first:
        assert first.says() == "mine"
        assert take(path) is None
        with other(TAKE, path) as second:
            assert second.says() == "held by another"
        assert take(path) is None, "one that did not get it gives nothing back"
        first.go_on()
        assert first.says() == "gone"
        assert not path.exists(), "the last holder removes the file"
        mine = take(path)
        assert mine is not None
        with other(TAKE, path) as third:
            assert third.says() == "held by another"
        release(path, mine)


def test_a_lock_ends_when_its_holder_is_killed(path: Path) -> None:
    with other(TAKE, path) as first:
        assert first.says() == "mine"
        first.kill()
        assert path.exists(), "it could not remove the file"
        mine = take(path)
        assert mine is not None
        release(path, mine)


@pytest.mark.parametrize("end", ["leaves", "is killed"])
def test_locked_waits_for_the_holder(path: Path, end: str) -> None:
    with other(WAIT, path) as first, other(WAIT, path) as second:
        assert first.says() == "waits"
        assert second.says() == "waits"
        heard: list[tuple[Other, str]] = []
        threads = [
            threading.Thread(target=lambda who=who: heard.append((who, who.says())), daemon=True)
            for who in (first, second)
        ]
        for thread in threads:
            thread.start()
        while not heard:
            threads[0].join(timeout=0.01)
        threads[0].join(timeout=0.3)
        threads[1].join(timeout=0.3)
        assert [said for _, said in heard] == ["mine"], "the other one waits"
        if end == "leaves":
            heard[0][0].go_on()
        else:
            heard[0][0].kill()
        for thread in threads:
            thread.join(timeout=30)
        assert [said for _, said in heard] == ["mine", "mine"]
        assert heard[0][0] is not heard[1][0]


def _before_the_lock(monkeypatch: pytest.MonkeyPatch, happens: object) -> None:
    """Let something happen between the opening of a file and the lock on it, once."""
    real, waiting = try_lock, [happens]

    def late(handle: int, **options: bool) -> bool:
        if waiting:
            waiting.pop()()  # type: ignore[operator]
        return real(handle, **options)

    monkeypatch.setattr(locks, "try_lock", late)


def test_a_file_that_its_last_holder_removed_is_not_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We opened it while the other held it; by the time we lock it, it is gone."""
    held = take(path)
    assert held is not None
    _before_the_lock(monkeypatch, lambda: release(path, held))
    assert take(path) is None
    assert not path.exists()
    mine = take(path)
    assert mine is not None
    assert take(path) is None
    release(path, mine)


def test_a_file_that_a_third_one_made_anew_is_the_third_one_s(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = take(path)
    assert held is not None
    third = []

    def change_hands() -> None:
        release(path, held)
        third.append(take(path))

    _before_the_lock(monkeypatch, change_hands)
    assert take(path) is None, "ours is another file than the one that is there"
    assert third[0] is not None
    assert take(path) is None
    release(path, third[0])
    assert not path.exists()


def test_a_file_is_removed_while_it_is_still_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed later it could be the next holder's."""
    held = take(path)
    assert held is not None
    taken = []
    unlink = Path.unlink

    def watched(self: Path, missing_ok: bool = False) -> None:
        taken.append(take(path))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    release(path, held)
    assert taken == [None]


def test_many_share_a_lock_or_one_has_it(path: Path) -> None:
    path.parent.mkdir()
    with path.open("a+") as first, path.open("a+") as second, path.open("a+") as third:
        assert try_lock(first.fileno(), shared=True)
        assert try_lock(second.fileno(), shared=True)
        assert not try_lock(third.fileno())
        first.close()
        assert not try_lock(third.fileno())
        second.close()
        assert try_lock(third.fileno())
        with path.open("a+") as fourth:
            assert not try_lock(fourth.fileno(), shared=True)


def test_who_must_be_alone_with_a_study_is_alone(store: Store) -> None:
    with alone(store, "s") as first, alone(store, "s") as second:
        assert (first, second) == (True, False)
    with attend(store, "s"), attend(store, "s"):
        pass


def test_what_is_done_one_at_a_time_is(store: Store) -> None:
    inside = threading.Event()
    done: list[str] = []

    def second() -> None:
        inside.wait(timeout=30)
        with one_at_a_time(store, "cells"):
            done.append("second")

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    with one_at_a_time(store, "cells"):
        inside.set()
        thread.join(timeout=0.3)
        with one_at_a_time(store, "something else"):
            done.append("first")
    thread.join(timeout=30)
    assert done == ["first", "second"]


def test_a_lock_can_be_waited_for_by_many(path: Path) -> None:
    """No turn is lost and none is had twice, whoever comes first."""
    count = path.parent / "count"
    path.parent.mkdir()
    count.write_text("0")

    def add() -> None:
        for _ in range(50):
            with locked(path):
                count.write_text(str(int(count.read_text()) + 1))

    threads = [threading.Thread(target=add, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert count.read_text() == "200"


def test_a_folder_in_the_place_of_a_lock_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.mkdir()
    (tmp_path / ".a.db.users").mkdir()
    words = r"is a folder, expected a lock file; `bench doctor --fix` moves it"
    for act in (take, is_held):
        with pytest.raises(BadInput, match=words):
            act(path)
    with pytest.raises(BadInput, match=words), locked(path):
        pass
    with pytest.raises(BadInput, match=words):
        use(tmp_path / "a.db")
