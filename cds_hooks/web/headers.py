"""The headers that every answer carries: who may read it, who may keep it, and its request id."""

from __future__ import annotations

import re

from cds_hooks.protocol.identity import new_uuid

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# https://www.w3.org/TR/trace-context/#traceparent-header; ids of zeros alone are invalid, and so is version ff
_TRACE_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_EXPOSED = ("Access-Control-Expose-Headers", "X-Request-ID")
_PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
    ("Access-Control-Allow-Headers", "authorization, content-type, traceparent, x-request-id"),
    ("Access-Control-Max-Age", "600"),
)


def request_id(offered: str | None) -> str:
    """Return the id that the client offers if it is harmless, else a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else new_uuid()


def trace_parent(offered: str | None) -> str | None:
    """Return the `traceparent` that the client offers if it is one, else None."""
    return offered if offered and _TRACE_PARENT.fullmatch(offered) else None


class Stamp:
    """Sets the headers. CORS is a few lines here: the rules are the same for every route, errors included."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)
        self._everyone = "*" in origins

    def __call__(self, method: str, origin: str | None, request_id: str) -> list[tuple[str, str]]:
        """The headers to add to an answer; the preflight needs no credentials, as browsers send none with it."""
        found = [("X-Content-Type-Options", "nosniff"), ("X-Request-ID", request_id)]
        if method == "POST":  # answers hold patient data
            found.append(("Cache-Control", "no-store"))
        if not self._everyone:
            found.append(("Vary", "Origin"))
        if self._everyone or origin in self._origins:
            found += (("Access-Control-Allow-Origin", "*" if self._everyone else str(origin)), _EXPOSED)
            if method == "OPTIONS":
                found += _PREFLIGHT
        return found
