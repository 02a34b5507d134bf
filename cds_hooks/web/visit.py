"""What is known about the request in hand beyond the request itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from flask import request

from cds_hooks.web.metrics import UNKNOWN

_KEY = "cds_hooks.visit"


@dataclass(slots=True)
class Visit:
    """One per request. Kept in the WSGI environment, because each look at `flask.g` costs a context lookup."""

    request_id: str
    started: float = field(default_factory=perf_counter)
    body: bytes = b""
    #: Id of the service, once it is known to be one of ours.
    service: str = UNKNOWN
    #: What the log line shall say beyond the usual.
    facts: dict[str, Any] = field(default_factory=dict)

    def enter(self, environ: dict[str, Any]) -> None:
        """Make this the visit of the request with this environment."""
        environ[_KEY] = self


def visit() -> Visit:
    """Return the visit of the current request."""
    found: Visit = request.environ[_KEY]
    return found
