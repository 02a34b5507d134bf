"""The one shape of errors: an OperationOutcome with one issue or more, whatever went wrong."""

from __future__ import annotations

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from cds_hooks.errors import Rejected, Unauthorized
from cds_hooks.web.body import dump_json
from cds_hooks.web.log import Log, frames
from cds_hooks.web.metrics import Metrics
from cds_hooks.web.reply import json_reply
from cds_hooks.web.visit import visit

_AGAIN_S = "2"  # seconds after which whatever is full or down may be well again

# status -> code (FHIR issue-type), words; for what Werkzeug refuses before a route is reached
_REFUSALS = {
    404: ("not-found", "There is nothing at this address; GET /cds-services lists the services."),
    405: ("not-supported", "This address does not take this method; the header Allow lists those it takes."),
}


def problem(status: int, code: str, *diagnostics: str, expression: tuple[str, ...] = ()) -> Response:
    """Return an error response with one issue for each text."""
    where = {"expression": list(expression)} if expression else {}
    issues = [{"severity": "error", "code": code, "diagnostics": text} | where for text in diagnostics]
    body = dump_json({"resourceType": "OperationOutcome", "issue": issues})
    response = json_reply(body, status)
    if status == 503:
        response.headers["Retry-After"] = _AGAIN_S
    return response


def register_problems(app: Flask, log: Log, metrics: Metrics) -> None:
    """Give the app its error handlers: ours, Werkzeug's, nesting too deep, and everything else."""

    def rejected(error: Rejected) -> Response:
        visit().facts["refused"] = error.diagnostics
        return problem(error.status, error.code, error.diagnostics, expression=error.expression)

    def unauthorized(error: Unauthorized) -> Response:
        facts = visit().facts
        facts["auth"] = error.reason
        if error.client:
            facts["client"] = error.client
        metrics.turned_away(error.reason)
        response = problem(error.status, error.code, error.diagnostics)
        if error.status == 401:
            # RFC 6750 section 3.1 would have error="invalid_token" too; that would tell which tokens were read at all.
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def refused(error: HTTPException) -> Response:
        status = error.code or 500
        code, text = _REFUSALS.get(status, ("invalid", f"The request was refused: {error.name}."))
        response = problem(status, code, text)
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response

    def too_deep(error: RecursionError) -> Response:
        # orjson takes 1,024 levels, more than Python code can walk; no FHIR resource has so many. The trace is
        # logged all the same, because a loop of our own would look like this too.
        log.warning("too deep", {"request_id": visit().request_id, "trace": frames(error)})
        return problem(400, "too-costly", "The request is nested too deeply to be read.")

    def failed(error: Exception) -> Response:
        log.error("failure", {"request_id": visit().request_id, "trace": frames(error)})
        text = "The service failed on this request; its log tells more under the id in the header X-Request-ID."
        return problem(500, "exception", text)

    app.register_error_handler(Unauthorized, unauthorized)
    app.register_error_handler(Rejected, rejected)
    app.register_error_handler(HTTPException, refused)
    app.register_error_handler(RecursionError, too_deep)
    app.register_error_handler(Exception, failed)
