"""The short form of `make faults`, and that it finds what it looks for."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BROKEN = """
import os, sys
from pathlib import Path
from tests.faults import __main__ as tool
from tests.faults import forked

warm_up = forked.warm_up

def broken():
    warm_up()
    {breakage}

forked.warm_up = broken
sys.argv = ["faults", "--short", "--only", "{only}"]
sys.exit(tool.main())
"""
BREAKAGE = """
    from bench.cli import console
    from bench.records import documents

    documents.digest = lambda content: "0" * 16
    console.for_terminal = lambda text: text
"""
"""A digest that holds for everything, and text that reaches the terminal as it is."""


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


def test_nothing_is_lost_mixed_left_behind_executed_or_told() -> None:
    code, text = faults("-m", "tests.faults", "--short")
    assert code == 0, text
    (total,) = re.findall(r"^all +([\d,]+)((?: +0){6})$", text, flags=re.M)
    assert int(total[0].replace(",", "")) > 700
    for campaign in ("kills run", "calls promote", "files record", "flips card", "names", "races"):
        assert f"\n{campaign}" in text


def test_it_finds_what_is_broken() -> None:
    wanted = {"flips/scores": "mixed", "names/protocol option": "mixed"}
    code, text = faults("-c", BROKEN.format(breakage=BREAKAGE.strip(), only=",".join(wanted)))
    assert code == 1, text
    for only, kind in wanted.items():
        assert f"\n{kind}: {only}/" in text, text
        assert f"again: python -m tests.faults --seed 0 --only '{only}/" in text


def test_an_unknown_campaign_is_named() -> None:
    code, text = faults("-m", "tests.faults", "--only", "nothing")
    assert code == 1
    assert "--only nothing: expected one of kills, calls, files, flips, names, races" in text
