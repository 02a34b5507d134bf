"""The replay guard: each token identifier of an issuer is good for one call.

A guard in memory sees one worker only, so it stands before a shared one, and in for it while that is down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from threading import Lock
from typing import Final, Protocol


class ReplayGuard(Protocol):
    """Remembers which tokens were used. Safe to call from many threads."""

    def first_use(self, issuer: str, jti: str, expires: float) -> bool:
        """Note this token, and tell whether it is the first time; at once, so that of two callers one hears False.

        `expires` is in seconds since 1970: from then on the token is refused for its age, and may be forgotten here.
        Raises StorageError if it can be neither looked up nor noted.
        """


class MemoryGuard:
    """A replay guard within one process. Holds a hash of each token, not its own words: 18 MB for 100,000 of them."""

    def __init__(self, capacity: int = 100_000, clock: Callable[[], float] = time.time) -> None:
        """Bound the number of tokens; beyond it, those that expire first are forgotten before their time."""
        self._capacity: Final = capacity
        self._clock: Final = clock
        self._lock: Final = Lock()
        self._seen: Final[set[bytes]] = set()
        self._order: Final[list[tuple[float, bytes]]] = []  # a heap: what expires first is at its top

    def first_use(self, issuer: str, jti: str, expires: float) -> bool:
        """See ReplayGuard; never raises."""
        key = _key(issuer, jti)
        with self._lock:
            self._forget()
            if key in self._seen:
                return False
            self._seen.add(key)
            heappush(self._order, (expires, key))
            return True

    def __len__(self) -> int:
        return len(self._seen)

    def _forget(self) -> None:
        now = self._clock()
        while self._order and (self._order[0][0] <= now or len(self._order) >= self._capacity):
            self._seen.discard(heappop(self._order)[1])


def _key(issuer: str, jti: str) -> bytes:
    """A key for the pair. The length stands before, so that no two pairs are written alike."""
    text = f"{len(issuer)}:{issuer}{jti}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()
