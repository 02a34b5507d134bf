"""The gate: from an Authorization header to a known caller, or a refusal that tells the sender nothing.

The order of the checks is the point. The issuer is compared with the settings before any key is fetched; the key comes
from where the settings say, never from where a token says; the claims are read after the signature; and a token is
marked as used last, so that a refused one can be sent again once its sender has mended what was wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from cds_hooks.errors import ContentError, StorageError, Unauthorized
from cds_hooks.protocol.caller import Admission, Caller
from cds_hooks.trust.claims import Accepted, checked
from cds_hooks.trust.clients import Auth, Client
from cds_hooks.trust.keys import KeyRing
from cds_hooks.trust.replay import MemoryGuard, ReplayGuard
from cds_hooks.trust.tokens import Key, KeyName, Opened, check_signature, opened, usable_keys

#: Gets a JSON document: URL and seconds it may take -> the document, None if it cannot be had. Follows no redirect.
Fetch = Callable[[str, float], Any]
#: Seconds for which the shared guard is left alone after it failed, so that not every call waits for it in vain.
_PAUSE: Final = 1.0
#: Bytes of a file with keys.
_LARGEST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Known:
    """A client of the settings, ready to be compared with."""

    client: Client
    keys: KeyRing[KeyName, Key]
    audiences: frozenset[str]
    tenants: frozenset[str]
    services: frozenset[str] | None


class Gate:
    """Lets the clients of the settings in. Safe to call from many threads."""

    def __init__(
        self,
        clients: Iterable[Client],
        public_url: str,
        rules: Auth,
        fetch: Fetch,
        shared: ReplayGuard | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare for these clients; `public_url` is what they call us, `shared` the guard of all workers.

        Raises ContentError for a file with keys that cannot be used. A URL with keys is first asked for a token.
        """
        self._known: Final = {client.issuer: _known(client, rules, fetch) for client in clients}
        self._public_url: Final = public_url
        self._rules: Final = rules
        self._local: Final = MemoryGuard(clock=clock)
        self._shared: Final = shared
        self._shared_from = 0.0
        self._clock: Final = clock

    @property
    def guards_discovery(self) -> bool:
        """Whether discovery needs a token."""
        return self._rules.discovery

    def warm(self, seconds: float) -> None:
        """Read the keys of all clients, waiting so long at most. Whose keys cannot be had now is tried again later."""
        until = time.monotonic() + seconds
        for reading in [known.keys.warm() for known in self._known.values()]:
            reading.wait(max(0.0, until - time.monotonic()))

    def admit(self, authorization: str | None, *paths: str) -> Admission:
        """Say who sends this Authorization header to the endpoint with this path, or one of these.

        Raises Unauthorized. Each token is let in once.
        """
        token = opened(authorization)
        issuer = token.claims.get("iss")
        known = self._known.get(issuer) if isinstance(issuer, str) else None
        if known is None:
            raise Unauthorized("unknown-issuer")
        try:
            return self._admit(token, known, paths)
        except Unauthorized as refused:
            refused.client = known.client.name
            raise

    def _admit(self, token: Opened, known: _Known, paths: Iterable[str]) -> Admission:
        client = known.client
        name = _key_name(token.header, client)
        found = known.keys.find(name)
        if found.key is None:
            raise Unauthorized("unknown-key" if found.available else "keys-unavailable")
        check_signature(token, found.key)
        audiences = known.audiences.union(self._public_url + path for path in paths)
        accepted = checked(token.claims, audiences, known.tenants, self._rules, self._clock())
        local = self._use(client.issuer, accepted)
        caller = Caller(client.name, accepted.tenant, known.services, client.fhir_servers)
        notes = (("stale-keys", found.stale), ("replay-guard-local", local))
        return Admission(caller, tuple(note for note, true in notes if true))

    def _use(self, issuer: str, accepted: Accepted) -> bool:
        """Mark the token as used; whether only this worker knows it. Raises Unauthorized if it was used before."""
        # Noted here even if the shared guard works: it may be down when the token comes again.
        if not self._local.first_use(issuer, accepted.jti, accepted.expires):
            raise Unauthorized("replayed")
        if self._shared is None:
            return False
        now = self._clock()
        if now < self._shared_from:
            return True
        try:
            first = self._shared.first_use(issuer, accepted.jti, accepted.expires)
        except StorageError:
            self._shared_from = now + _PAUSE
            return True
        if not first:
            raise Unauthorized("replayed")
        return False


def _key_name(header: Mapping[str, Any], client: Client) -> KeyName:
    """The name of the key that a token says it was signed with; raise Unauthorized for a header that is not taken."""
    algorithm, key_id, kind, jku = (header.get(name) for name in ("alg", "kid", "typ", "jku"))
    if algorithm not in client.algorithms:
        raise Unauthorized("algorithm")
    # RFC 7515 section 4.1.11: what is critical has to be understood, and nothing that could be there is.
    if "crit" in header or not (kind is None or (isinstance(kind, str) and kind.upper() == "JWT")):
        raise Unauthorized("header")
    # Keys are never read from the token's URL. One that names another than ours is of no client that we know.
    if jku is not None and client.jwks_url is not None and jku != client.jwks_url:
        raise Unauthorized("foreign-jku")
    if not isinstance(key_id, str):
        raise Unauthorized("header")
    return key_id, algorithm


def _known(client: Client, rules: Auth, fetch: Fetch) -> _Known:
    wait_s = rules.keys_deadline_ms / 1000
    ring: KeyRing[KeyName, Key] = KeyRing(
        _reader(client, fetch, wait_s), fresh_s=rules.keys_fresh_s, stale_s=rules.keys_stale_s, wait_s=wait_s
    )
    services = None if "*" in client.services else frozenset(client.services)
    return _Known(client, ring, frozenset(client.audiences), frozenset(client.tenants), services)


def _reader(client: Client, fetch: Fetch, seconds: float) -> Callable[[], Mapping[KeyName, Key] | None]:
    """How this client's keys are read."""
    url, file = client.jwks_url, client.jwks_file
    if url is not None:
        return lambda: usable_keys(fetch(url, seconds), client.algorithms)
    assert file is not None  # noqa: S101 - the settings see to it
    if not _from_file(file, client.algorithms):
        raise ContentError(str(file), "", f"holds no public key for {', '.join(client.algorithms)} with a kid")
    return lambda: _from_file(file, client.algorithms)


def _from_file(file: Path, algorithms: Iterable[str]) -> Mapping[KeyName, Key] | None:
    """Read a JWK Set from a file, which may be replaced at any time; raise ContentError if there is none."""
    try:
        with file.open("rb") as stream:
            return usable_keys(orjson.loads(stream.read(_LARGEST)), algorithms)
    except OSError as error:
        raise ContentError(str(file), "", f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise ContentError(str(file), "", "is no JSON") from None
