"""The application: routes, errors, headers, one log line and the counters, put together."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, BinaryIO, Final

from flask import Flask, Response, request

from cds_hooks.errors import Rejected
from cds_hooks.settings import Settings
from cds_hooks.web.body import read_body
from cds_hooks.web.headers import Stamp, request_id, trace_parent
from cds_hooks.web.log import Log, open_log
from cds_hooks.web.metrics import UNKNOWN, Metrics
from cds_hooks.web.places import Doorkeeper, Places, turned_away
from cds_hooks.web.port import Gate, Service
from cds_hooks.web.problem import register_problems
from cds_hooks.web.pulse import Pulse
from cds_hooks.web.reply import Reply
from cds_hooks.web.routes import CALL, Door, add_routes
from cds_hooks.web.tracing import Tracing
from cds_hooks.web.visit import Visit, visit, visit_of

#: Under this name an app holds its Pulse among its extensions; whoever runs the app starts it.
PULSE: Final = "cds_hooks.pulse"


class _App(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is: none here is async, and finding that out thrice per request costs time."""
        return func


def create_app(
    service: Service, settings: Settings, log_to: BinaryIO | None = None, *, gate: Gate | None = None,
    tracing: Tracing | None = None,
) -> Flask:
    """Return the WSGI application for a service that is ready to be called. The log goes to standard error.

    Without a gate everyone may call. Raises ValueError if the settings name clients and there is no gate for them.
    """
    if settings.clients and gate is None:
        raise ValueError("the settings name clients, so there has to be a gate")
    app = _App("cds_hooks", static_folder=None)
    # A redirect would lose the body, and a browser follows none after a preflight.
    app.url_map.merge_slashes = False
    metrics = Metrics()
    log = open_log(settings.log, metrics.unlogged, log_to)
    register_problems(app, log, metrics)
    add_routes(app, Door(service, settings, metrics, gate), development=settings.development)
    _frame(app, settings.server.body_limit, Stamp(settings.cors.origins), metrics, log)
    if tracing is not None:
        _trace(app, tracing)
    places = Places(settings.server.threads)
    app.wsgi_app = Doorkeeper(app.wsgi_app, places)  # type: ignore[method-assign]
    app.extensions[PULSE] = Pulse(service, places, metrics, settings.server)
    return app


def _frame(app: Flask, body_limit: int, stamp: Stamp, metrics: Metrics, log: Log) -> None:
    """Do what every request needs: before it clock, id and body; after it headers, counters and the log line."""

    @app.before_request
    def begin() -> None:
        environ = request.environ
        now = Visit(request_id(environ.get("HTTP_X_REQUEST_ID")), trace_parent(environ.get("HTTP_TRACEPARENT")))
        now.enter(environ)
        if turned_away(environ):
            metrics.refused("full")
            raise Rejected("The service has as many requests as it can work on.", status=503, code="throttled")
        # Read before anything is refused: a client that sees an early answer may stop sending, and then the rest of
        # its body and its next request cannot be told apart on a connection that is kept.
        now.body = read_body(environ, body_limit)

    @app.after_request
    def finish(response: Response) -> Response:
        asked = request._get_current_object()  # type: ignore[attr-defined]  # each look through the proxy costs
        environ, rule = asked.environ, asked.url_rule
        now = visit_of(environ)
        method, status, seconds = environ["REQUEST_METHOD"], response.status_code, perf_counter() - now.started
        stamped = stamp(method, environ.get("HTTP_ORIGIN"), now.request_id)
        if isinstance(response, Reply):
            response.stamped = stamped
        else:
            response.headers.extend(stamped)
        if method == "POST" and rule is not None and rule.endpoint == CALL:
            metrics.called(now.service, status, seconds, now.outcome)
        line = now.facts | {
            "request_id": now.request_id,
            "route": rule.rule if rule else UNKNOWN,
            "service": now.service,
            "status": status,
            "ms": round(seconds * 1000, 3),
        }
        if now.trace_parent is not None:
            line["traceparent"] = now.trace_parent
        if status == 408:
            metrics.refused("slow body")
        log.info("request", line)
        return response


def _trace(app: Flask, tracing: Tracing) -> None:
    """Give calls and feedback spans. Registered only if there are to be any: else a request does not even ask."""

    @app.before_request
    def begin() -> None:
        rule = request.url_rule
        if rule is not None and request.method == "POST":
            tracing.begin(visit(), rule.rule)

    @app.after_request
    def finish(response: Response) -> Response:
        if visit().span is not None:
            tracing.end(visit(), response.status_code)
        return response
