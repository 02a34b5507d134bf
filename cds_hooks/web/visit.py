"""What is known about the request in hand beyond the request itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from flask import request

from cds_hooks.web.metrics import UNKNOWN
from cds_hooks.web.port import Outcome

_KEY = "cds_hooks.visit"


@dataclass(slots=True)
class Visit:
    """One per request. Kept in the WSGI environment, because each look at `flask.g` costs a context lookup.

    It must not hold the environment: a circle of the two would keep the body until the collector comes by.
    """

    request_id: str
    #: The W3C trace context that the client sent, if it is one.
    trace_parent: str | None = None
    started: float = field(default_factory=perf_counter)
    body: bytes = b""
    #: Id of the service, once it is known to be one of ours.
    service: str = UNKNOWN
    #: What came of the call, if it was answered.
    outcome: Outcome | None = None
    #: Its OpenTelemetry span, if there is to be one.
    span: Any = None
    #: What the log line shall say beyond the usual.
    facts: dict[str, Any] = field(default_factory=dict)

    def pass_on(self) -> dict[str, str]:
        """Return the headers by which the requests to a FHIR server can be tied to this one."""
        ids = {"X-Request-ID": self.request_id}
        return ids if self.trace_parent is None else {**ids, "traceparent": self.trace_parent}

    def enter(self, environ: dict[str, Any]) -> None:
        """Make this the visit of the request with this environment."""
        environ[_KEY] = self


def visit() -> Visit:
    """Return the visit of the current request."""
    return visit_of(request.environ)


def visit_of(environ: dict[str, Any]) -> Visit:
    """Return the visit of the request with this environment."""
    found: Visit = environ[_KEY]
    return found
