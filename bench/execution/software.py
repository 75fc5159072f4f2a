"""Which code of bench runs here: a digest of its files, and the commit that they are of."""

import functools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bench
from bench.core.identity import digest, sha256_of_file

_CODE = ("*.py", "*.toml")


@dataclass(frozen=True)
class Software:
    """The code of a process.

    `digest`: 16 hexadecimal digits that change with any Python or TOML file of the package.
    `commit`: that of the checkout, with `+` if files of the package were changed since; empty if
    they are in no git repository, as those of an installed package.
    """

    digest: str
    commit: str

    @property
    def uncommitted(self) -> bool:
        """Whether nobody else can get this code by its commit."""
        return self.commit.endswith("+")


_adopted: list[Software] = []


def running_software() -> Software:
    """The code of this process: read on first use, or what the head read that started it."""
    return _adopted[0] if _adopted else _read()


def adopt(software: Software) -> None:
    """In a worker: take what its head has read, so that a hundred workers ask git once, and later
    changes of the files are not taken for the code that runs."""
    _adopted[:] = [software]


@functools.cache
def _read() -> Software:
    package = Path(bench.__file__).resolve().parent
    return Software(digest_of(package), commit_of(package))


def digest_of(package: Path) -> str:
    """The digest of the Python and TOML files below a folder, by relative path and content."""
    files = sorted(path for pattern in _CODE for path in package.rglob(pattern) if path.is_file())
    return digest({path.relative_to(package).as_posix(): sha256_of_file(path) for path in files})


def commit_of(package: Path) -> str:
    """The commit of a folder with code, with `+` if it was changed since; empty without git, and
    for a folder that git does not track (an installation within somebody's repository)."""
    ask: Callable[..., subprocess.CompletedProcess[str]] = functools.partial(
        subprocess.run, cwd=package, capture_output=True, text=True, check=False
    )
    try:
        tracked = ask(["git", "ls-files", "--error-unmatch", "__init__.py"])
        commit = ask(["git", "rev-parse", "--short=12", "HEAD"])
        changed = ask(["git", "--no-optional-locks", "status", "--porcelain", "--", "."])
    except OSError:
        return ""
    if tracked.returncode or commit.returncode:
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
