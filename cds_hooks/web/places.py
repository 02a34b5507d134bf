"""The places of a worker: how many requests with a body it works on at once, and which wait for the body too long.

Each such request holds a thread. There are a few more threads than places, so that a worker whose places are all
taken still says whether it is well, and refuses what is too much at once instead of letting it wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

_KEY: Final = "cds_hooks.place"


@dataclass(slots=True)
class Place:
    """A request that is being worked on: where it comes from, where it came in, since when, what it waits for."""

    address: str
    port: str
    since: float = field(default_factory=time.monotonic)
    #: Whether its body is still on its way.
    reading: bool = True
    #: Whether its connection was cut because the body took too long.
    cut: bool = False


class Places:
    """The places of this process. Safe to use from many threads."""

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._lock = threading.Lock()
        self._taken: dict[int, Place] = {}

    def take(self, environ: dict[str, Any]) -> Place | None:
        """Take a place for a request, None if all are taken. Whoever gets one gives it back with `leave`."""
        place = Place(environ.get("REMOTE_ADDR", ""), environ.get("SERVER_PORT", ""))
        with self._lock:
            if len(self._taken) >= self.limit:
                return None
            self._taken[id(place)] = place
        return place

    def leave(self, place: Place) -> None:
        """Give a place back."""
        del self._taken[id(place)]  # one step for the interpreter, so without the lock

    @property
    def taken(self) -> int:
        """How many are taken now."""
        return len(self._taken)

    def all(self) -> Iterable[Place]:
        """Those taken now."""
        return tuple(self._taken.values())


class Doorkeeper:
    """WSGI middleware that gives each request with a body a place, for as long as it is worked on."""

    def __init__(self, app: Callable[..., Any], places: Places) -> None:
        self._app = app
        self._places = places

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Pass the request on; one that got no place is `turned_away` later, where errors get their shape."""
        if not (environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in environ):
            return self._app(environ, start_response)
        environ[_KEY] = place = self._places.take(environ)
        if place is None:
            return self._app(environ, start_response)
        try:
            return self._app(environ, start_response)
        finally:
            self._places.leave(place)


def place_of(environ: dict[str, Any]) -> Place | None:
    """The place of a request, None if it needs none or there was none left."""
    place: Place | None = environ.get(_KEY)
    return place


def turned_away(environ: dict[str, Any]) -> bool:
    """Whether there was no place left for a request that needs one."""
    return environ.get(_KEY, True) is None
