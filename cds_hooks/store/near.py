"""Reading a SQLite file with as few steps as can be: for the one question that each call with a card asks.

A pool that checks, counts and resets costs several times what the question itself does. Here a connection is taken from
a heap of idle ones and put back.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

#: Seconds between two looks whether the file is still the one that was opened.
_LOOK_S: Final = 0.5
#: Idle connections that are kept.
_KEPT: Final = 16


class Near:
    """Connections to one file that only read. Safe to use from many threads: each question has one to itself."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], identity: Callable[[], Any]) -> None:
        """`connect` opens the file, `identity` tells which file is there now (None: none)."""
        self._connect: Final = connect
        self._identity: Final = identity
        self._idle: Final[deque[tuple[Any, sqlite3.Connection]]] = deque()
        self._file: Any = None
        self._looked = 0.0

    def rows(self, text: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Ask. Raises sqlite3.Error."""
        now = time.monotonic()
        if now - self._looked > _LOOK_S:
            self._looked, self._file = now, self._identity()
        file = self._file
        connection = self._taken(file)
        try:
            found = connection.execute(text, values).fetchall()
        except BaseException:
            self._looked = 0.0
            _close(connection)
            raise
        if len(self._idle) < _KEPT and file is not None:
            self._idle.append((file, connection))
        else:
            _close(connection)
        return found

    def close(self) -> None:
        """Close the idle connections; nobody may be asking."""
        while self._idle:
            _close(self._idle.pop()[1])

    def _taken(self, file: Any) -> sqlite3.Connection:
        """An idle connection to this file, else a new one."""
        with suppress(IndexError):
            while True:
                known, connection = self._idle.pop()
                if known == file:
                    return connection
                _close(connection)
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        return connection


def _close(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.close()
