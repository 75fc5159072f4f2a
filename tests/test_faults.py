"""The short form of `make faults`, and that it finds what it looks for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CAMPAIGNS = """
import sys
from tests.faults import __main__ as tool

def campaigns(*arguments):
    sys.argv = ["faults", "--short", "--workspaces", "{workspaces}", *arguments]
    print("end of campaigns", tool.main(), flush=True)

def break_bench():
    {breakage}

campaigns()
break_bench()
campaigns("--only", "{only}")
"""
"""Twice in one process, which imports what commands need and draws their pictures once."""
BREAKAGE = """
    import os, pickle, tempfile, tomllib
    from pathlib import Path
    from bench import data
    from bench.benchmark import doctor
    from bench.cli import console
    from bench.core import store
    from bench.records import documents, mending
    from bench.sweep import winner
    from bench.tracking import address

    # Mixed: every digest is right, and text reaches the terminal as it is.
    class Right(str):
        __eq__, __hash__ = (lambda *_: True), str.__hash__

    documents.digest = lambda content: Right("0" * 16)
    console.for_terminal = lambda text: text

    # Lost: the doctor takes sound records away. Left behind: it removes no temporary files, and
    # every writer leaves one more.
    mending.damage_of = lambda *_: "broken"
    doctor.REPAIRS = (mending.set_damaged_aside,)
    new_file = store._new_file

    def leave_one(path):
        os.close(tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")[0])
        return new_file(path)

    store._new_file = leave_one

    # Secrets: addresses are shown with their passwords.
    console.without_secrets = address.without_secrets = lambda text: text

    # Executed: images may be pickles.
    load_set = data.load_set

    def load_anything(reference):
        try:
            pickle.loads(Path(reference.partition(":")[2]).read_bytes())
        except Exception:
            return load_set(reference)

    data.load_set = load_anything

    # Tracebacks: a damaged file raises whatever its parser raises.
    winner.read_winner = lambda path: tomllib.loads(path.read_text())
"""
"""One fault of each kind."""
FOUND = (
    ("flips/scores", "mixed"),
    ("names/dataset option", "mixed"),
    ("kills/run", "lost"),
    ("kills/run", "left behind"),
    ("kills/run", "secrets"),
    ("files/npz", "executed"),
    ("files/winner", "tracebacks"),
)


def faults(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=ROOT,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow(minutes=3)
def test_nothing_is_lost_and_every_kind_of_fault_would_be_found(tmp_path: Path) -> None:
    """In one test, so that the workspaces are made once."""
    only = ",".join(dict.fromkeys(name for name, _ in FOUND))
    given = {"breakage": BREAKAGE.strip(), "workspaces": tmp_path, "only": only}
    code, text = faults("-c", CAMPAIGNS.format(**given))
    assert code == 0, text
    sound, first, broken, second, _ = re.split(r"^end of campaigns (\d)$", text, flags=re.M)
    assert first == "0", sound
    (total,) = re.findall(r"^all +([\d,]+)((?: +0){6})$", sound, flags=re.M)
    assert int(total[0].replace(",", "")) > 350
    for campaign in ("kills run", "calls promote", "files record", "flips card", "names", "races"):
        assert f"\n{campaign}" in sound

    assert second == "1", broken
    for name, kind in FOUND:
        assert f"\n{kind}: {name}/" in broken, broken
        assert f"again: python -m tests.faults --seed 0 --only '{name}/" in broken


def test_an_unknown_campaign_is_named() -> None:
    code, text = faults("-m", "tests.faults", "--only", "nothing")
    assert code == 1
    assert (
        "--only nothing: expected one of kills, calls, blocked, files, flips, names, races" in text
    )
