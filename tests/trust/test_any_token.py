"""Whatever is sent, the gate lets in or refuses: no other error, and nothing is let in that a second look refuses."""

import json
from typing import Any

from hypothesis import given, reject, settings
from hypothesis import strategies as st
from jwt.exceptions import InvalidTokenError
from made_up_clients import ISSUER, NOW, PATH, PUBLIC, bearer, claims, client, gate, jwk, jwks, part, private, signed

from cds_hooks.errors import Unauthorized
from cds_hooks.protocol.caller import Admission
from cds_hooks.trust.tokens import usable_keys

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([NOW, NOW + 300, -NOW, 1e308, 2**64, 10**30]))
TEXTS = st.one_of(st.text(max_size=30), st.sampled_from([ISSUER, PUBLIC + PATH, "ES384", "none", "k1", "JWT", ""]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
CLAIMS = st.dictionaries(st.sampled_from(["iss", "aud", "iat", "exp", "nbf", "jti", "tenant", "sub"]), VALUES)
HEADERS = st.dictionaries(st.sampled_from(["kid", "typ", "jku", "crit", "b64", "jwk", "x5c", "cty"]), VALUES)


def tried(authorization: str) -> Admission | None:
    try:
        return gate(client(tenants=["t1"], audiences=["alias"])).admit(authorization, PATH)
    except Unauthorized:
        return None


@settings(deadline=None, max_examples=300)
@given(CLAIMS)
def test_any_claims(changes: dict[str, Any]) -> None:
    payload = claims(tenant="t1") | changes
    admitted = tried(bearer(signed(payload)))
    if admitted is not None:
        aud = payload["aud"] if isinstance(payload["aud"], list) else [payload["aud"]]
        assert payload["iss"] == ISSUER
        assert set(map(str, aud)) & {PUBLIC + PATH, "alias"}
        assert NOW - 30 < payload["exp"] <= payload["iat"] + 3600 <= NOW + 3630
        assert admitted.caller.tenant == payload["tenant"] == "t1"
        assert isinstance(payload["jti"], str)


@settings(deadline=None, max_examples=300)
@given(HEADERS)
def test_any_header(members: dict[str, Any]) -> None:
    try:
        token = signed(header=members, tenant="t1")
    except InvalidTokenError:  # PyJWT makes no token with such a header
        reject()
    admitted = tried(bearer(token))
    if admitted is not None:
        assert members.get("kid", "k1") == "k1"
        assert members.get("crit") is None
        assert str(members.get("typ") or "JWT").upper() == "JWT"


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))), st.booleans())
def test_any_text(text: str, named: bool) -> None:
    assert tried(f"Bearer {text}" if named else text) is None


@settings(deadline=None, max_examples=300)
@given(VALUES, VALUES, st.binary(max_size=120))
def test_any_parts(header: Any, payload: Any, signature: bytes) -> None:
    assert tried(f"Bearer {part(header)}.{part(payload)}.{part(signature)}") is None


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_one_bit_changed(place: int, bit: int) -> None:
    good = signed(tenant="t1")
    at = place % len(good)
    changed = good[:at] + chr(ord(good[at]) ^ (1 << bit)) + good[at + 1 :]
    assert tried(bearer(changed)) is None


MEMBERS = st.dictionaries(st.sampled_from(["kty", "kid", "crv", "x", "y", "n", "e", "d", "k", "alg", "use"]), VALUES)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(VALUES, MEMBERS), max_size=4), MEMBERS)
def test_any_set_of_keys(others: list[Any], members: dict[str, Any]) -> None:
    """One good key is found among whatever else stands there; NaN and the like come as a JSON reader gives them."""
    odd = json.loads(json.dumps([*others, jwk("ec", "odd") | members, jwk("ec", "good")]))
    found = usable_keys({"keys": odd}, ["ES384", "RS384", "EdDSA"])
    assert found is not None
    assert ("good", "ES384") in found
    assert found[("good", "ES384")].key.public_numbers() == private("ec").public_key().public_numbers()


@given(VALUES)
def test_any_document_of_keys(document: Any) -> None:
    assert not usable_keys(document, ["ES384"])
    assert usable_keys(jwks(), ["ES384"])
