"""JSON in and out."""

from __future__ import annotations

import json
from typing import Any

import orjson

from cds_hooks.errors import Rejected
from cds_hooks.web.places import place_of

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
# A client that names no media type, or that of FHIR, means JSON as well.
_JSON = frozenset({"", "application/json", "application/fhir+json"})


def read_body(environ: dict[str, Any], limit: int) -> bytes:
    """Read the body to its end, however it is sent; raise Rejected: 413 over the limit, 400 if it breaks off,
    408 if it was cut off because it took too long.

    Werkzeug's own reading would do; this costs a tenth of it, and where the body comes in chunks it never holds more
    than the limit.
    """
    wanted = _announced(environ, limit)
    if wanted is None:
        # Without a length the end is known only to a server that marks it.
        wanted = limit + 1 if _comes_unannounced(environ) else 0
    try:
        data = _read_up_to(environ["wsgi.input"], wanted)
    except Exception:  # each server has exceptions of its own for a broken or cut body
        raise _broken_off(environ) from None
    if len(data) > limit:
        raise _too_long(limit)
    place = place_of(environ)
    if place is not None:
        place.reading = False
        if place.cut:
            raise _broken_off(environ)
    return data


def parse_json(environ: dict[str, Any], data: bytes) -> Any:
    """Return the value that the body holds; raise Rejected: 415 for a media type other than JSON, 400 if it is none."""
    _check_media_type(environ)
    if not data:
        raise Rejected("The body is empty; it must be JSON.", code="structure")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # orjson tells what it expected and where, and quotes nothing.
        text = f"The body is not valid JSON in UTF-8: {error.msg} at character {error.pos}."
        raise Rejected(text, code="structure") from None


def dump_json(value: Any) -> bytes:
    """Return the value as JSON. Lone surrogates, which UTF-8 cannot hold, become question marks."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # Also for nesting that orjson finds too deep; a type that is no JSON fails here again, as it should.
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _check_media_type(environ: dict[str, Any]) -> None:
    media_type = environ.get("CONTENT_TYPE") or ""
    if media_type not in _JSON and media_type.partition(";")[0].strip().lower() not in _JSON:
        raise Rejected("The body must be sent as application/json.", status=415, code="not-supported")
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise Rejected("The body must be sent without a content encoding.", status=415, code="not-supported")


def _comes_unannounced(environ: dict[str, Any]) -> bool:
    if not environ.get("wsgi.input_terminated"):
        return False
    return "HTTP_TRANSFER_ENCODING" in environ or environ["REQUEST_METHOD"] not in _BODILESS


def _announced(environ: dict[str, Any], limit: int) -> int | None:
    announced = environ.get("CONTENT_LENGTH")
    # RFC 9112 section 6.3: a transfer encoding overrides the length.
    if not announced or environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    if not (announced.isascii() and announced.isdigit()):
        raise Rejected("Content-Length must be a number of bytes.", code="invalid")
    if len(announced) > 18 or int(announced) > limit:
        raise _too_long(limit)
    return int(announced)


def _read_up_to(stream: Any, wanted: int) -> bytes:
    data: bytes = stream.read(wanted) if wanted else b""
    while 0 < len(data) < wanted:
        more = stream.read(wanted - len(data))
        if not more:
            break
        data += more
    return data


def _broken_off(environ: dict[str, Any]) -> Rejected:
    place = place_of(environ)
    if place is not None and place.cut:
        return Rejected("The body did not arrive in time.", status=408, code="timeout")
    return Rejected("The body could not be read to its end.", code="incomplete")


def _too_long(limit: int) -> Rejected:
    return Rejected(f"The body is longer than {limit} bytes.", status=413, code="too-long")
