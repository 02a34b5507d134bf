"""What a call leaves for later: a bounded queue, and a thread that writes what is in it, many at once.

A call only appends to a list. Where it goes may be slow or down: the queue holds what fits, and what does not fit is
dropped and told to whoever brought it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: Items that may wait. A card or a log line has some 500 bytes, the longest trace 5,000:
#: at worst as much as the content of a worker.
BOUND: Final = 10_000
#: Seconds from an item to where it goes, at most, while that keeps up.
FLUSH_S: Final = 0.1
_BATCH: Final = 1000
_RETRY_S: Final = 0.5
_LOOK_S: Final = 0.5  # how often an idle thread looks whether the process ends


class Outbox(Generic[T]):
    """Items for one place.

    `write` takes a batch there and tells how many items it has taken (None: all). It may raise anything; then it gets
    the same batch again, and a longer one perhaps.
    """

    def __init__(
        self, write: Callable[[Sequence[T]], int | None], name: str, *, bound: int = BOUND, flush_s: float = FLUSH_S
    ) -> None:
        self._write: Final = write
        self._name: Final = name
        self._bound: Final = bound
        self._flush_s: Final = flush_s
        self._lock: Final = threading.Lock()
        self._waiting: list[T] = []
        self._filled: Final = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, items: Sequence[T]) -> int:
        """Take items; return how many had to be dropped. Never waits for where they go."""
        with self._lock:
            room = max(0, self._bound - len(self._waiting)) if not self._closed else 0
            self._waiting += items[:room]
            if room and (self._thread is None or not self._thread.is_alive()) and not self._start() and self._ending():
                del self._waiting[-len(items[:room]) :]  # nobody comes any more who could write them
                room = 0
        if not self._filled.is_set():
            self._filled.set()
        return max(0, len(items) - room)

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, and end the thread."""
        self._closed = True
        self._filled.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _start(self) -> bool:
        # Not a daemon: when the process ends, Python waits for the thread, which then writes what is left. Servers end
        # their workers in ways of their own, and not all of them run `atexit`.
        thread = threading.Thread(target=self._work, name=self._name, daemon=False)
        with suppress(RuntimeError):  # no more threads: the next item tries again
            thread.start()
            self._thread = thread
            return True
        return False

    def _ending(self) -> bool:
        return self._closed or not threading.main_thread().is_alive()

    def _work(self) -> None:
        while not self._ending():
            if self._filled.wait(_LOOK_S):
                if not self._ending():
                    time.sleep(self._flush_s / 2)  # others may have something for the same batch
                self._filled.clear()
                if not self._flush() and not self._ending():
                    time.sleep(_RETRY_S)
                    self._filled.set()
        while self._waiting and self._flush():
            pass

    def _flush(self) -> bool:
        """Write what waits now, batch by batch; False if it is not taken.

        What comes in the meantime waits for the next round: one for every few items would cost more than the items.
        """
        left = len(self._waiting)
        while left > 0 and (batch := self._waiting[:_BATCH]):
            try:
                taken = self._write(batch)
            except Exception:  # what was expected or what nobody thought of: the thread must live, the items wait
                return False
            if taken is None:
                taken = len(batch)
            with self._lock:
                del self._waiting[:taken]
            if taken < len(batch):
                return False
            left -= taken
        return True
