"""The routes. Each translates a request into one call of the service behind the door, and its result into JSON."""

from __future__ import annotations

import time

import orjson
from flask import Flask, Response, request

from cds_hooks.errors import Rejected, Unauthorized
from cds_hooks.protocol.caller import ANONYMOUS, Caller
from cds_hooks.protocol.feedback import parse_feedback
from cds_hooks.protocol.hooks import Hook
from cds_hooks.protocol.request import HookRequest, parse_request
from cds_hooks.settings import Settings
from cds_hooks.web.body import dump_json, parse_json
from cds_hooks.web.metrics import MEDIA_TYPE, Metrics
from cds_hooks.web.openapi import document
from cds_hooks.web.port import Gate, Service
from cds_hooks.web.problem import problem
from cds_hooks.web.reply import Reply, json_reply
from cds_hooks.web.visit import Visit, visit

#: Name of the endpoint of a call within the app.
CALL = "call"


class Door:
    """The views, with what they need: the service, the settings, the counters."""

    def __init__(self, service: Service, settings: Settings, metrics: Metrics, gate: Gate | None = None) -> None:
        self._service = service
        self._gate = gate
        self._metrics = metrics
        self._deadline_s = settings.server.deadline_ms / 1000
        self._discovery = dump_json(service.discovery())
        self._front = dump_json(_front_page(settings))
        self._openapi = dump_json(document(service, settings))

    def discovery(self) -> Response:
        """GET /cds-services."""
        if self._gate is not None and self._gate.guards_discovery:
            self._admit(self._gate, visit(), "/cds-services", "/cds-services/")
        return json_reply(self._discovery)

    def call(self, service_id: str) -> Response:
        """POST /cds-services/<id>: 200 with cards, perhaps none."""
        now = visit()
        caller = self._caller(service_id, now)
        outcome = self._service.call(service_id, self._hook_request(service_id, now), caller)
        now.outcome = outcome
        now.facts.update(outcome.log)
        return json_reply(dump_json(outcome.payload))

    def explain(self, service_id: str) -> Response:
        """POST /explain/<id>: the trace of the call in the body. In development only."""
        now = visit()
        caller = self._caller(service_id, now, f"/explain/{service_id}")
        trace = self._service.explain(service_id, self._hook_request(service_id, now), caller)
        return json_reply(orjson.dumps(trace, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))

    def feedback(self, service_id: str) -> Response:
        """POST /cds-services/<id>/feedback: 200 with an empty object, whether the cards are known or not."""
        now = visit()
        caller = self._caller(service_id, now, *(f"{path}/feedback" for path in _paths(service_id)))
        self._hook(service_id, now)
        items = parse_feedback(parse_json(request.environ, now.body))
        self._service.feedback(service_id, items, caller)
        self._metrics.reported(service_id, (item.outcome for item in items))
        now.facts["items"] = len(items)
        return json_reply(b"{}")

    def front(self) -> Response:
        """GET /: where to look."""
        return json_reply(self._front)

    def live(self) -> Response:
        """GET /health/live: the process answers."""
        return json_reply(b'{"status":"live"}')

    def ready(self) -> Response:
        """GET /health/ready: 503 with one issue for each part that is broken."""
        failing = self._service.failing()
        if failing:
            return problem(503, "transient", *(f"Not ready: {name}: {reason}" for name, reason in failing.items()))
        return json_reply(b'{"status":"ready"}')

    def openapi(self) -> Response:
        """GET /openapi.json."""
        return json_reply(self._openapi)

    def scrape(self) -> Response:
        """GET /metrics."""
        return Reply(self._metrics.scrape(), content_type=MEDIA_TYPE)

    def _caller(self, service_id: str, now: Visit, *paths: str) -> Caller:
        """Who sends this, to a service or to the endpoint of the service at these paths; raise Unauthorized.

        The path of the service counts too: some clients sign one token text for all that belongs to it.
        """
        if self._gate is None:
            return ANONYMOUS
        if self._service.hook_of(service_id) is not None:
            now.service = service_id  # for log and counters, whatever becomes of it
        caller = self._admit(self._gate, now, *_paths(service_id), *paths)
        if not caller.may_call(service_id):
            raise Unauthorized("service", caller.name, status=403)
        return caller

    def _admit(self, gate: Gate, now: Visit, *paths: str) -> Caller:
        admission = gate.admit(request.environ.get("HTTP_AUTHORIZATION"), *paths)
        self._metrics.let_in(admission.notes)
        if admission.notes:
            now.facts["auth_degraded"] = admission.notes
        now.facts["client"] = admission.caller.name
        return admission.caller

    def _hook(self, service_id: str, now: Visit) -> Hook:
        hook = self._service.hook_of(service_id)
        if hook is None:
            raise Rejected(
                "There is no service with this id; GET /cds-services lists the services.", status=404, code="not-found"
            )
        now.service = service_id  # from here on it is a name of ours
        return hook

    def _hook_request(self, service_id: str, now: Visit) -> HookRequest:
        hook = self._hook(service_id, now)
        until = time.monotonic() + self._deadline_s
        body = parse_json(request.environ, now.body)
        hook_request = parse_request(body, hook, now.body, until=until, pass_on=now.pass_on())
        if hook_request.problems:
            self._metrics.tolerated(hook_request.problems)
            now.facts["problems"] = hook_request.problems
        return hook_request


def add_routes(routes: Flask, door: Door, *, development: bool) -> None:
    """Add the routes of the door. Those with a doubled slash serve clients that append "/id" to "cds-services/".

    Not a blueprint: there is one set of routes, and looking for blueprints costs each request.
    """
    get, post = ["GET"], ["POST"]
    for path in ("/cds-services", "/cds-services/"):
        routes.add_url_rule(path, "discovery", door.discovery, methods=get)
    for path in ("/cds-services/<service_id>", "/cds-services//<service_id>"):
        routes.add_url_rule(path, CALL, door.call, methods=post)
        routes.add_url_rule(f"{path}/feedback", "feedback", door.feedback, methods=post)
    if development:
        routes.add_url_rule("/explain/<service_id>", "explain", door.explain, methods=post)
    routes.add_url_rule("/", "front", door.front, methods=get)
    routes.add_url_rule("/health/live", "live", door.live, methods=get)
    routes.add_url_rule("/health/ready", "ready", door.ready, methods=get)
    routes.add_url_rule("/openapi.json", "openapi", door.openapi, methods=get)
    routes.add_url_rule("/metrics", "metrics", door.scrape, methods=get)


def _paths(service_id: str) -> tuple[str, str]:
    """The paths of a service; the second as clients write it that append to a URL with a slash at its end."""
    return f"/cds-services/{service_id}", f"/cds-services//{service_id}"


def _front_page(settings: Settings) -> dict[str, str]:
    base = settings.public_url or ""
    pages = {
        "what": "A CDS Hooks server. EHRs call it; this page only tells where.",
        "discovery": f"{base}/cds-services",
        "call": f"{base}/cds-services/{{id}}",
        "feedback": f"{base}/cds-services/{{id}}/feedback",
        "ready": f"{base}/health/ready",
        "metrics": f"{base}/metrics",
        "openapi": f"{base}/openapi.json",
        "specification": "https://cds-hooks.hl7.org/2.0/",
    }
    return pages | ({"explain": f"{base}/explain/{{id}}"} if settings.development else {})
