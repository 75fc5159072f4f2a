"""Where studies live: SQLite under `mlruns/` by default, or any address that Optuna takes.

Optuna makes its tables without a lock, as MLflow does: two heads that start together leave a
broken file. So a file is made under a temporary name by one process at a time, and renamed.
"""

import importlib.util
import warnings
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from bench.errors import BadInput
from bench.store import Store, sync_folder
from bench.tracking.database import lock_file

_BUSY_SECONDS = 60


def quiet_optuna() -> None:
    """Optuna speaks on stderr of every trial and warns of what we use on purpose."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def open_storage(store: Store, address: str = "") -> RDBStorage:
    """The store of studies at `address`, or `mlruns/optuna.db`; its tables are made if need be.

    Raises BadInput in one line, without the password, where it cannot be used.
    """
    quiet_optuna()
    url = _parsed(address) if address else _sqlite(store.mlruns / "optuna.db")
    if url.get_backend_name() != "sqlite":
        return _connect(url, {})
    if not url.database or url.database == ":memory:":
        raise BadInput("--storage: a study in memory is lost with the command; give sqlite:///FILE")
    path = Path(url.database).expanduser().resolve()
    _make_once(path)
    return _connect(_sqlite(path), {"connect_args": {"timeout": _BUSY_SECONDS}})


def is_local(store: Store, address: str) -> bool:
    """Whether the studies are this workspace's own file, which its own lock files guard."""
    if not address:
        return True
    url = _parsed(address)
    return url.get_backend_name() == "sqlite" and Path(str(url.database)).resolve() == (
        store.mlruns / "optuna.db"
    )


def _sqlite(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


def _parsed(address: str) -> URL:
    try:
        return make_url(address)
    except ArgumentError:
        raise BadInput(
            "--storage: that is no address; expected sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None


def _make_once(path: Path) -> None:
    """A file with Optuna's tables, whole or not there at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(path.with_name(f".{path.name}.lock")):
            if path.exists() and path.stat().st_size:
                return
            building = path.with_name(f".new-{path.name}")
            for leftover in path.parent.glob(f"{building.name}*"):
                leftover.unlink()
            made = _connect(_sqlite(building), {})
            made.engine.dispose()
            building.replace(path)
            sync_folder(path.parent)
    except OSError as error:
        raise BadInput(
            f"cannot write the studies at {path}: {error.strerror or error}; make its folder "
            "writable or give another --storage"
        ) from None


def _connect(url: URL, extra: dict[str, object]) -> RDBStorage:
    # Optuna fills a {SCHEMA_VERSION} into the address: braces of a path are doubled.
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    shown = url.render_as_string(hide_password=True)
    try:
        return RDBStorage(text, engine_kwargs={"pool_pre_ping": True, **extra})
    except (ImportError, NoSuchModuleError):
        kind = url.get_backend_name()
        hint = "pip install 'psycopg[binary]'" if kind == "postgresql" else "see its manual"
        wanted = url.set(drivername="postgresql+psycopg") if kind == "postgresql" else url
        where = "" if importlib.util.find_spec("psycopg") is None else f" and give {wanted}"
        raise BadInput(
            f"--storage {shown}: there is no driver for {kind} here; install one ({hint}){where}"
        ) from None
    except (SQLAlchemyError, RuntimeError, optuna.exceptions.StorageInternalError) as error:
        why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise BadInput(
            f"--storage {shown} cannot be used: {why}; start it, mend the address, or move the "
            "file away"
        ) from None
