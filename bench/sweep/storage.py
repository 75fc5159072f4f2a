"""Where studies are stored: SQLite under `mlruns/` by default, or a PostgreSQL database.

Optuna, like MLflow, creates its tables without a lock: two heads that start together leave a
broken file, or crash. A file is therefore created under a temporary name by one process at a time
and then renamed; on a server a lock is held while tables are created.
"""

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from bench.core.disk import failure_behind, storage_failed
from bench.core.errors import BadInput
from bench.core.locks import locked, use
from bench.core.paths import given_path
from bench.core.store import Store, sync_folder
from bench.core.text import require_hidden, without_secrets
from bench.sweep.heads import make_tables

FILE = "optuna.db"
_BUSY_SECONDS = 60
FAILURES = (SQLAlchemyError, optuna.exceptions.StorageInternalError, UnicodeDecodeError)
"""What a store that is damaged, full or away raises: SQLite's own message may quote odd bytes."""
_TABLES_LOCK = 0x62656E6368  # "bench": held while tables are made in a PostgreSQL database


class StudiesDamaged(BadInput):
    """A file of studies cannot be read; `why`, in a few words."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


def quiet_optuna() -> None:
    """Silence Optuna's message for each trial and its warnings about features used on purpose."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def open_storage(store: Store, address: str = "") -> RDBStorage:
    """The store of studies at `address`, or `mlruns/optuna.db`; creates its tables if needed.

    Raises a one-line BadInput, without the password, if it cannot be used.
    """
    quiet_optuna()
    url = checked_address(address) if address else _sqlite(store.mlruns / FILE)
    if url.get_backend_name() == "postgresql":
        return _on_server(url)
    path = given_path(url.database or "", "--storage").resolve()
    return _in_file(path)


def existing_storage(store: Store, address: str = "") -> RDBStorage | None:
    """The store of studies if it exists; None if it would have to be created."""
    if not address and not (store.mlruns / FILE).exists():
        return None
    if address and (url := checked_address(address)).get_backend_name() == "sqlite":
        path = given_path(url.database or "", "--storage").resolve()
        if not path.exists() or not path.stat().st_size:
            return None
    return open_storage(store, address)


def checked_address(address: str) -> URL:
    """Parse a database's address without opening it; BadInput if it cannot store a study."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        raise BadInput(
            "--storage: not an address; expected sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if url.get_backend_name() == "postgresql":
        require_hidden(address, "--storage")
        return url
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise BadInput(
            f"--storage: a study cannot live in {url.drivername}; expected sqlite:///FILE "
            "or postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    if not url.database or url.database == ":memory:":
        raise BadInput("--storage: a study in memory is lost with the command; give sqlite:///FILE")
    return url


def _sqlite(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


def _in_file(path: Path) -> RDBStorage:
    """A file with Optuna's tables and ours, created completely or not at all."""
    if path.is_dir():
        raise BadInput(f"--storage: {path} is a folder; expected sqlite:///FILE")
    busy: dict[str, object] = {"connect_args": {"timeout": _BUSY_SECONDS}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        use(path)
        with locked(path.with_name(f".{path.name}.lock")):
            if not path.exists() or not path.stat().st_size:
                _make(path)
            with _one_line(_sqlite(path)):
                storage = _connect(_sqlite(path), busy)
                make_tables(storage.engine)
    except OSError as error:
        raise storage_failed(error, "write the studies", path) from None
    return storage


def _make(path: Path) -> None:
    building = path.with_name(f".new-{path.name}")
    for leftover in path.parent.glob(f"{building.name}*"):
        leftover.unlink()
    with _one_line(_sqlite(building)):
        made = _connect(_sqlite(building), {})
        make_tables(made.engine)
    made.engine.dispose()
    building.replace(path)
    sync_folder(path.parent)


def _on_server(url: URL) -> RDBStorage:
    """A server's database; heads that start together create its tables one after the other."""
    if url.drivername == "postgresql" and importlib.util.find_spec("psycopg") is not None:
        url = url.set(drivername="postgresql+psycopg")
    with _one_line(url):
        guard = create_engine(url)
        with guard.connect() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TABLES_LOCK})
            storage = _connect(url, {"pool_pre_ping": True})
            make_tables(storage.engine)
            connection.rollback()
        guard.dispose()
    return storage


def _connect(url: URL, options: dict[str, object]) -> RDBStorage:
    # Optuna formats {SCHEMA_VERSION} into the address: double the braces of a path.
    address = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    return RDBStorage(address, engine_kwargs=options)


@contextlib.contextmanager
def _one_line(url: URL) -> Iterator[None]:
    """Turn errors of opening a store into a one-line BadInput, without the password."""
    try:
        yield
    except (ImportError, NoSuchModuleError):
        shown = without_secrets(url.render_as_string(hide_password=True))
        raise BadInput(
            f"--storage {shown}: no driver for {url.get_backend_name()} is installed; install one "
            "(pip install 'psycopg[binary]', or this package with [postgres])"
        ) from None
    except (RuntimeError, *FAILURES) as error:
        if url.get_backend_name() == "sqlite":
            raise _unusable(url, error) from None
        raise _server_failed(url, error) from None


_DAMAGE = (
    *FAILURES,
    optuna.exceptions.OptunaError,
    LookupError,
    ValueError,
    TypeError,
    AssertionError,
    RuntimeError,
)


def using_studies(storage: RDBStorage) -> AbstractContextManager[None]:
    """Turn errors of the store in the block into a one-line BadInput."""
    return _explained(storage, FAILURES)


def reading_studies(storage: RDBStorage) -> AbstractContextManager[None]:
    """Turn what a damaged file makes Optuna raise into a one-line BadInput.

    A flipped bit is found by SQLite, by SQLAlchemy (a state that does not exist), or by Optuna (a
    text that is no JSON), wherever it is first read.
    """
    return _explained(storage, _DAMAGE)


@contextlib.contextmanager
def _explained(storage: RDBStorage, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        if storage.engine.dialect.name == "sqlite":
            raise _unusable(storage.engine.url, error) from None
        if not isinstance(error, FAILURES):
            raise
        raise _server_failed(storage.engine.url, error) from None


def _server_failed(url: URL, error: Exception) -> BadInput:
    shown = without_secrets(url.render_as_string(hide_password=True))
    return BadInput(
        f"--storage {shown} cannot be used: {_reason(error)}; start it, or fix the address"
    )


def _unusable(url: URL, error: Exception) -> BadInput:
    """The one line for a file of studies: about the disk, a busy file, or damage."""
    path = Path(str(url.database))
    if (found := failure_behind(error)) is not None:
        return storage_failed(found, "write the studies", path)
    if "locked" in (why := _reason(error)):
        return BadInput(f"the studies in {path} are busy: {why}; wait for the other command")
    cure = _CURE if path.name == FILE else _OWN_CURE
    return StudiesDamaged(f"the studies in {path} cannot be used: {why}; {cure}", why)


_CURE = "`bench doctor --fix` puts the file aside and rebuilds it from the results on disk"
_OWN_CURE = "give another file with --storage (results of finished runs stay)"


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error  # Optuna's own text says only that something failed
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return without_secrets(lines[0] if lines else type(error).__name__)
