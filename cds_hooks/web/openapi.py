"""The OpenAPI 3.1 document of a server, for `GET /openapi.json`.

It is made from what the server itself goes by: the hook catalogue, the services with their prefetch keys, the models of
cards and feedback. Requests are described as they are read: strict on the envelope, tolerant on what it carries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cds_hooks import __version__
from cds_hooks.protocol.feedback import MAX_ITEMS, FeedbackItem
from cds_hooks.protocol.hooks import ContextField, Hook, Kind
from cds_hooks.protocol.response import Response
from cds_hooks.settings import Settings
from cds_hooks.web.port import Service

Json = dict[str, Any]

_SCHEMAS: Final = "#/components/schemas/"
_FIELDS: Final[dict[Kind, Json]] = {
    "user": {"type": "string", "pattern": "^[A-Z][A-Za-z]+/[A-Za-z0-9\\-.]{1,64}$"},
    "id": {"type": "string", "pattern": "^[A-Za-z0-9\\-.]{1,64}$"},
    "references": {"type": "array", "minItems": 1, "items": {"type": "string"}},
    "orders": {
        "type": "object", "required": ["resourceType"], "properties": {"resourceType": {"const": "Bundle"}},
        "description": "Bundle with the draft orders; entries without a resource are skipped.",
    },
}  # fmt: skip
_UUID: Final = {"type": "string", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"}
_SERVER: Final = {
    "type": ["string", "null"], "pattern": "^https?://", "maxLength": 2000,
    "description": "Base URL of the FHIR server: absolute, without user, query, fragment and dot segments.",
}  # fmt: skip
_AUTHORIZATION: Final = {
    "type": ["object", "null"],
    "required": ["access_token", "token_type", "expires_in", "scope", "subject"],
    "properties": {
        "access_token": {"type": "string", "pattern": "^[\\x21-\\x7e]+$"},
        "token_type": {"type": "string", "pattern": "^[Bb][Ee][Aa][Rr][Ee][Rr]$"},
        "expires_in": {"type": "integer"},
        "scope": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
    },
    "description": "Needs fhirServer.",
}  # fmt: skip
_OUTCOME: Final = {
    "type": "object", "required": ["resourceType", "issue"],
    "properties": {
        "resourceType": {"const": "OperationOutcome"},
        "issue": {
            "type": "array", "minItems": 1,
            "items": {
                "type": "object", "required": ["severity", "code", "diagnostics"],
                "properties": {
                    "severity": {"enum": ["error"]},
                    "code": {"type": "string", "minLength": 1},
                    "diagnostics": {"type": "string", "minLength": 1},
                    "expression": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}  # fmt: skip
_DISCOVERY: Final = {
    "type": "object", "required": ["services"],
    "properties": {
        "services": {
            "type": "array",
            "items": {
                "type": "object", "required": ["hook", "id", "description"],
                "properties": {
                    "hook": {"type": "string"}, "id": {"type": "string"}, "title": {"type": "string"},
                    "description": {"type": "string"}, "usageRequirements": {"type": "string"},
                    "prefetch": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        }
    },
}  # fmt: skip
_PROBLEMS: Final = {
    400: "The body is no JSON, or a field is wrong; `expression` names it",
    401: "No valid token of a known client",
    403: "This client may not use this service",
    404: "There is no such service",
    405: "Another method",
    408: "The body did not arrive in time",
    412: "Required data could be had neither from the prefetch nor from the FHIR server",
    413: "The body, or the data in it, are too much",
    415: "The body is not sent as JSON, or is compressed",
    503: "Busy or not ready; `Retry-After` says when to try again",
}


def document(service: Service, settings: Settings) -> Json:
    """Return the document, JSON-ready."""
    paths: Json = {
        "/cds-services": {"get": _get("The services", _ref("Discovery"), 401)},
        "/health/live": {"get": _get("The process answers", _object("status"))},
        "/health/ready": {"get": _get("The service can be used", _object("status"), 503)},
        "/openapi.json": {"get": _get("This document", {"type": "object"})},
        "/": {"get": _get("Where to look", {"type": "object", "additionalProperties": {"type": "string"}})},
        "/metrics": {"get": _metrics()},
    }
    for entry in service.discovery()["services"]:
        hook = service.hook_of(entry["id"])
        if hook is not None:
            paths |= _service(entry, hook, development=settings.development)
    return {
        "openapi": "3.1.0",
        "info": {"title": "CDS Hooks server", "version": __version__,
                 "description": "A CDS Hooks 2.0 service, see https://cds-hooks.hl7.org/2.0/."},
        "servers": [{"url": settings.public_url or "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"client": {"type": "http", "scheme": "bearer"}}},
        **({"security": [{"client": []}]} if settings.clients else {}),
    }  # fmt: skip


def _service(entry: Mapping[str, Any], hook: Hook, *, development: bool) -> Json:
    """The paths of one service."""
    path, body = f"/cds-services/{entry['id']}", _call(entry, hook)
    feedback = {
        "type": "object", "required": ["feedback"],
        "properties": {"feedback": {"type": "array", "maxItems": MAX_ITEMS, "items": _ref("FeedbackItem")}},
    }  # fmt: skip
    found = {
        path: {"post": _post(f"Call: {entry['title']}", body, _ref("Response"), 412)},
        f"{path}/feedback": {"post": _post("What the user did with cards", feedback, {"type": "object"})},
    }
    if development:
        found[f"/explain/{entry['id']}"] = {"post": _post("Why these cards", body, {"type": "object"}, 412)}
    return found


def _call(entry: Mapping[str, Any], hook: Hook) -> Json:
    keys = {key: {"description": f"Result of {query}; null: there is nothing"}
            for key, query in entry.get("prefetch", {}).items()}  # fmt: skip
    return {
        "type": "object", "required": ["hook", "hookInstance", "context"],
        "properties": {
            "hook": {"const": hook.name},
            "hookInstance": _UUID,
            "context": _context(hook.fields),
            "prefetch": {"type": ["object", "null"], "properties": keys},
            "fhirServer": _SERVER,
            "fhirAuthorization": _AUTHORIZATION,
        },
    }  # fmt: skip


def _context(fields: Iterable[ContextField]) -> Json:
    """Fields that are not required are ignored when they are malformed, so nothing is said of their form."""
    rows = tuple(fields)
    return {
        "type": "object",
        "required": [row.name for row in rows if row.required],
        "properties": {row.name: _FIELDS[row.kind] if row.required else {} for row in rows},
    }


def _schemas() -> Json:
    found: Json = {"OperationOutcome": _OUTCOME, "Discovery": _DISCOVERY}
    for model in (Response, FeedbackItem):
        made = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        found |= made.pop("$defs", {}) | {model.__name__: made}
    # A member of an answer that has no value is left out; pydantic describes it as one that may be null.
    for name in ("Response", "Card", "Suggestion", "Action", "Link", "Source", "Coding"):
        found[name] = _without_null(found[name])
    return found


def _without_null(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _without_null(value) for name, value in schema.items() if name not in ("default", "title")}
    choices = [one for one in kept.pop("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == 1:
        return kept | choices[0]
    return kept | ({"anyOf": choices} if choices else {})


def _ref(name: str) -> Json:
    return {"$ref": _SCHEMAS + name}


def _object(*members: str) -> Json:
    return {"type": "object", "required": list(members)}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _answers(schema: Json, *problems: int) -> Json:
    told = {str(status): {"description": _PROBLEMS[status], "content": _json(_ref("OperationOutcome"))}
            for status in problems}  # fmt: skip
    return {"200": {"description": "Done", "content": _json(schema)}} | told


def _get(what: str, schema: Json, *problems: int) -> Json:
    # A request may bring a body where none belongs; it is read, and refused for what is wrong with it.
    return {"summary": what, "responses": _answers(schema, *sorted({400, 408, 413, 503, *problems}))}


def _post(what: str, body: Json, schema: Json, *problems: int) -> Json:
    statuses = sorted({400, 401, 403, 404, 408, 413, 415, 503, *problems})
    return {
        "summary": what,
        "requestBody": {"required": True, "content": _json(body)},
        "responses": _answers(schema, *statuses),
    }


def _metrics() -> Json:
    told = {"description": "Prometheus text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"summary": "Counters", "responses": {"200": told}, "security": []}
