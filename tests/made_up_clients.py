"""Clients for tests: keys made up on the spot, tokens signed with them, and a clock that stands still."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.api_jws import PyJWS

from cds_hooks.trust.clients import Auth, Client
from cds_hooks.trust.gate import Gate

NOW = 1_800_000_000.0
PUBLIC = "https://cds.example.org"
ISSUER = "https://ehr.example.org"
JWKS = "https://ehr.example.org/jwks.json"
SERVICE = "made-up-patient-view"
PATH = f"/cds-services/{SERVICE}"


@cache
def private(name: str) -> Any:
    """A private key by a name of ours: `ec`, `ec:other`, `p256`, `rsa`, `rsa:short`, `ed`."""
    kind, _, variant = name.partition(":")
    if kind == "rsa":
        return rsa.generate_private_key(65537, 1024 if variant == "short" else 2048)
    if kind == "ed":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if kind == "p256" else ec.SECP384R1())


def jwk(name: str, kid: str, **members: Any) -> dict[str, Any]:
    """The public half, as a member of a JWK Set."""
    kinds: dict[str, Any] = {"rsa": RSAAlgorithm, "ed": OKPAlgorithm}
    kind = kinds.get(name.partition(":")[0], ECAlgorithm)
    public: dict[str, Any] = kind.to_jwk(private(name).public_key(), as_dict=True)
    return {name: value for name, value in public.items() if name != "key_ops"} | {"kid": kid} | members


def jwks(*keys: dict[str, Any]) -> dict[str, Any]:
    return {"keys": list(keys or (jwk("ec", "k1", alg="ES384", use="sig"),))}


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims of a call, with changes; None takes a claim out."""
    good = {"iss": ISSUER, "aud": PUBLIC + PATH, "iat": int(NOW), "exp": int(NOW) + 300, "jti": "t1"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(
    payload: Any = None, key: Any = "ec", algorithm: str = "ES384", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    """A token. `key` is a name of ours or the key itself; `header` adds to `kid` or replaces it."""
    given = {"kid": "k1"} | (header or {})
    given = {name: value for name, value in given.items() if value is not None}
    body = json.dumps(claims(**changes) if payload is None else payload).encode()
    secret = private(key) if isinstance(key, str) else key
    return _Lax().encode(body, secret, algorithm, given)


class _Lax(PyJWS):
    """Signs what PyJWT would rather not, as an attacker does."""

    def _validate_headers(self, headers: dict[str, Any], *, encoding: bool = False) -> None:
        pass


def bearer(token: str) -> str:
    return f"Bearer {token}"


@dataclass
class Host:
    """The server with a client's keys: gives the document, or fails."""

    document: Any = field(default_factory=jwks)
    asked: list[str] = field(default_factory=list)

    def __call__(self, url: str, seconds: float) -> Any:
        self.asked.append(url)
        if isinstance(self.document, Exception):
            raise self.document
        return self.document


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def client(**changes: Any) -> Client:
    return Client(**{"name": "hospital-a", "issuer": ISSUER, "jwks_url": JWKS, **changes})


def gate(*clients: Client, host: Any = None, shared: Any = None, clock: Any = None, **rules: Any) -> Gate:
    return Gate(clients or (client(),), PUBLIC, Auth(**rules), host or Host(), shared, clock=clock or Clock())
