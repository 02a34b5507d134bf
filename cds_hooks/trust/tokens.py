"""Tokens: taken apart, and their signatures checked. PyJWT is imported here and nowhere else.

Read before it is verified, a token says only which client's keys to try; nothing else in it is believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from jwt import PyJWK
from jwt.api_jws import PyJWS
from jwt.exceptions import DecodeError, PyJWTError

from cds_hooks.errors import Unauthorized
from cds_hooks.trust.clients import ASYMMETRIC

#: Characters of a token. Those of real clients have well below 2,000.
LONGEST: Final = 8192
#: Keys in a set; one more than a few is a mistake, many are an attack.
_MOST_KEYS = 100
_HEADER = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE | re.ASCII)
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
#: What a public key consists of (RFC 7518 section 6, RFC 8037). A private half that somebody published is not read.
_PUBLIC = frozenset({"kty", "crv", "x", "y", "n", "e"})

_JWS = PyJWS(ASYMMETRIC, {"verify_signature": True, "enforce_minimum_key_length": True})

#: A public key, bound to one algorithm.
Key = PyJWK
#: What a key is found by: the `kid` and `alg` of a token's header.
KeyName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Opened:
    """A token taken apart. Its signature has not been checked."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def opened(authorization: str | None) -> Opened:
    """Take the token out of an Authorization header and apart; raise Unauthorized if there is none to be had."""
    if not authorization:
        raise Unauthorized("no-token")
    if len(authorization) > LONGEST + 16:
        raise Unauthorized("too-long")
    found = _HEADER.fullmatch(authorization)
    if found is None:
        raise Unauthorized("no-bearer-token")
    text = found[1]
    if not _COMPACT.fullmatch(text):
        raise Unauthorized("malformed")
    try:
        parts = _JWS.decode_complete(text, options={"verify_signature": False})
        claims = orjson.loads(parts["payload"])
    except (DecodeError, ValueError):
        raise Unauthorized("malformed") from None
    except PyJWTError:  # a `kid` that is no string, a `crit` that names something
        raise Unauthorized("header") from None
    if not isinstance(claims, dict):
        raise Unauthorized("malformed")
    return Opened(text, parts["header"], claims)


def check_signature(token: Opened, key: Key) -> None:
    """Raise Unauthorized unless the token was signed with the private half of this key, by the key's algorithm."""
    try:
        _JWS.decode_complete(token.text, key, [key.algorithm_name])
    except PyJWTError:
        raise Unauthorized("signature") from None


def usable_keys(document: Any, algorithms: Iterable[str]) -> dict[KeyName, Key] | None:
    """Read a JWK Set (RFC 7517): the keys that can check signatures of these algorithms. None if it is no JWK Set.

    Symmetric keys, keys for encryption, keys without a `kid`, too short or broken ones are passed over.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return None
    wanted = tuple(algorithms)
    found: dict[KeyName, Key] = {}
    for member in listed[:_MOST_KEYS]:
        if not isinstance(member, dict) or not isinstance(member.get("kid"), str) or not _for_signatures(member):
            continue
        public = {name: value for name, value in member.items() if name in _PUBLIC}
        for algorithm in wanted:
            key = _key(public, algorithm) if member.get("alg") in (None, algorithm) else None
            if key is not None:
                found.setdefault((member["kid"], algorithm), key)
    return found


def _for_signatures(member: Mapping[str, Any]) -> bool:
    operations = member.get("key_ops")
    return member.get("use") in (None, "sig") and (not isinstance(operations, list) or "verify" in operations)


def _key(public: dict[str, Any], algorithm: str) -> Key | None:
    """The key for this algorithm; None if it is of another kind or curve, too short or broken."""
    try:
        key = Key(public, algorithm)
        prepared = key.Algorithm.prepare_key(key.key)
        return None if key.Algorithm.check_key_length(prepared) else key
    except Exception:  # each library below has its own; a set with one odd key still has the others
        return None
