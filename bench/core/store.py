"""Where results are stored on disk, and atomic file writes.

The root is `BENCH_HOME`, else the nearest workspace of bench among the current folder and its
parents, else the current folder. A command therefore finds the same store from every sub-folder of
a clone, and never writes into the `mlruns/` of another project.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core.disk import NotWritten, naming, storage_failed
from bench.core.errors import BadInput, CheckFailed
from bench.core.locks import claim
from bench.core.paths import given_path

_MARK = ".bench"
_UNMARKED = (".gitkeep", "logs", "locks", "registry.change")
_MARK_TEXT = b"A workspace of bench, the benchmark for image autoencoders.\n"


@dataclass(frozen=True)
class Store:
    """The folders of one workspace; all paths are absolute."""

    root: Path
    staging: Path | None = None
    """A copy of `registry/` and README.md, while a command changes them (registry/changes.py)."""

    @property
    def committed(self) -> Path:
        """The folder that holds `registry/` and README.md: the root, or the copy."""
        return self.staging or self.root

    @property
    def mlruns(self) -> Path:
        """Everything generated that is never committed."""
        return self.root / "mlruns"

    @property
    def records(self) -> Path:
        """One folder per finished run: the durable result."""
        return self.mlruns / "records"

    @property
    def checkpoints(self) -> Path:
        """One file per unfinished run, from which its training resumes."""
        return self.mlruns / "checkpoints"

    @property
    def artifacts(self) -> Path:
        """What MLflow stores outside its database."""
        return self.mlruns / "artifacts"

    @property
    def locks(self) -> Path:
        """One file per run that a command is training."""
        return self.mlruns / "locks"

    @property
    def costs(self) -> Path:
        """Training speeds measured on this machine."""
        return self.mlruns / "costs.json"

    @property
    def registry(self) -> Path:
        """The committed results and champions."""
        return self.committed / "registry"

    def prepare(self) -> "Store":
        """Create the folders, check that they are writable and mark the workspace as ours.

        Raises BadInput if they are not writable, or if `mlruns/` is another program's.
        """
        if not is_workspace(self.root) and _is_foreign(self.mlruns):
            raise BadInput(
                f"{self.mlruns} was made by another program (bench keeps its results in a "
                "folder of that name); run bench in another folder, or set BENCH_HOME to one"
            )
        for folder in (self.mlruns, self.records, self.checkpoints, self.artifacts, self.locks):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                failed = NotWritten.of(error, folder)
                raise storage_failed(failed, "write to the store", folder) from None
        if not (self.mlruns / _MARK).exists():
            write_atomically(self.mlruns / _MARK, _MARK_TEXT)
        return self


def is_workspace(folder: Path) -> bool:
    """Whether a folder is a workspace: marked, a clone, or made by a version without marks."""
    mlruns = folder / "mlruns"
    clone = (folder / "registry" / "results.csv").is_file() and mlruns.is_dir()
    return clone or (mlruns / _MARK).is_file() or (mlruns / "records").is_dir()


def _is_foreign(mlruns: Path) -> bool:
    """Whether `mlruns/` holds more than commands leave there that need no workspace."""
    try:
        return any(path.name not in _UNMARKED for path in mlruns.iterdir())
    except OSError:  # not there, or unreadable: making the folders says so
        return False


def shipped() -> Store:
    """The store whose `registry/` is the one committed with bench: in the installed package, else
    in the checkout. Only to be read."""
    package = Path(__file__).parent.parent
    packed = package / "committed"
    return Store(packed if packed.is_dir() else package.parent)


def is_shipped(store: Store) -> bool:
    """Whether a store's `registry/` is the one committed with bench: that of a checkout."""
    return shipped().registry.resolve() == store.registry.resolve()


def open_store() -> Store:
    """Find the workspace as described at the top of this module; writes nothing.

    Raises BadInput if BENCH_HOME is not a folder.
    """
    home = os.environ.get("BENCH_HOME")
    if home:
        root = given_path(home, "BENCH_HOME").resolve()
        if root.exists() and not root.is_dir():
            raise BadInput(f"BENCH_HOME is {root}, which is not a folder; set it to a folder")
        return Store(root)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if is_workspace(folder):
            return Store(folder)
    return Store(here)


def child(root: Path, *names: str) -> Path:
    """`root` joined with names that come from a file or from a person.

    Raises BadInput if the path, symbolic links resolved, is not below `root`.
    """
    path = root.joinpath(*names)
    try:
        base, inside = root.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError):
        base = inside = root
    if inside == base or not inside.is_relative_to(base):
        raise BadInput(f"{'/'.join(names)!r} does not name a place below {root}; nothing was done")
    return path


def to_hint(reference: str, root: Path) -> str:
    """A data set's reference as stored: `folder:./photos` for a path inside the workspace, so that
    a moved workspace finds it again; other references are unchanged."""
    kind, colon, path = reference.partition(":")
    if colon and Path(path).is_relative_to(root):
        return f"{kind}:./{Path(path).relative_to(root).as_posix()}"
    return reference


def from_hint(hint: str, root: Path) -> str:
    """The reference that `to_hint` stored, in the workspace where it is now."""
    kind, colon, path = hint.partition(":")
    return f"{kind}:{root / path[2:]}" if colon and path.startswith("./") else hint


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` completely or not at all, even on a power failure.

    Raises NotWritten, with the bytes that were needed, and CheckFailed if a folder is there.
    """
    if path.is_dir():
        raise CheckFailed(f"{path} is a folder, expected a file; move it away")
    with naming(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, building = _new_file(path)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
                # mkstemp sets mode 0600; results should be readable by everyone with access to
                # the folder.
                building.chmod(0o644)
                if os.name != "nt":  # Windows renames no open file
                    building.replace(path)
            if os.name == "nt":
                building.replace(path)
        except BaseException:
            building.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _new_file(path: Path) -> tuple[int, Path]:
    """A temporary file beside `path`, open, and ours as long as it is."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        if claim(handle, Path(name)):
            return handle, Path(name)
        os.close(handle)


_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")


def is_temporary(name: str) -> bool:
    """Whether `write_atomically` gives such names to files that are not complete."""
    return _TEMPORARY.fullmatch(name) is not None


@contextlib.contextmanager
def new_folder(beside: Path, prefix: str) -> Iterator[Path]:
    """A temporary folder beside a path, ours until the block ends (see `locks.abandoned`)."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=beside.parent, prefix=prefix))
        if os.name == "nt":
            yield folder
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            if claim(handle, folder):
                yield folder
                return
        finally:
            os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make renames within a folder durable (not possible on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def writing_to(
    what: str, folder: Path | None = None, setting: str = "BENCH_HOME"
) -> Iterator[None]:
    """Turn an OSError while writing (disk full, no permission) into a one-line StorageFailed.

    `folder` is where (none: the workspace), `setting` the variable that chooses another one.
    """
    try:
        yield
    except OSError as error:
        place = folder or open_store().root
        raise storage_failed(error, f"write {what}", place, setting=setting) from None
