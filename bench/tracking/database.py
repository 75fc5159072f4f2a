"""The local SQLite file of MLflow: made once whole, probed quickly, moved with its folder.

MLflow itself makes its tables without a lock: two processes that start together, or a kill in
the first second, leave a file that never opens again. So the file is made under a temporary name
by one process at a time and renamed when it is complete.
"""

import contextlib
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from bench.errors import BadInput
from bench.store import sync_folder
from bench.tracking.address import local_address

_BUSY_SECONDS = 2.0
_PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""Where MLflow keeps absolute paths; after a move they still name the old folder."""


def prepare_database(database: Path, artifacts: Path) -> None:
    """Make the file with MLflow's tables if it is not there, and prove that it can be used.

    Raises BadInput in one line, within seconds, where MLflow would try for 102 s.
    """
    if "?" in str(database):
        raise BadInput(f"the path {database} holds a '?', which MLflow cannot open; rename it")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        if not _is_whole(database):
            with lock_file(database.with_name(f".{database.name}.lock")):
                _make(database, artifacts)
    except OSError as error:
        raise BadInput(
            f"cannot write MLflow's store at {database}: {error.strerror or error}; make its "
            "folder writable or set BENCH_HOME to one that is"
        ) from None
    _prove_writable(database)


def _make(database: Path, artifacts: Path) -> None:
    """Create the file under the lock; a first start that was killed half-way is started again."""
    if _is_whole(database):
        return
    if database.exists() and database.stat().st_size:
        aside = database.with_name(f"{database.name}.broken-{time.strftime('%Y%m%d-%H%M%S')}")
        database.rename(aside)
    building = database.with_name(f".new-{database.name}")
    _remove(building)
    _create_tables(building, artifacts)
    with building.open("rb+") as stream:
        stream.flush()
    building.replace(database)
    sync_folder(database.parent)


def _create_tables(path: Path, artifacts: Path) -> None:
    """All of MLflow's tables, and the Default experiment that it wants, in a new file."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(local_address(path).uri, artifacts.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_whole(database: Path) -> bool:
    """Whether the file has MLflow's tables at a finished migration.

    Raises BadInput for a file that is no SQLite data base, or one that holds runs without being
    whole: that is somebody's data, and not ours to replace.
    """
    if not database.exists() or database.stat().st_size == 0:
        return False
    try:
        with _open(database) as connection:
            tables = {
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                )
            }
            finished = "alembic_version" in tables and (
                connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0] == 1
            )
            has_home = "experiments" in tables and (
                connection.execute("SELECT count(*) FROM experiments").fetchone()[0] > 0
            )
            has_runs = "runs" in tables and (
                connection.execute("SELECT count(*) FROM runs").fetchone()[0] > 0
            )
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return True
        raise _unusable(database, error) from None
    except sqlite3.DatabaseError as error:
        raise _unusable(database, error) from None
    if finished and (has_home or has_runs):
        return True
    if has_runs or (tables and "experiments" not in tables):
        raise _unusable(database, "it is not a complete MLflow store")
    return False


def _unusable(database: Path, why: object) -> BadInput:
    return BadInput(
        f"MLflow's store {database} cannot be used: {why}; move the file away and repeat the "
        "command (records are kept beside it, and `bench sync` tells a new store all of them)"
    )


def _prove_writable(database: Path) -> None:
    """Begin a write and take it back. A store that is busy is left to MLflow's own patience."""
    try:
        with _open(database) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE alembic_version SET version_num = version_num")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise _unusable(database, error) from None
    except sqlite3.DatabaseError as error:
        raise _unusable(database, error) from None


@contextlib.contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    """An existing file; a transaction that a kill cut off is rolled back by the first reader."""
    connection = sqlite3.connect(
        f"file:{quote(str(database))}?mode=rw",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
    )
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold a file's lock; it is given back by the system when its holder dies."""
    with path.open("a+b") as stream:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK, 1)
            yield
            return
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def moved_from(database: Path, artifacts: Path) -> list[str]:
    """Artifact folders that the file names and that are not where `artifacts` is now.

    Only folders that lie under an `artifacts` of another place count; a location that somebody
    chose elsewhere (an object store, an experiment of another tool) is left alone.
    """
    here = artifacts.as_uri()
    old: set[str] = set()
    with _open(database) as connection:
        for table, column in _PATH_COLUMNS:
            for (value,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):
                base = _artifact_base(value)
                if base and base != here:
                    old.add(base)
    return sorted(old)


def _artifact_base(location: str | None) -> str | None:
    """`file:///x/mlruns/artifacts` of a location below it; None for anything else."""
    if not location or not location.startswith(("file:", "/")):
        return None
    head, found, _ = (location + "/").rpartition("/mlruns/artifacts/")
    return f"{head}/mlruns/artifacts" if found else None


def relocate(database: Path, artifacts: Path) -> int:
    """Rewrite paths of a folder that was moved, in one transaction; the number of rows changed.

    A place that still exists is somebody's other workspace, and is left alone.
    """
    changed = 0
    for old in moved_from(database, artifacts):
        if Path(old.removeprefix("file://")).exists():
            continue
        with _open(database) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for table, column in _PATH_COLUMNS:
                cursor = connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR {column} LIKE ? ESCAPE '\\'",
                    (artifacts.as_uri(), len(old) + 1, old, _like_prefix(old)),
                )
                changed += cursor.rowcount
            connection.execute("COMMIT")
    return changed


def _like_prefix(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}/%"
