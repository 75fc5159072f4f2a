"""Several heads on one study: which of them has which trial, in two small tables beside Optuna's.

A head reserves a place among the N trials before it asks Optuna for a point, binds the place to
the point, and keeps it when the trial ends; a trial that does not count gives its place back. So
however many heads there are, N trials end, and no point is trained twice.

| table        | row                                                                          |
|--------------|------------------------------------------------------------------------------|
| bench_heads  | a head at work: when the data base's clock last heard of it                   |
| bench_claims | a place: whose it is, the point (a fingerprint), the trial, whether it ended  |

A head whose process is gone, or that was not heard of for LEASE_SECONDS, has lost its places: who
notices takes them over. Should it only have been frozen, it finds that out when it wakes: each
trial of Optuna ends once, so that its late result is refused.
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
"""How long a head of another machine may be silent before its trials are taken over."""
_RENEW_SECONDS = 10.0
_FROZEN = 5
"""A process of this machine that is there but silent gets so many times the patience: a laptop
that wakes up has heads that are all late."""
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
    """Another head has taken the trial over; what becomes of it here does not count."""


@dataclass(frozen=True)
class Claim:
    """A place among the trials of a study; `trial` none: not bound to a point yet."""

    id: str
    head: str
    trial: int | None
    done: bool


def make_tables(engine: sa.Engine) -> None:
    """Add our tables where they are missing; the caller holds a lock."""
    _METADATA.create_all(engine)


class Heads:
    """This head among the heads of a study. As a context it is heard of until it leaves."""

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
        """A store that is away for a while ends nothing: the lease may run out, then others act."""
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
        """Seconds by the clock that all heads share: the server's, or this machine's for a file."""
        if not self._postgres:
            return time.time()
        return float(
            connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        )

    def patiently(self, work: Callable[[], T]) -> T:
        """Do something in the store, again where its server is away for a moment.

        Workers go on meanwhile. Raises BadInput after three minutes.
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
                # A file has no server that comes back.
                if not self._postgres and "locked" not in why:
                    raise
                waited = time.monotonic() - begun
                if waited > _PATIENCE_SECONDS:
                    raise BadInput(
                        f"the store of study {self.study} is away ({why}); start it and repeat "
                        "the command, it goes on from there"
                    ) from None
                if waited < 1:
                    _log.warning("the store of the study is away (%s); trying again", why)
                time.sleep(0.5)

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Be the only head of the store that asks for trials or mends; not to be nested."""
        if not self._postgres:
            path = Path(str(self._engine.url.database))
            with locked(path.with_name(f".{path.name}.heads")):
                yield
            return
        connection = self._engine.connect()
        try:
            # A head that is frozen in here loses the lock; its claims guard what it does then.
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
        """A transaction in which the number of places does not change under our eyes."""
        with self._engine.begin() as connection:
            if self._postgres:  # SQLite has one writer at a time anyway
                connection.execute(sa.text("LOCK TABLE bench_claims IN SHARE ROW EXCLUSIVE MODE"))
            yield connection

    def _own(self) -> sa.ColumnElement[bool]:
        return _CLAIMS.c.study == self.study

    def _closing(self) -> sa.ColumnElement[bool]:
        return _CLAIMS.c.study == f"{self.study}#closing"

    def reserve(self, claim: str, places: int) -> bool:
        """Take one of the places, under a new name; False when all are taken. May be repeated."""
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
        """Say what the place is for; False when another place has that point."""
        mine = (_CLAIMS.c.id == claim, _CLAIMS.c.head == self.me)
        try:
            with self._engine.begin() as connection:
                change = sa.update(_CLAIMS).where(*mine).values(point=point, trial=trial)
                if connection.execute(change).rowcount == 0:
                    raise ClaimLost("another head has taken its place")
        except IntegrityError:
            return False
        return True

    def adopt(self, point: str, trial: int) -> None:
        """A place for a trial that ended without one (a study of before there were places)."""
        row = self._row(new_claim(), point, trial, done=True)
        with contextlib.suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(sa.insert(_CLAIMS).values(row))

    def done(self, claim: str) -> int:
        """The trial of the place has ended for good; how many have by now."""
        with self._counting() as connection:
            connection.execute(sa.update(_CLAIMS).where(_CLAIMS.c.id == claim).values(done=True))
            count = sa.select(sa.func.count()).where(self._own(), _CLAIMS.c.done)
            return int(connection.execute(count).scalar_one())

    def release(self, claim: str) -> None:
        """Give the place back: its trial does not count."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(_CLAIMS).where(_CLAIMS.c.id == claim, _CLAIMS.c.head == self.me)
            )

    def claims(self) -> list[Claim]:
        """Every place of the study that is taken."""
        with self._engine.connect() as connection:
            columns = [_CLAIMS.c[name] for name in ("id", "head", "trial", "done")]
            return [
                Claim(*row) for row in connection.execute(sa.select(*columns).where(self._own()))
            ]

    def living(self) -> set[str]:
        """The heads of the study that are at work, this one among them."""
        with self._engine.connect() as connection:
            now = self._now(connection)
            rows = connection.execute(sa.select(_HEADS).where(_HEADS.c.study == self.study)).all()
        return {row.head for row in rows if not _is_dead(row.head, now - row.seen)} | {self.me}

    def take_over(self) -> None:
        """Make the places of dead heads ours; the caller holds the mutex and mends the trials."""
        living = self.living()
        dead = {claim.head for claim in self.claims() if not claim.done} - living
        with self._engine.begin() as connection:
            for head in dead:
                theirs = (self._own(), _CLAIMS.c.head == head, ~_CLAIMS.c.done)
                connection.execute(sa.update(_CLAIMS).where(*theirs).values(head=self.me))
                connection.execute(sa.delete(_HEADS).where(_HEADS.c.head == head))

    def close(self) -> str:
        """Become the one that does the closing work of the study; "" when we are.

        Otherwise the head that does it, or that still has a trial.
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
    """A name for a place."""
    return secrets.token_hex(16)


def _is_dead(head: str, silent: float) -> bool:
    state = owner_state(head.partition("#")[0])
    patience = LEASE_SECONDS * (_FROZEN if state == "alive" else 1)
    return state == "gone" or silent > patience


def in_words(head: str) -> str:
    """`process 4711 on myhost`."""
    host, _, rest = head.partition("#")[0].rpartition(":")[0].rpartition(":")
    return f"process {rest} on {host}"
