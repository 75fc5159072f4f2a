"""MLflow's local SQLite file: created completely, checked quickly, updated when its folder moves.

MLflow itself creates its tables without a lock: two processes that start together, or a kill in
the first second, leave a file that never opens again. The file is therefore created under a
temporary name by one process at a time and renamed when it is complete.
"""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from bench.core.disk import StorageFailed, failure_behind, storage_failed
from bench.core.errors import BadInput
from bench.core.locks import locked, use
from bench.core.store import Store, sync_folder
from bench.tracking.address import Address, find_address, local_address

_log = logging.getLogger("bench.tracking")
_BUSY_SECONDS = 2.0
_FAILURES = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What a damaged file raises: SQLite's message may quote bytes of it that are no text."""
_TABLES_BYTES = 1_200_000
"""MLflow's empty tables, about."""
_SUFFIXES = ("", "-journal", "-wal", "-shm")
_PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""Where MLflow stores absolute paths; after a move they still name the old folder."""


def prepared_address(store: Store) -> Address:
    """Find the address and, if it is a local file, make sure that it exists and is usable."""
    address = find_address(store)
    if address.database:
        prepare_database(address.database, store.artifacts)
        follow_move(address, store)
    return address


def is_own(address: Address, store: Store) -> bool:
    """Whether it is the workspace's own file."""
    return address.database is not None and address.database.parent == store.mlruns


def follow_move(address: Address, store: Store, *, fix: bool = True) -> int:
    """Update the paths in the workspace's own database after a move; returns how many.

    A busy database is left to a later command. Raises BadInput for a damaged one.
    """
    if address.database is None or not is_own(address, store):
        return 0
    try:
        moved = relocate(address.database, store.artifacts, fix=fix)
    except _FAILURES as error:
        if _is_busy(error):
            return 0
        raise _unusable(address.database, error) from None
    if moved and fix:
        _log.info("the workspace was moved: %d paths in MLflow's store follow it", moved)
    return moved


def prepare_database(database: Path, artifacts: Path) -> None:
    """Create the file with MLflow's tables if missing, and check that it can be used.

    Raises a one-line BadInput within seconds, where MLflow would retry for 102 s.
    """
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        use(database)
        if not _is_whole(database):
            with locked(database.with_name(f".{database.name}.lock")):
                _make(database, artifacts)
    except OSError as error:
        raise storage_failed(error, "write MLflow's store", database) from None
    except Exception as error:  # SQLAlchemy's and MLflow's
        if (behind := failure_behind(error)) is None:
            raise
        raise storage_failed(behind, "write MLflow's store", database, _TABLES_BYTES) from None
    _prove_writable(database)


def _make(database: Path, artifacts: Path) -> None:
    """Create the file under the lock; a creation that was killed half-way starts again."""
    if _is_whole(database):
        return
    if database.exists() and database.stat().st_size:
        aside = database.with_name(f"{database.name}.broken-{time.strftime('%Y%m%d-%H%M%S')}")
        database.rename(aside)
    building = database.with_name(f".new-{database.name}")
    _remove(building)
    try:
        _create_tables(building, artifacts)
    except BaseException:
        _remove(building)
        raise
    with building.open("rb+") as stream:
        stream.flush()
    building.replace(database)
    sync_folder(database.parent)


def _create_tables(path: Path, artifacts: Path) -> None:
    """Create all of MLflow's tables, and the Default experiment that it requires, in a new file."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(local_address(path).uri, artifacts.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_whole(database: Path) -> bool:
    """Whether the file has MLflow's tables at a finished migration.

    Raises BadInput for a file that is not an SQLite database, or one that holds runs but is
    incomplete: that is user data, which must not be replaced.
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
    except _FAILURES as error:
        if _is_busy(error):
            return True
        raise _unusable(database, error) from None
    if finished and (has_home or has_runs):
        return True
    if has_runs or (tables and "experiments" not in tables):
        raise _unusable(database, "it is not a complete MLflow store")
    return False


def _is_busy(error: Exception) -> bool:
    return "locked" in str(error)


def _unusable(database: Path, why: Exception | str) -> BadInput:
    if isinstance(why, sqlite3.Error) and (found := failure_behind(why)) is not None:
        return storage_failed(found, "write MLflow's store", database)
    return BadInput(
        f"MLflow's store {database} cannot be used: {why}; `bench doctor --fix` puts a damaged "
        "store of the workspace aside and rebuilds it from the records"
    )


def _prove_writable(database: Path) -> None:
    """Begin a write and roll it back. A busy store is left to MLflow's own retries."""
    try:
        with _open(database) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE alembic_version SET version_num = version_num")
            connection.execute("ROLLBACK")
    except _FAILURES as error:
        if not _is_busy(error):
            raise _unusable(database, error) from None


@contextlib.contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing file; the first reader rolls back a transaction cut off by a kill."""
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


def damage_of(database: Path) -> str:
    """Why an MLflow file cannot be used, in a few words; "" if it can, is busy, or is missing."""
    if not database.exists() or database.stat().st_size == 0:
        return ""
    try:
        with _open(database) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            return " ".join(found.split())
        return "" if _is_whole(database) else "it is not complete"
    except _FAILURES as error:
        if failure_behind(error) is not None:
            raise _unusable(database, error) from None
        return "" if _is_busy(error) else str(error)
    except StorageFailed:
        raise
    except BadInput as error:
        return str(error)


def files_of(database: Path) -> list[Path]:
    """The file and those that SQLite keeps beside it."""
    found = [database.with_name(database.name + suffix) for suffix in _SUFFIXES]
    return [path for path in found if path.exists()]


def relocate(database: Path, artifacts: Path, *, fix: bool = True) -> int:
    """Rewrite the paths that MLflow stored, after the workspace was moved or copied.

    A path is rewritten if its target exists here, or no longer exists at the old place; paths
    that the user chose elsewhere are kept. All in one transaction; returns the rows changed, or,
    without `fix`, the paths to change.
    """
    here = artifacts.as_uri()
    changed = 0
    with _open(database) as connection:
        for table, column in _PATH_COLUMNS:
            rows = connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
            moves = [(new, old) for (old,) in rows if (new := _new_place(old, here))]
            if not fix:
                changed += len(moves)
            elif moves:
                if not connection.in_transaction:
                    connection.execute("BEGIN IMMEDIATE")
                for new, old in moves:
                    changed += connection.execute(
                        f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old)
                    ).rowcount
        if connection.in_transaction:
            connection.execute("COMMIT")
    return changed


def _new_place(location: str | None, here: str) -> str | None:
    """The new place of a location under some `mlruns/artifacts`; None if it stays as it is."""
    if not location or not location.startswith("file:"):
        return None
    head, found, tail = f"{location}/".rpartition("/mlruns/artifacts/")
    if not found or f"{head}/mlruns/artifacts" == here:
        return None
    new = f"{here}/{tail}".rstrip("/")
    return new if _path(new).exists() or not _path(location).exists() else None


def _path(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))
