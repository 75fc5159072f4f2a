"""The short form of `make faults`, and, among the slow tests, that it finds what it looks for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BROKEN = """
import sys
from tests.faults import __main__ as tool

def break_bench():
    {breakage}

sys.argv = ["faults", "--short", "--only", "{only}", "--workspaces", "{workspaces}"]
make_templates = tool.make_templates

def then_break(place):
    made = make_templates(place)
    break_bench()
    return made

tool.make_templates = then_break
sys.exit(tool.main())
"""
"""The workspaces are made by sound commands."""
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
    ("names/fetched set", "mixed"),
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


def test_nothing_is_lost_in_the_short_form() -> None:
    code, sound = faults("-m", "tests.faults", "--short")
    assert code == 0, sound
    (total,) = re.findall(r"^all +([\d,]+)((?: +0){6})$", sound, flags=re.M)
    assert int(total[0].replace(",", "")) > 100
    assert "left out" not in sound
    for campaign in ("kills run", "calls run", "files record", "flips card", "names", "races"):
        assert f"\n{campaign}" in sound


@pytest.mark.slow(minutes=2)
def test_every_kind_of_fault_would_be_found(tmp_path: Path) -> None:
    only = ",".join(dict.fromkeys(name for name, _ in FOUND))
    given = {"breakage": BREAKAGE.strip(), "workspaces": tmp_path, "only": only}
    code, broken = faults("-c", BROKEN.format(**given))
    assert code == 1, broken
    for name, kind in FOUND:
        assert f"\n{kind}: {name}/" in broken, broken
        assert f"again: python -m tests.faults --seed 0 --only '{name}/" in broken


def test_tries_that_are_left_out_are_counted(tmp_path: Path) -> None:
    call = (
        "import sys; from tests.faults import __main__ as tool, ground; "
        "sys.argv = ['faults', '--minutes', '0', '--jobs', '1', '--workspaces', sys.argv[1]]; "
        "tool.make_templates = tool.forked.warm_up = lambda *_: None; "
        "made = [ground.Try(f'files/x/{n}', lambda g: None) for n in range(1500)]; "
        "tool._tries = lambda *_: made; "
        "sys.exit(tool.main())"
    )
    code, text = faults("-c", call, str(tmp_path))
    assert code == 0, text
    assert "\n1 of 1,500 tries; 1,499 were left out when the time was up\n" in text


def test_an_unknown_campaign_is_named() -> None:
    code, text = faults("-m", "tests.faults", "--only", "nothing")
    assert code == 1
    assert (
        "--only nothing: expected one of kills, calls, blocked, files, flips, names, races" in text
    )
