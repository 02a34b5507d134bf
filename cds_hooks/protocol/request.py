"""What a CDS Hooks call must hold, and what is left of it once it has been checked.

The envelope is checked strictly (https://cds-hooks.hl7.org/2.0/#http-request_1): a wrong field is refused with words
that name it. What the envelope carries, draft orders above all, is read tolerantly, because real clients send Bundles
without a type and orders without a code; what was skipped is told in `HookRequest.problems`.

Nothing a caller sent comes back in a diagnostic, save the name of a hook, shortened and made printable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cds_hooks.errors import Rejected
from cds_hooks.protocol.address import base_url
from cds_hooks.protocol.hooks import ContextField, Hook, Kind

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_TOKEN = re.compile(r"[\x21-\x7e]+")

_NONE: Mapping[str, str] = MappingProxyType({})
#: At most so many problems are told per field; a Bundle of a million damaged entries must not become a long story.
_TOLD = 10


@dataclass(slots=True)  # not frozen: made in each call, and nobody changes it
class HookRequest:
    """A checked call. Not shown by repr(): whatever belongs to the patient, and the token."""

    hook: str
    hook_instance: str
    user_id: str
    patient_id: str = field(repr=False)
    encounter_id: str | None = field(default=None, repr=False)
    #: The resources of the draft orders: dicts whose `resourceType` is a type name, otherwise as they came.
    drafts: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    #: "Type/id" of those drafts that the user just selected.
    selections: tuple[str, ...] = field(default=(), repr=False)
    #: Key -> value as the client sent it: a resource, null, an OperationOutcome, or nonsense.
    prefetch: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: Base URL without a trailing slash.
    fhir_server: str | None = None
    token: str | None = field(default=None, repr=False)
    #: Optional fields of the context that say something unusable: what they name is there, but unknown.
    unread: frozenset[str] = frozenset()
    #: Oddities that were swallowed. Each begins with the name of the field it is about; no value of the caller.
    problems: tuple[str, ...] = ()
    #: When the answer has to be ready, as a reading of time.monotonic().
    until: float = math.inf
    #: Headers that go on to the FHIR server: of tracing, checked, nothing of the patient.
    pass_on: Mapping[str, str] = field(default_factory=dict)
    #: The body as it came, for who needs its numbers to the digit.
    raw: bytes | None = field(default=None, repr=False)


def parse_request(
    body: Any, hook: Hook, raw: bytes | None = None, *, until: float = math.inf, pass_on: Mapping[str, str] = _NONE
) -> HookRequest:
    """Check a call of this hook; raise Rejected(400) that names the first field that is wrong."""
    if not isinstance(body, dict):
        raise Rejected("The body of a call must be a JSON object.", code="structure")
    problems: list[str] = []
    _check_hook(body.get("hook"), hook)
    server = _fhir_server(body, problems)
    return HookRequest(
        hook=hook.name,
        hook_instance=_hook_instance(body.get("hookInstance")),
        prefetch=_prefetch(body, problems),
        fhir_server=server,
        token=_token(body, server, problems),
        raw=raw,
        until=until,
        pass_on=pass_on,
        **_context(body.get("context"), hook, problems),
        problems=tuple(problems),
    )


# --- The envelope ---------------------------------------------------------------------------------------------------


def refused(path: str, rule: str, *, missing: bool = False) -> Rejected:
    """Build (not raise) the refusal of one field: `path` is dotted, `rule` goes on from it."""
    return Rejected(
        f"{path} is missing: it {rule}." if missing else f"{path} {rule}.",
        code="required" if missing else "value",
        expression=(path,),
    )


def _check_hook(name: Any, hook: Hook) -> None:
    if not isinstance(name, str) or not name:
        raise refused("hook", f'must be the string "{hook.name}" for this service', missing=name is None)
    if name != hook.name:
        shown = name[:40].encode("ascii", "replace").decode()
        shown = "".join(char if char.isprintable() and char not in "<>&\"'\\" else "?" for char in shown)
        raise refused("hook", f'"{shown}" is not served here: this service is for "{hook.name}"')


def _hook_instance(value: Any) -> str:
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value
    raise refused("hookInstance", "must be a UUID", missing=value is None)


def _prefetch(body: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    value = body.get("prefetch")
    if isinstance(value, dict):
        return value
    if value is not None:
        raise refused("prefetch", "must be an object whose members are FHIR resources or null")
    if "prefetch" in body:
        problems.append("prefetch is null, taken as absent")
    return {}


def _fhir_server(body: dict[str, Any], problems: list[str]) -> str | None:
    value = body.get("fhirServer")
    if value is None:
        if "fhirServer" in body:
            problems.append("fhirServer is null, taken as absent")
        return None
    if not isinstance(value, str):
        raise refused("fhirServer", "must be a string, the base URL of a FHIR server")
    try:
        return base_url(value)
    except ValueError as wrong:
        raise refused("fhirServer", str(wrong)) from None


def _token(body: dict[str, Any], server: str | None, problems: list[str]) -> str | None:
    """Check fhirAuthorization (2.0 "Passing the Access Token to the CDS Service"); a missing `patient` is allowed."""
    value = body.get("fhirAuthorization")
    if value is None:
        if "fhirAuthorization" in body:
            problems.append("fhirAuthorization is null, taken as absent")
        return None
    if not isinstance(value, dict):
        raise refused("fhirAuthorization", "must be an object")
    if server is None:
        raise refused("fhirAuthorization", "comes without fhirServer, so there is no server it could be meant for")
    for name in ("access_token", "token_type", "scope", "subject"):
        if not isinstance(value.get(name), str) or not value[name]:
            raise refused(f"fhirAuthorization.{name}", "must be a non-empty string", missing=value.get(name) is None)
    seconds = value.get("expires_in")
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise refused("fhirAuthorization.expires_in", "must be a whole number of seconds", missing=seconds is None)
    # RFC 6749 section 7.1 compares token types without case, and authorization servers rely on it.
    if value["token_type"].lower() != "bearer":
        raise refused("fhirAuthorization.token_type", 'must be "Bearer"')
    token: str = value["access_token"]
    if not _TOKEN.fullmatch(token):  # it becomes a header
        raise refused("fhirAuthorization.access_token", "must consist of visible ASCII characters")
    return token


# --- The context, by the rows of the hook catalogue ------------------------------------------------------------------


def _context(context: Any, hook: Hook, problems: list[str]) -> dict[str, Any]:
    """Read the fields of the hook: {attribute of HookRequest: value}."""
    if not isinstance(context, dict):
        raise refused("context", "must be an object with the fields of the hook", missing=context is None)
    values: dict[str, Any] = {}
    for row in hook.fields:
        value = context.get(row.name)
        if value is None and row.name not in context and not row.required:
            continue
        try:
            values[row.fills] = _READERS[row.kind](value, row, problems)
        except Rejected:
            if row.required:
                raise
            problems.append(f"{row.name} malformed, ignored")
            if value is not None:
                values["unread"] = values.get("unread", frozenset()) | {row.name}
    if "selections" in values:
        values["selections"] = _resolved(values["selections"], values.get("drafts", ()), problems)
    return values


def _text(pattern: re.Pattern[str], rule: str) -> Callable[[Any, ContextField, list[str]], str]:
    def read(value: Any, row: ContextField, problems: list[str]) -> str:
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        raise refused(f"context.{row.name}", rule, missing=value is None)

    return read


def _references(value: Any, row: ContextField, problems: list[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        rule = "must be a non-empty array of strings of the form Type/id"
        raise refused(f"context.{row.name}", rule, missing=value is None)
    return tuple(value)


def _orders(value: Any, row: ContextField, problems: list[str]) -> tuple[dict[str, Any], ...]:
    """Read the resources of a Bundle; Bundle.type and fullUrl are not needed, entries without a resource skipped."""
    if not isinstance(value, dict) or value.get("resourceType") != "Bundle":
        raise refused(f"context.{row.name}", "must be a Bundle with the draft orders", missing=value is None)
    entries = value.get("entry", [])
    if not isinstance(entries, list):
        problems.append(f"{row.name}.entry is no array, ignored")
        return ()
    found = [_resource(entry) for entry in entries]
    bad = [number for number, resource in enumerate(found) if resource is None]
    _tell(problems, f"{row.name}.entry", bad, "is no resource, skipped")
    return tuple(resource for resource in found if resource is not None)


def _resource(entry: Any) -> dict[str, Any] | None:
    resource = entry.get("resource") if isinstance(entry, dict) else None
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    return resource if isinstance(kind, str) and _TYPE.fullmatch(kind) else None


def _resolved(selections: tuple[str, ...], drafts: tuple[dict[str, Any], ...], problems: list[str]) -> tuple[str, ...]:
    """Keep the selections that name a draft order, each once (a repeated one would be judged twice)."""
    known = {f"{draft['resourceType']}/{draft['id']}" for draft in drafts if isinstance(draft.get("id"), str)}
    bad = [number for number, name in enumerate(selections) if name not in known]
    _tell(problems, "selections", bad, "names no draft order, skipped")
    return tuple(dict.fromkeys(name for name in selections if name in known))


def _tell(problems: list[str], path: str, places: list[int], what: str) -> None:
    problems.extend(f"{path}[{place}] {what}" for place in places[:_TOLD])
    if len(places) > _TOLD:
        problems.append(f"{path} has {len(places) - _TOLD} more of these")


_READERS: dict[Kind, Callable[[Any, ContextField, list[str]], Any]] = {
    "user": _text(_REFERENCE, "must be of the form Type/id, such as Practitioner/123"),
    "id": _text(_ID, "must be a bare FHIR id: 1 to 64 letters, digits, hyphens and dots"),
    "references": _references,
    "orders": _orders,
}
