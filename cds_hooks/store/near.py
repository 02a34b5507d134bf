"""Reading a SQLite file with as few steps as can be: for the one question that each call with a card asks.

A pool of connections costs several times what the question itself does. Here each thread keeps a connection of its own.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

#: Seconds between two looks whether the file is still the one that was opened.
_LOOK_S: Final = 0.5


class _Own(threading.local):
    """What a thread has."""

    connection: sqlite3.Connection | None = None
    file: Any = None
    looked: float = 0.0


class Near:
    """Connections to one file, one for each thread that asks. They only read."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], identity: Callable[[], Any]) -> None:
        """`connect` opens the file, `identity` tells which file is there now (None: none)."""
        self._connect: Final = connect
        self._identity: Final = identity
        self._own: Final = _Own()
        self._all: list[sqlite3.Connection] = []
        self._lock: Final = threading.Lock()

    def rows(self, text: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Ask. Raises sqlite3.Error; then the next question of this thread opens the file anew."""
        own = self._own
        now = time.monotonic()
        if now - own.looked > _LOOK_S:
            own.looked = now
            file = self._identity()
            if file is None or file != own.file:
                self._drop()
                own.file = file
        try:
            if own.connection is None:
                own.connection = self._opened()
            return own.connection.execute(text, values).fetchall()
        except BaseException:
            self._drop()
            raise

    def close(self) -> None:
        """Close all connections; nobody may be asking."""
        with self._lock:
            for connection in self._all:
                with suppress(sqlite3.Error):
                    connection.close()
            self._all.clear()

    def _opened(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        with self._lock:
            self._all.append(connection)
        return connection

    def _drop(self) -> None:
        connection, self._own.connection, self._own.looked = self._own.connection, None, 0.0
        if connection is not None:
            with self._lock, suppress(ValueError):
                self._all.remove(connection)
            with suppress(sqlite3.Error):
                connection.close()
