"""The public keys of a client: kept, read again when due, and never waited for longer than a call can spare.

Whoever may send us an unknown key name could make us ask the client's server over and over, or tie up our threads
while that server is slow. So one thread of its own reads the keys, a few calls wait for it, and only for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from threading import BoundedSemaphore, Event, Lock, Thread
from typing import Final, Generic, TypeVar

Name = TypeVar("Name")
Key = TypeVar("Key")

#: Seconds between two readings for a key that is not among fresh ones: a client may ask by any name.
FORCED_EVERY: Final = 30.0
#: Seconds between two readings that were due but fail.
DUE_EVERY: Final = 10.0
#: Calls that wait for one reading at a time. The others go on with what is there.
_WAITING = 4


@dataclass(frozen=True, slots=True)
class Found(Generic[Key]):
    """What the ring has for a name: the key if there is one, and how far the ring can be relied on."""

    key: Key | None
    #: False if the keys could not be read, or not for so long that none of them counts.
    available: bool = True
    #: Whether the keys are older than they should be.
    stale: bool = False


class KeyRing(Generic[Name, Key]):
    """The keys of one client. Safe to call from many threads; looking up a fresh key takes no lock."""

    def __init__(
        self,
        read: Callable[[], Mapping[Name, Key] | None],
        *,
        fresh_s: float,
        stale_s: float,
        wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set where keys come from: `read` gives all of them, or None if they cannot be had; it should end in time.

        Keys are read again after `fresh_s`, count for `stale_s` if that fails, and each reading is waited for until
        `wait_s` after it began, however much longer it takes.
        """
        self._read: Final = read
        self._fresh_s: Final = fresh_s
        self._stale_s: Final = max(fresh_s, stale_s)
        self._wait_s: Final = wait_s
        self._clock: Final = clock
        self._lock: Final = Lock()
        self._seats: Final = BoundedSemaphore(_WAITING)
        self._known: tuple[float, Mapping[Name, Key]] | None = None
        self._tried = -inf
        self._reading: Event | None = None

    def find(self, name: Name) -> Found[Key]:
        """Look a key up; have the keys read again if they are old, or this one is not among them."""
        known, now = self._known, self._clock()
        if known is not None and now - known[0] < self._fresh_s:
            key = known[1].get(name)
            if key is not None:
                return Found(key)
            self._read_again(now, FORCED_EVERY)
        else:
            self._read_again(now, DUE_EVERY)
        return self._look(name)

    def warm(self) -> Event:
        """Have the keys read before anyone asks, without waiting; set once that is over, however it ended.

        Without it the first calls of a process all find nothing, and more of them than may wait are refused.
        """
        with self._lock:
            if self._known is None and self._reading is None:
                self._tried = self._clock()
                self._begin()
            reading = self._reading
        if reading is None:
            reading = Event()
            reading.set()
        return reading

    def _look(self, name: Name) -> Found[Key]:
        known = self._known
        age = self._clock() - known[0] if known else self._stale_s
        if known is None or age >= self._stale_s:
            return Found(None, available=False, stale=True)
        return Found(known[1].get(name), stale=age >= self._fresh_s)

    def _read_again(self, now: float, every: float) -> None:
        """Have the keys read unless that was tried just now, and wait for it if not too many are waiting."""
        with self._lock:
            if self._reading is None:
                if now - self._tried < every:
                    return
                self._tried = now
                self._begin()
            reading, left = self._reading, self._tried + self._wait_s - now
        if reading is not None and left > 0 and self._seats.acquire(blocking=False):
            try:
                reading.wait(left)
            finally:
                self._seats.release()

    def _begin(self) -> None:
        self._reading = Event()
        try:
            Thread(target=self._take, args=(self._reading,), name="keys", daemon=True).start()
        except RuntimeError:  # no more threads: the next try may find one
            self._reading = None

    def _take(self, reading: Event) -> None:
        keys: Mapping[Name, Key] | None = None
        try:
            keys = self._read()
        except Exception:
            keys = None  # a set that cannot be read is one that cannot be had; `Found` tells, and the door counts it
        finally:
            with self._lock:
                if keys is not None:
                    self._known = (self._clock(), keys)
                self._reading = None
            reading.set()
