"""The claims of a token whose signature has been checked: is it for us, from now, and does it say whose it is.

PyJWT could compare most of these, but asks the machine for the time and takes numbers written as strings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from cds_hooks.errors import Unauthorized
from cds_hooks.trust.clients import Auth

#: Characters of `jti` and `tenant`; both are stored.
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is left of the claims once they have been checked."""

    jti: str
    #: Seconds since 1970 from which on the token is refused for its age, leeway included.
    expires: float
    tenant: str | None


def checked(
    claims: Mapping[str, Any], audiences: Collection[str], tenants: Collection[str], rules: Auth, now: float
) -> Accepted:
    """Check the claims at this time (seconds since 1970); raise Unauthorized with the class of the first that fails.

    `aud` may be a string or a list (RFC 7519 section 4.1.3); `nbf` is optional, as in CDS Hooks 2.0.
    """
    _check_audience(claims.get("aud"), audiences)
    expires = _check_time(claims, rules, now)
    jti = claims.get("jti")
    if jti is None:
        raise Unauthorized("missing-claim")
    tenant = claims.get("tenant")
    if not _storable(jti) or not (tenant is None or _storable(tenant)):
        raise Unauthorized("malformed-claim")
    if tenants and tenant not in tenants:
        raise Unauthorized("tenant")
    return Accepted(jti, expires, tenant)


def _check_audience(given: Any, audiences: Collection[str]) -> None:
    if given is None:
        raise Unauthorized("missing-claim")
    named = given if isinstance(given, list) else [given]
    if not any(isinstance(one, str) and one in audiences for one in named):
        raise Unauthorized("audience")


def _check_time(claims: Mapping[str, Any], rules: Auth, now: float) -> float:
    issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
    if issued is None or expires is None:
        raise Unauthorized("missing-claim")
    if issued > now + rules.leeway_s:
        raise Unauthorized("issued-in-the-future")
    begins = _seconds(claims, "nbf")
    if begins is not None and begins > now + rules.leeway_s:
        raise Unauthorized("not-yet-valid")
    if expires - issued > rules.lifetime_s:
        raise Unauthorized("lifetime")
    if expires + rules.leeway_s <= now:
        raise Unauthorized("expired")
    return expires + rules.leeway_s


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise Unauthorized("malformed-claim")
    return float(value)


def _storable(value: Any) -> bool:
    """Whether this is a string that any database takes: no control characters, no half of a surrogate pair."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()
