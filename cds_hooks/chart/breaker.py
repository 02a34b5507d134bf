"""A circuit breaker: a FHIR server that has not answered for a while is left alone, and then tried with one request.

Written here because the kept libraries do not fit a server with threads: pybreaker 1.4 holds its lock for the whole of
a guarded call, so that it would send one request at a time; circuitbreaker 2.1 counts without a lock and lets
everyone through when it tries again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half-open"]

#: The queries of one call leave together and are one trial: a call of which one query is answered helps nobody.
_TOGETHER_S = 0.1
_AT_MOST = 16


class Breaker:
    """Opens after `failures` in a row; after `rest_s` seconds lets one trial through, whose outcome decides.

    Safe to use from many threads. While it is closed, asking costs no lock.
    """

    def __init__(self, *, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened: float | None = None  # since when it is open, whether or not a trial is under way
        self._trial: float | None = None  # when the trial began
        self._sent = 0  # requests of the trial

    @property
    def state(self) -> State:
        """How it stands."""
        if self._opened is None:
            return "closed"
        return "open" if self._trial is None else "half-open"

    def lets_through(self) -> bool:
        """Whether a request may be sent; whoever is let through tells with `heard` what came of it."""
        if self._opened is None:
            return True
        with self._lock:
            now, opened = self._clock(), self._since()
            if opened is None:
                return True
            if self._trial is not None and now - self._trial < _TOGETHER_S and self._sent < _AT_MOST:
                self._sent += 1
                return True
            # A trial of which nothing is ever heard must not keep the server away for good.
            if now - (opened if self._trial is None else self._trial) < self._rest_s:
                return False
            self._trial, self._sent = now, 1
            return True

    def _since(self) -> float | None:
        return self._opened

    def heard(self, *, well: bool) -> None:
        """Take the outcome of a request: whether the server answered as one in good health does."""
        if well and not self._failures:
            return
        with self._lock:
            if well:
                self._failures, self._opened, self._trial = 0, None, None
                return
            self._failures += 1
            if self._opened is not None and self._trial is not None:
                self._opened, self._trial = self._clock(), None
            elif self._opened is None and self._failures >= self._limit:
                self._opened = self._clock()
