"""Several commands in one process of their own, which imports what they need once."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_CODE = """
import json, sys
from bench.cli import main
sys.path.insert(0, "tests")
from warm import warm_workers

warm_workers()
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["bench", *arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    loaded = " ".join(name for name in {libraries} if name in sys.modules)
    print("end of", arguments, "code", code, "loaded", loaded, file=sys.stderr, flush=True)
"""


class Ended(NamedTuple):
    """The exit code of each command, what was printed, and which of the libraries were imported:
    after all of them, and after each."""

    codes: list[int]
    said: str
    loaded: str
    each: list[str]


def run_all(
    commands: Sequence[Sequence[str]], libraries: Sequence[str] = (), **environment: str
) -> Ended:
    """Run `bench ARGUMENTS` one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(libraries=tuple(libraries)), json.dumps(commands)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=240,
        check=False,
    )
    ends = re.findall(r"^end of .* code (.*) loaded (.*)$", done.stderr, flags=re.M)
    assert len(ends) == len(commands), done.stderr
    said = done.stdout + re.sub(r"^end of .*\n", "", done.stderr, flags=re.M)
    return Ended([int(code) for code, _ in ends], said, ends[-1][1], [loaded for _, loaded in ends])
