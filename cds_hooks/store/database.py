"""Connections to the database: SQLite in a file for one machine, PostgreSQL for many.

SQLite runs in WAL mode: readers never wait for a writer. Writers of a process queue at a lock of our own, since
SQLite's own waiting is sleep and retry. What must survive a crash of the machine is committed with synchronous=FULL;
used tokens and issued cards with NORMAL, which loses nothing when a process is killed, but may lose the last moments
when power fails. On PostgreSQL the same distinction is synchronous_commit.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, TypeVar, get_args
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, Select, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError

from cds_hooks.errors import ContentError, StorageError
from cds_hooks.store.near import Near
from cds_hooks.store.watchdog import Watchdog

#: `read`: no transaction. `write`: survives the process. `keep`: survives the machine.
Mode = Literal["read", "write", "keep"]
T = TypeVar("T")

#: Seconds that a writer waits for others: a call must not wait longer for what it can do without.
_PATIENCE: Final[Mapping[Mode, float]] = {"read": 0.25, "write": 1.0, "keep": 1.0}
#: Seconds for which a database that could not be reached is left alone, so that not every call waits for it. What
#: must be kept is tried all the same: there is nothing else to do with it.
_REST: Final = 1.0
#: Seconds in which a connection that the server has closed is found out.
_AT_ONCE: Final = 0.2
#: Seconds after which a PostgreSQL server that does not answer is not waited for any longer.
_HANGS_S: Final[Mapping[Mode, float]] = {"read": 0.5, "write": 1.0, "keep": 2.0}
_UNWATCHED: Final = nullcontext()
#: PostgreSQL ended one of two transactions that waited for each other, or could not put them in an order: the class of
#: such SQLSTATEs. It looks for the former after one second, so no lock is given up before.
_COLLISION: Final = "40"
#: Connections of each kind that a process keeps, and may have. SQLite's are cheap; PostgreSQL has 100 for everyone.
_POOLS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sqlite": {"pool_size": 4, "max_overflow": 28, "pool_timeout": 0.5},
    "postgresql": {"pool_size": 2, "max_overflow": 3, "pool_timeout": 0.5},
}


def parse_url(text: str) -> URL:
    """The URL of a database that is served; raises ContentError for others, without repeating it."""
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise ContentError("settings", "storage.url", "is no URL of a database") from None
    if backend == "postgresql":
        if "+" in url.drivername and url.drivername != "postgresql+psycopg":
            raise ContentError("settings", "storage.url", "write postgresql+psycopg://…; no other driver is used")
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite":
        raise ContentError("settings", "storage.url", "must begin with sqlite:/// or postgresql+psycopg://")
    if not url.database or url.database == ":memory:" or url.database.startswith("file:") or url.query:
        raise ContentError("settings", "storage.url", "sqlite needs the path of a file, and nothing else")
    return url


class Database:
    """One database, as seen by one process. Opens no connection before the first use."""

    def __init__(self, url: URL, *, create: bool = False) -> None:
        """`create`: make the SQLite file if there is none. A server does so at start only: a file that vanishes
        later is a fault to be seen, not a reason to begin an empty one."""
        self.url: Final = url
        self.sqlite: Final = url.get_backend_name() == "sqlite"
        self._create: Final = create
        self._turn: Final = Lock()
        self._rest_until = 0.0
        self._watchdog: Final = Watchdog()
        self._asked: Final[dict[Select[Any], tuple[str, tuple[str, ...] | None]]] = {}
        make = self._sqlite if self.sqlite else self._postgresql
        self._engines: Final[Mapping[Mode, Engine]] = {mode: make(mode) for mode in get_args(Mode)}
        self._near: Final = Near(lambda: self._opened("read"), lambda: _identity(self._path)) if self.sqlite else None

    # ---- work

    def run(self, work: Callable[[Connection], T], mode: Mode) -> T:
        """Do the work on a connection, in a transaction unless it only reads; raise StorageError.

        Work whose connection turns out to be stale, or that got into the way of another transaction, is done once more,
        unless it may have been committed.
        """
        if mode != "keep" and time.monotonic() < self._rest_until:
            raise StorageError("the database could not be reached a moment ago")
        began = time.monotonic()
        try:
            try:
                return self._attempt(work, mode)
            except DBAPIError as error:
                # A stale connection fails at once; who has waited for one that hangs has no time for another.
                stale = error.connection_invalidated and time.monotonic() - began < _AT_ONCE
                collided = str(getattr(error.orig, "sqlstate", "")).startswith(_COLLISION)
                if not (stale or collided) or getattr(error, "committing", False):
                    raise
                return self._attempt(work, mode)
        except DBAPIError as error:
            if error.connection_invalidated or error.statement is None:  # no statement: it failed to connect
                self._rest_until = time.monotonic() + _REST
            raise StorageError(reason(error)) from None
        except SQLAlchemyError as error:
            raise StorageError(type(error).__name__) from None

    def look(self, question: Select[Any], values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """The rows of a small question that each call with a card asks: a fifth of what `run` costs.

        Values and columns are numbers and strings, which need no conversion. Whatever goes wrong is left to `run`,
        which asks again and tells; raise StorageError.
        """
        text, places = self._asked.get(question) or self._written(question)
        if self._near is not None:
            with suppress(sqlite3.Error):
                return self._near.rows(text, [values[name] for name in places or ()])
        began = time.monotonic()
        if self._near is None and began >= self._rest_until:
            engine = self._engines["read"]
            with suppress(SQLAlchemyError, engine.dialect.loaded_dbapi.Error):
                connection = engine.raw_connection()
                try:
                    with self._watched(connection.driver_connection, "read"):
                        cursor = connection.cursor()
                        cursor.execute(text, tuple(values[name] for name in places) if places is not None else values)
                        found: Sequence[Sequence[Any]] = cursor.fetchall()
                        cursor.close()
                except BaseException:
                    connection.invalidate()
                    raise
                connection.close()
                return found
        if time.monotonic() - began > _AT_ONCE:
            self._rest_until = time.monotonic() + _REST
            raise StorageError("the database does not answer")
        return self.run(lambda connection: connection.execute(question, values).all(), "read")

    def _written(self, question: Select[Any]) -> tuple[str, tuple[str, ...] | None]:
        """A question in the words of the driver, and the order of its values; None if they go by name."""
        compiled = question.compile(self._engines["read"])
        places = tuple(compiled.positiontup or ()) if compiled.positional else None
        self._asked[question] = compiled.string, places
        return self._asked[question]

    def close(self) -> None:
        """Close all connections that are not in use."""
        if self._near is not None:
            self._near.close()
        for engine in self._engines.values():
            engine.dispose()

    def engine(self, mode: Mode) -> Engine:
        """For migrations and the report, which want the plain errors."""
        return self._engines[mode]

    def _attempt(self, work: Callable[[Connection], T], mode: Mode) -> T:
        engine = self._engines[mode]
        if mode == "read":
            with engine.connect() as connection, self._watched(connection.connection.driver_connection, mode):
                return work(connection)
        if not self.sqlite:
            return self._transact(engine, work, mode)
        if not self._turn.acquire(timeout=_PATIENCE[mode]):
            raise StorageError("too many wait to write")
        try:
            done = self._transact(engine, work, mode)
        finally:
            self._turn.release()
        if mode == "keep":
            self._see_file()
        return done

    def _transact(self, engine: Engine, work: Callable[[Connection], T], mode: Mode) -> T:
        with engine.connect() as connection, self._watched(connection.connection.driver_connection, mode):
            transaction = connection.begin()
            try:
                done = work(connection)
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                error.committing = True  # type: ignore[attr-defined]
                raise
            return done

    def _watched(self, connection: Any, mode: Mode) -> AbstractContextManager[None]:
        """Bounds the time of what is done with the connection. SQLite is in our own process and bounds it itself."""
        return _UNWATCHED if self.sqlite else self._watchdog.over(connection, _HANGS_S[mode])

    def _see_file(self) -> None:
        """Raise StorageError if the file was taken away while it was written to: what was kept is kept nowhere."""
        if not Path(str(self.url.database)).exists():
            raise StorageError("the database file is gone")

    # ---- connections

    @property
    def _path(self) -> Path:
        return Path(str(self.url.database)).absolute()

    def _opened(self, use: Mode) -> sqlite3.Connection:
        """A new connection to the SQLite file."""
        access = "rwc" if self._create else "rw"
        # isolation_level: the driver must not begin transactions of its own.
        connection = sqlite3.connect(f"file:{quote(str(self._path))}?mode={access}", uri=True, isolation_level=None,
                                     timeout=_PATIENCE[use], check_same_thread=False)  # fmt: skip
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={'FULL' if use == 'keep' else 'NORMAL'}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _sqlite(self, use: Mode) -> Engine:
        path = self._path
        engine = create_engine(self.url, creator=lambda: self._opened(use), poolclass=QueuePool, **_POOLS["sqlite"])
        if use != "read":
            # A transaction that begins as a reader and then writes can fail at once, without waiting for its turn.
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

        @event.listens_for(engine, "connect")
        def remember(_: Any, record: Any) -> None:
            record.info["file"] = _identity(path)

        @event.listens_for(engine, "checkout")
        def see_same_file(_: Any, record: Any, __: Any) -> None:
            # SQLite goes on writing into a file that was deleted or replaced; a new connection sees what is there.
            if record.info.get("file") != _identity(path):
                raise DisconnectionError

        return engine

    def _postgresql(self, use: Mode) -> Engine:
        options = "-c statement_timeout=2000 -c lock_timeout=1600 -c idle_in_transaction_session_timeout=10000"
        if use == "write":
            options += " -c synchronous_commit=off"
        try:
            return create_engine(
                self.url,
                connect_args={
                    "connect_timeout": 2, "options": options, "application_name": "cds-hooks",
                    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 2000,
                },
                **({"isolation_level": "AUTOCOMMIT"} if use == "read" else {}),
                **_POOLS["postgresql"],
            )  # fmt: skip
        except ImportError:
            reason = "PostgreSQL needs a driver: pip install --require-hashes -r requirements/postgresql.txt"
            raise ContentError("settings", "storage.url", reason) from None


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def reason(error: DBAPIError) -> str:
    """What is wrong, without the statement, its values, or the address of the database."""
    original = error.orig
    name = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    return f"{type(original).__name__} {name}" if name else type(original).__name__
