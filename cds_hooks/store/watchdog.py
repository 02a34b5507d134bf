"""Ends the wait for a PostgreSQL server that holds the connection and says nothing.

The server's own timeouts do not help if it is the server that hangs, and TCP's do not as long as its machine answers.
Shutting the socket down makes the driver see a lost connection, at once and in the thread that waits.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

_LOOK_S: Final = 0.1


class Wired(Protocol):
    """A connection of a driver over a socket."""

    def fileno(self) -> int:
        """The file descriptor of the socket."""


class Watchdog:
    """Watches connections at work. One thread, which sleeps while there is none."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._due: Final[dict[int, tuple[float, Wired]]] = {}
        self._busy: Final = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Wired, seconds: float) -> Iterator[None]:
        """Let the block use the connection for so long; then it is cut off."""
        key = id(connection)
        with self._lock:
            self._due[key] = (time.monotonic() + seconds, connection)
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="database-watchdog", daemon=True)
                with suppress(RuntimeError):  # no more threads: the next one tries again
                    thread.start()
                    self._thread = thread
        self._busy.set()
        try:
            yield
        finally:
            with self._lock:
                self._due.pop(key, None)

    def _watch(self) -> None:
        while self._busy.wait():
            time.sleep(_LOOK_S)
            with self._lock:
                if not self._due:
                    self._busy.clear()
                for key, (due, connection) in list(self._due.items()):
                    if time.monotonic() > due:
                        del self._due[key]
                        _cut(connection)


def _cut(connection: Wired) -> None:
    # Whatever is wrong with it, it is not waited for any more.
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
