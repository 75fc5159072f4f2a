"""Several heads on one study: two tables beside Optuna's record which head has which trial.

A head claims one of the N trials before it asks Optuna for a point, then binds the claim to the
point, and keeps the claim when the trial ends; a trial that does not count releases it. So exactly
N trials end and no point is trained twice, however many heads there are.

| table        | row                                                                          |
|--------------|------------------------------------------------------------------------------|
| bench_heads  | a living head: when it last renewed its lease, by the database's clock       |
| bench_claims | a claim: its head, the point (a fingerprint), the trial, whether it ended    |

A head whose process is gone, or that did not renew its lease for LEASE_SECONDS, loses its claims
to the first head that notices. If it was only suspended, it learns of this when it resumes: Optuna
ends each trial only once, so its late result is refused.
"""

import contextlib
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from bench.core.errors import BadInput
from bench.core.locks import locked
from bench.core.owners import owner, owner_state

LEASE_SECONDS = 60.0
"""How long a head on another machine may be silent before its trials are taken over."""
_RENEW_SECONDS = 10.0
_FROZEN = 5
"""A silent process that still exists on this machine gets this many times as long: after a laptop
wakes up, all of its heads are late."""
_PATIENCE_SECONDS = 180.0

_log = logging.getLogger("bench.sweep")
T = TypeVar("T")
_METADATA = sa.MetaData()
_HEADS = sa.Table(
    "bench_heads",
    _METADATA,
    sa.Column("head", sa.String(255), primary_key=True),
    sa.Column("study", sa.String(512), nullable=False),
    sa.Column("seen", sa.Float(53), nullable=False),
)
_CLAIMS = sa.Table(
    "bench_claims",
    _METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("study", sa.String(512), nullable=False, index=True),
    sa.Column("head", sa.String(255), nullable=False),
    sa.Column("point", sa.String(64), nullable=False),
    sa.Column("trial", sa.Integer),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.UniqueConstraint("study", "point"),
)


class ClaimLost(Exception):
    """Another head has taken the trial over; its result here does not count."""


@dataclass(frozen=True)
class Claim:
    """A claim to one trial of a study; `trial` None: not bound to a point yet."""

    id: str
    head: str
    trial: int | None
    done: bool


def make_tables(engine: sa.Engine) -> None:
    """Add our tables if they are missing; the caller holds a lock."""
    _METADATA.create_all(engine)


