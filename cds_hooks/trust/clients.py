"""The clients of the settings, and the rules their tokens have to keep; as data, checked at start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cds_hooks.protocol.address import base_url, plain_url, stays_here

#: Signature algorithms with a public and a private half (RFC 7518 section 3.1, RFC 8037): with these, whoever can check
#: a token cannot make one.
ASYMMETRIC: Final = (
    "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA",
)  # fmt: skip
_TEXT = re.compile(r"[\x21-\x7e]+")


def _algorithm(name: str) -> str:
    if name in ASYMMETRIC:
        return name
    weak = name.lower() == "none" or name.upper().startswith("HS")
    why = "is refused, because whoever can check such a token can also make one" if weak else "is not known"
    raise ValueError(f"{name} {why}; take {', '.join(ASYMMETRIC)}")


def _encrypted(url: str) -> str:
    if url.startswith("http://") and not stays_here(url):
        raise ValueError("must begin with https://; plain http is for loopback only (127.0.0.1, ::1, localhost)")
    return url


def _text(text: str) -> str:
    if not _TEXT.fullmatch(text):
        raise ValueError("must consist of visible ASCII characters")
    return text


#: Base URL of a server, over http only on loopback.
SecureBaseUrl = Annotated[str, AfterValidator(base_url), AfterValidator(_encrypted)]
Text = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_text)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Client(_Section):
    """One EHR or other client: who signs its tokens, with which keys, and what it may do with them."""

    #: What logs, metrics and the store call it.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    #: The claim `iss` of its tokens, compared as a string.
    issuer: Text
    #: Where its public keys are: a JWK Set behind a URL, or in a file. One of the two.
    jwks_url: Annotated[str, AfterValidator(plain_url), AfterValidator(_encrypted)] | None = None
    jwks_file: Path | None = None
    #: Values of `aud` that are taken at every endpoint, besides the endpoint's own URL.
    audiences: tuple[Text, ...] = ()
    #: Values of `tenant`, one of which its tokens must carry; none: any, or none.
    tenants: tuple[Text, ...] = ()
    algorithms: Annotated[tuple[Annotated[str, AfterValidator(_algorithm)], ...], Field(min_length=1)] = (
        "ES384", "RS384",
    )  # fmt: skip
    #: Ids of the services it may call; "*" for all.
    services: Annotated[tuple[Text, ...], Field(min_length=1)] = ("*",)
    #: FHIR base URLs that its calls may name; none: it works by prefetch alone.
    fhir_servers: tuple[SecureBaseUrl, ...] = ()

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            told = "both" if self.jwks_url else "neither"
            raise ValueError(f'client "{self.name}" has {told} of jwks_url and jwks_file: name the one its keys are in')
        return self


class Auth(_Section):
    """What holds for the tokens of all clients. Times in seconds, or as the name says."""

    #: Whether discovery needs a token, as calls and feedback always do.
    discovery: bool = True
    #: By how much the clocks of client and server may differ.
    leeway_s: Annotated[int, Field(ge=0, le=300)] = 30
    #: The longest life of a token, from `iat` to `exp`. The replay guard remembers tokens for as long.
    lifetime_s: Annotated[int, Field(ge=60, le=86_400)] = 3600
    #: Keys are read again after this time,
    keys_fresh_s: Annotated[int, Field(ge=10, le=86_400)] = 300
    #: but serve for this long if they cannot be had.
    keys_stale_s: Annotated[int, Field(ge=10, le=604_800)] = 86_400
    #: How long a call waits for keys.
    keys_deadline_ms: Annotated[int, Field(ge=100, le=10_000)] = 2000
