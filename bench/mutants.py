"""Requests that are nearly right: valid calls and feedback, changed in structure, types, size or bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from bench import bodies

ODD: list[Any] = [
    None, True, 0, -1, 1.5, 2**63, 10**40, "", " ", "x", "\x00", "\u202e", "\ud800", "😀" * 50, "a" * 5000, [], {},
    [[]], [None], {"": None}, {"resourceType": "Bundle"}, {"resourceType": "OperationOutcome", "issue": []},
    {"resourceType": "Patient", "id": "../../etc"}, "Patient/1", "2026-02-30", "9999-12-31T24:00:00Z", "https://x",
    "${jndi:ldap://x}", "{{7*7}}", "'; DROP TABLE cards; --", "<script>", [{"resource": {}}] * 50,
]  # fmt: skip
RAW = [b"NaN", b"-Infinity", b"1e400", b"9" * 400, b"01", b"'x'", b"/**/1", b'"\xff\xfe"', b'"\\ud800"', b'"\\u0000"',
       b"[" * 300 + b"]" * 300, b"[" * 2000, b"{}{}"]  # fmt: skip
HEADERS = [
    ("Content-Type", "text/plain"), ("Content-Type", "application/json; charset=utf-16"), ("Content-Type", "\xff"),
    ("Content-Encoding", "gzip"), ("Accept", "text/html"), ("X-Request-ID", "a" * 5000), ("X-Request-ID", "\t{}"),
    ("traceparent", "00-" + "0" * 32 + "-1-01"), ("Authorization", "Bearer " + "x" * 3000), ("Origin", "null"),
    ("Authorization", "Basic eDp5"), ("Cookie", "a=b; " * 500), ("Expect", "x"), ("X-Forwarded-For", "127.0.0.1"),
    ("X-HTTP-Method-Override", "DELETE"), ("Transfer-Encoding", "identity"), ("Range", "bytes=0-1"),
]  # fmt: skip
PATHS = ["/", "//", "/cds-services/", "/cds-services/%00", "/cds-services/%ff/feedback", "/explain/x", "/health/ready",
         "/cds-services/" + "a" * 5000, "/metrics?x=%", "/openapi.json", "/cds-services/x?y=%zz"]  # fmt: skip
METHODS = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FOO"]

Change = Callable[[random.Random, Any], Any]


class Mutants:
    """Gives request after request, always the same ones for the same seed."""

    def __init__(self, seed: int, services: list[dict[str, Any]]) -> None:
        self._dice = random.Random(seed)
        self._valid = [pair for service in services for pair in _valid(service)]

    def request(self) -> tuple[str, bytes]:
        """Return the kind of change, and the bytes of a whole request."""
        dice = self._dice
        path, body = dice.choice(self._valid)
        kind = dice.choices(["tree", "bytes", "headers", "raw", "elsewhere", "none"], [60, 12, 10, 10, 5, 3])[0]
        method, headers = "POST", {"Content-Type": "application/json"}
        if kind == "tree":
            body = copy.deepcopy(body)
            for _ in range(dice.choice([1, 1, 2, 5])):
                _change(dice, body)
        data = json.dumps(body).encode()
        if kind == "bytes":
            data = _spoil(dice, data)
        elif kind == "raw":
            data = _put(dice, body)
        elif kind == "headers":
            headers |= dict(dice.choices(HEADERS, k=dice.choice([1, 2])))
        elif kind == "elsewhere":
            method, path = dice.choice([*METHODS, "POST"]), dice.choice([*PATHS, path])
        chunked = dice.random() < 0.05
        return kind, _encode(method, path, headers, data, chunked=chunked)


def _valid(service: dict[str, Any]) -> list[tuple[str, Any]]:
    """Calls of one service, and feedback for it."""
    path, hook = f"/cds-services/{service['id']}", service["hook"]
    feedback = {
        "feedback": [
            {"card": "4fd6a2d0-0b8a-4b43-9d1c-8a4e4a3f1c11", "outcome": "overridden",
             "outcomeTimestamp": "2026-11-21T10:00:00Z",
             "overrideReason": {"reason": {"code": "x", "system": "urn:x"}, "userComment": "made up"}},
            {"card": "4fd6a2d0-0b8a-4b43-9d1c-8a4e4a3f1c12", "outcome": "accepted",
             "outcomeTimestamp": "2026-11-21T10:00:00.5+01:00", "acceptedSuggestions": [{"id": "s1"}]},
        ]
    }  # fmt: skip
    found: list[tuple[str, Any]] = [(f"{path}/feedback", feedback)]
    for spasm in (False, True):
        call = bodies.patient_view(service.get("prefetch", {}), spasm=spasm, conditions=2)
        call["hook"] = hook
        if hook != "patient-view":
            draft = {"resourceType": "ServiceRequest", "id": "o1", "status": "draft", "intent": "order",
                     "code": {"coding": [{"system": "http://loinc.org", "code": "24590-2"}]},
                     "subject": {"reference": f"Patient/{bodies.PATIENT}"},
                     "reasonCode": [{"coding": [{"system": bodies.SNOMED, "code": bodies.SPASM[0]}]}]}  # fmt: skip
            call["context"]["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": draft}]}
        if hook == "order-select":
            call["context"]["selections"] = ["ServiceRequest/o1"]
        found += [(path, call), (f"/explain/{service['id']}", call)]
        unfetched = {name: value for name, value in call.items() if name != "prefetch"}
        found.append((path, unfetched | {"fhirServer": "http://127.0.0.1:9/fhir"}))
    return found


def _places(node: Any) -> list[tuple[Any, Any]]:
    """All (container, key) pairs of a tree."""
    found: list[tuple[Any, Any]] = []
    todo = [node]
    while todo:
        one = todo.pop()
        pairs = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, value in pairs:
            found.append((one, key))
            todo.append(value)
    return found


def _change(dice: random.Random, tree: Any) -> None:
    places = _places(tree)
    if not places:
        return
    container, key = dice.choice(places)
    value = container[key]
    how = dice.randrange(7)
    if how == 0:
        del container[key]
    elif how == 1:
        container[key] = [value] * dice.choice([1, 2, 30])
    elif how == 2:
        container[key] = {"value": value}
    elif how == 3 and isinstance(value, str):
        cut = dice.randrange(len(value) + 1)
        container[key] = value[:cut] + dice.choice(["", "\n", "é", "\u202e", "%00", "|", "x" * 300]) + value[cut:]
    elif how == 4 and isinstance(container, dict):
        container[dice.choice([f"_{key}", f"{key} ", key.upper(), "extension"])] = container.pop(key)
    elif how == 5:
        other, place = dice.choice(places)
        container[key] = copy.deepcopy(other.get(place) if isinstance(other, dict) else None)
    else:
        container[key] = copy.deepcopy(dice.choice(ODD))


def _spoil(dice: random.Random, data: bytes) -> bytes:
    how, place = dice.randrange(6), dice.randrange(len(data))
    if how == 0:
        return data[:place]
    if how == 1:
        return data[:place] + bytes([dice.randrange(256)]) + data[place + 1 :]
    if how == 2:
        return data[:place] + dice.randbytes(dice.choice([1, 10, 1000])) + data[place:]
    if how == 3:
        return b"\xef\xbb\xbf" + data
    if how == 4:
        return data.decode().encode(dice.choice(["utf-16", "utf-32-be", "utf-7"]))
    return data + data


def _put(dice: random.Random, body: Any) -> bytes:
    """A body with something in it that is no JSON, or that not every reader takes."""
    tree = copy.deepcopy(body)
    container, key = dice.choice(_places(tree))
    container[key] = "@@@"
    return json.dumps(tree).encode().replace(b'"@@@"', dice.choice(RAW))


def _encode(method: str, path: str, headers: dict[str, str], data: bytes, *, chunked: bool) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if chunked and "Transfer-Encoding" not in headers:
        lines.append("Transfer-Encoding: chunked")
        half = len(data) // 2
        parts = [part for part in (data[:half], data[half:]) if part]
        data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data