class Heads:
    """This head and the others of a study. As a context it renews its lease until it leaves."""

    def __init__(self, storage: RDBStorage, study: str, who: str = "") -> None:
        self.me = f"{who or owner()}#{secrets.token_hex(4)}"
        self.study = study
        self.others_at_start = 0
        self._engine = storage.engine
        self._postgres = self._engine.dialect.name == "postgresql"
        self._over = threading.Event()
        self._renewing: threading.Thread | None = None
        self.patiently(self._renew)

    def __enter__(self) -> "Heads":
        self.others_at_start = len(self.patiently(self.living)) - 1
        self._renewing = threading.Thread(target=self._keep_renewing, daemon=True)
        self._renewing.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._renewing is not None:
            self._renewing.join(timeout=5)
        with contextlib.suppress(SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(sa.delete(_HEADS).where(_HEADS.c.head == self.me))
            connection.execute(sa.delete(_CLAIMS).where(self._closing(), _CLAIMS.c.head == self.me))

    def _keep_renewing(self) -> None:
        """Keep trying while the store is away: the lease may expire, then other heads take over."""
        while not self._over.wait(_RENEW_SECONDS):
            try:
                self._renew()
            except SQLAlchemyError as error:
                _log.debug("could not renew the lease: %s", error)

    def _renew(self) -> None:
        with self._engine.begin() as connection:
            now = self._now(connection)
            mine = _HEADS.c.head == self.me
            if connection.execute(sa.update(_HEADS).where(mine).values(seen=now)).rowcount == 0:
                row = {"head": self.me, "study": self.study, "seen": now}
                connection.execute(sa.insert(_HEADS).values(row))

    def _now(self, connection: sa.Connection) -> float:
        """Seconds by a clock that all heads share: the server's, or this machine's for a file."""
        if not self._postgres:
            return time.time()
        return float(
            connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        )

    def patiently(self, work: Callable[[], T]) -> T:
        """Do `work` in the store; retry while its server is away.

        Workers continue meanwhile. Raises BadInput after three minutes.
        """
        begun = time.monotonic()
        while True:
            try:
                return work()
            except (
                OperationalError,
                InterfaceError,
                optuna.exceptions.StorageInternalError,
            ) as error:
                why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
                # A file has no server to wait for.
                if not self._postgres and "locked" not in why:
                    raise
                waited = time.monotonic() - begun
                if waited > _PATIENCE_SECONDS:
                    raise BadInput(
                        f"the store of study {self.study} is away ({why}); start it and repeat "
                        "the command, which then resumes"
                    ) from None
                if waited < 1:
                    _log.warning("the store of the study is away (%s); trying again", why)
                time.sleep(0.5)

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Be the only head of the store that asks for trials or recovers; do not nest."""
        if not self._postgres:
            path = Path(str(self._engine.url.database))
            with locked(path.with_name(f".{path.name}.heads")):
                yield
            return
        connection = self._engine.connect()
        try:
            # A head suspended here loses the lock; its claims then protect against its writes.
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = '60s'"))
            key = int.from_bytes(hashlib.sha256(self.study.encode()).digest()[:8], signed=True)
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield
        finally:
            with contextlib.suppress(SQLAlchemyError):
                connection.rollback()
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    @contextlib.contextmanager
    def _counting(self) -> Iterator[sa.Connection]:
        """A transaction during which the number of claims cannot change."""
        with self._engine.begin() as connection:
            if self._postgres:  # SQLite has only one writer at a time
                connection.execute(sa.text("LOCK TABLE bench_claims IN SHARE ROW EXCLUSIVE MODE"))
            yield connection

    def _own(self) -> sa.ColumnElement[bool]:
        return _CLAIMS.c.study == self.study

    def _closing(self) -> sa.ColumnElement[bool]:
        return _CLAIMS.c.study == f"{self.study}#closing"

    def reserve(self, claim: str, places: int) -> bool:
        """Claim one of `places` trials; False if all are taken. Safe to repeat with one id."""
        taken = sa.select(sa.func.count()).where(self._own()).scalar_subquery()
        row = self._row(claim, claim, None, done=False)
        values = sa.select(*(sa.literal(v, _CLAIMS.c[k].type) for k, v in row.items()))
        known = sa.exists().where(_CLAIMS.c.id == claim)
        with self._counting() as connection:
            wanted = values.where(taken < places, ~known)
            connection.execute(sa.insert(_CLAIMS).from_select(list(row), wanted))
            found = connection.execute(sa.select(_CLAIMS.c.id).where(_CLAIMS.c.id == claim))
            return found.first() is not None

    def _row(self, claim: str, point: str, trial: int | None, *, done: bool) -> dict[str, Any]:
        return {
            "id": claim,
            "study": self.study,
            "head": self.me,
            "point": point,
            "trial": trial,
            "done": done,
        }

    def bind(self, claim: str, point: str, trial: int) -> bool:
        """Bind a claim to its point; False if another claim has that point."""
        mine = (_CLAIMS.c.id == claim, _CLAIMS.c.head == self.me)
        try:
            with self._engine.begin() as connection:
                change = sa.update(_CLAIMS).where(*mine).values(point=point, trial=trial)
                if connection.execute(change).rowcount == 0:
                    raise ClaimLost("another head has taken it over")
        except IntegrityError:
            return False
        return True

    def adopt(self, point: str, trial: int) -> None:
        """Add a claim for an ended trial without one (from before claims existed)."""
        row = self._row(new_claim(), point, trial, done=True)
        with contextlib.suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(sa.insert(_CLAIMS).values(row))

    def done(self, claim: str) -> int:
        """Mark the claim's trial as ended; returns how many have ended."""
        with self._counting() as connection:
            connection.execute(sa.update(_CLAIMS).where(_CLAIMS.c.id == claim).values(done=True))
            count = sa.select(sa.func.count()).where(self._own(), _CLAIMS.c.done)
            return int(connection.execute(count).scalar_one())

    def release(self, claim: str) -> None:
        """Release the claim: its trial does not count."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(_CLAIMS).where(_CLAIMS.c.id == claim, _CLAIMS.c.head == self.me)
            )

    def claims(self) -> list[Claim]:
        """All claims of the study."""
        with self._engine.connect() as connection:
            columns = [_CLAIMS.c[name] for name in ("id", "head", "trial", "done")]
            return [
                Claim(*row) for row in connection.execute(sa.select(*columns).where(self._own()))
            ]

    def living(self) -> set[str]:
        """The living heads of the study, including this one."""
        with self._engine.connect() as connection:
            now = self._now(connection)
            rows = connection.execute(sa.select(_HEADS).where(_HEADS.c.study == self.study)).all()
        return {row.head for row in rows if not _is_dead(row.head, now - row.seen)} | {self.me}

    def take_over(self) -> None:
        """Take over the claims of dead heads; the caller holds the mutex and settles the trials."""
        living = self.living()
        dead = {claim.head for claim in self.claims() if not claim.done} - living
        with self._engine.begin() as connection:
            for head in dead:
                theirs = (self._own(), _CLAIMS.c.head == head, ~_CLAIMS.c.done)
                connection.execute(sa.update(_CLAIMS).where(*theirs).values(head=self.me))
                connection.execute(sa.delete(_HEADS).where(_HEADS.c.head == head))

    def close(self) -> str:
        """Become the head that closes the study; returns "" if this one is.

        Otherwise returns the head that closes it, or one that still has a trial.
        """
        with self.mutex():
            living = self.living() - {self.me}
            busy = [c.head for c in self.claims() if not c.done and c.head in living]
            if busy:
                return busy[0]
            with self._engine.begin() as connection:
                chosen = sa.select(_CLAIMS.c.head).where(self._closing())
                holder = connection.execute(chosen).scalar()
                if holder in living:
                    return str(holder)
                connection.execute(sa.delete(_CLAIMS).where(self._closing()))
                row = self._row(new_claim(), "closing", None, done=False)
                row["study"] = f"{self.study}#closing"
                connection.execute(sa.insert(_CLAIMS).values(row))
        return ""


def new_claim() -> str:
    """A new identifier for a claim."""
    return secrets.token_hex(16)


def _is_dead(head: str, silent: float) -> bool:
    state = owner_state(head.partition("#")[0])
    patience = LEASE_SECONDS * (_FROZEN if state == "alive" else 1)
    return state == "gone" or silent > patience


def in_words(head: str) -> str:
    """`process 4711 on myhost`."""
    host, _, rest = head.partition("#")[0].rpartition(":")[0].rpartition(":")
    return f"process {rest} on {host}"
