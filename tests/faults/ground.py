"""What a try stands on: its folder and dice, and the faults that it found."""

import contextlib
import itertools
import os
import pickle
import random
import shutil
import struct
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.store import Store

from .forked import SECRET, Said

FAULTS = ("lost", "mixed", "left behind", "tracebacks", "executed", "secrets")
"""Lost: a result is gone, or a command does not go on. Mixed: content of two states, or another's.
Left behind: temporary names. Tracebacks: anything but one clear line. Executed: code from a file.
Secrets: a password in an output or a file."""
CANARY = "executed-by-a-file"
"""What hostile content would make in the current folder if it were executed."""
_LARGEST_SEARCHED = 64 * 2**20


@dataclass
class Found:
    """What one try found: (kind of fault, in words)."""

    name: str
    tries: int = 1
    faults: list[tuple[str, str]] = field(default_factory=list)


class Ground:
    """The folder of a try, random numbers of its own, and what it finds."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        self.found = Found(name)
        self.folder = folder
        self.dice = random.Random(f"{seed}/{name}")

    def fault(self, kind: str, text: str) -> None:
        """Note a fault."""
        assert kind in FAULTS
        self.found.faults.append((kind, " ".join(text.split())[-900:]))

    def copy(self, template: Path, name: str = "home") -> Store:
        """A copy of a workspace, to be changed at will."""
        root = self.folder / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root, symlinks=True)
        return Store(root)

    def heed(self, said: Said, what: str, codes: Sequence[int] = (0,)) -> bool:
        """Judge the output of a command that may end with these exit codes; whether it did."""
        shown = f"{what}: exit code {said.code}: {said.err[-400:]}"
        if "Traceback" in said.text or "unexpected error:" in said.text or said.code in (1, 70):
            self.fault("tracebacks", shown)
        elif said.code not in codes:
            self.fault("lost", f"it should end with {codes}; {shown}")
        elif said.code in (2, 3) and not _is_one_line(said.err):
            self.fault("tracebacks", f"no single line of an error; {shown}")
        if SECRET in said.text:
            self.fault("secrets", shown)
        return said.code in codes

    def close(self) -> None:
        """Look through the files of the try, then remove them."""
        if any(self.folder.rglob(CANARY)):
            self.fault("executed", "a file's content was executed")
        for path in self.folder.rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            if path.name.startswith("error-") and path.parent.name == "logs":
                self.fault("tracebacks", path.read_text(errors="replace")[-500:])
            if path.stat().st_size < _LARGEST_SEARCHED and SECRET.encode() in path.read_bytes():
                self.fault("secrets", f"in {path.relative_to(self.folder)}")
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_one_line(errors: str) -> bool:
    """Whether the errors end in one line of `bench: ...`, the only one of its kind."""
    lines = errors.rstrip("\n").split("\n")
    told = [line for line in lines if line.startswith("bench: ")]
    return len(told) == 1 and lines[-1] == told[0]


@dataclass(frozen=True)
class Try:
    """`CAMPAIGN/WHAT/NUMBER`, and what it does."""

    name: str
    work: Callable[[Ground], None]

    @property
    def campaign(self) -> str:
        """The campaign that it belongs to."""
        return self.name.partition("/")[0]


def attempt(one: Try, seed: int, place: Path) -> Found:
    """Do one try in a folder of its own below `place`."""
    ground = Ground(one.name, seed, Path(tempfile.mkdtemp(dir=place, prefix="try-")))
    try:
        one.work(ground)
    except Exception:
        ground.fault("tracebacks", traceback.format_exc()[-1500:])
    ground.close()
    return ground.found


def perform(
    tries: Sequence[Try],
    seed: int,
    place: Path,
    jobs: int,
    deadline: float,
    hear: Callable[[int], None] = lambda _: None,
) -> list[Found]:
    """Do the tries in `jobs` processes until the deadline (`time.monotonic`); what they found.

    Each process takes the next try from a pipe, writes what it found to a file of its own, and says
    through another pipe that it is done: `hear` is given the number of tries done.
    """
    (take, give), (told, tell) = os.pipe(), os.pipe()
    files = [place / f"lane-{number}" for number in range(jobs)]
    lanes = []
    for file in files:
        pid = os.fork()
        if pid == 0:
            os.close(give)
            os.close(told)
            _lane(tries, seed, place, file, take, tell)
        lanes.append(pid)
    os.close(take)
    os.close(tell)
    waiting = iter(range(len(tries)))
    with os.fdopen(give, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
        for number in itertools.islice(waiting, jobs):
            pipe.write(struct.pack("i", number))
        for done in itertools.count(1):
            if not os.read(told, 1):
                break
            hear(done)
            number = next(waiting, -1)
            if number < 0 or time.monotonic() > deadline:
                pipe.close()
                waiting = iter(())
            else:
                pipe.write(struct.pack("i", number))
    os.close(told)
    broken = [pid for pid in lanes if os.waitpid(pid, 0)[1] != 0]
    if broken:
        raise RuntimeError(f"{len(broken)} of {jobs} processes of the tool itself died")
    return [found for file in files for found in _read(file)]


def _lane(tries: Sequence[Try], seed: int, place: Path, file: Path, take: int, tell: int) -> None:
    code = 1
    try:
        with file.open("wb") as stream:
            while number := os.read(take, 4):
                pickle.dump(attempt(tries[struct.unpack("i", number)[0]], seed, place), stream)
                stream.flush()
                os.write(tell, b".")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _read(file: Path) -> Iterable[Found]:
    with file.open("rb") as stream, contextlib.suppress(EOFError):
        while True:
            yield pickle.load(stream)
