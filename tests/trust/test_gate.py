"""Who is let in: good tokens of every kind, and each rule a token has to keep. Attacks are in test_attacks."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_clients import (
    ISSUER,
    JWKS,
    NOW,
    PATH,
    PUBLIC,
    Clock,
    Host,
    bearer,
    client,
    gate,
    jwk,
    jwks,
    private,
    signed,
)

from cds_hooks.errors import ContentError, StorageError, Unauthorized
from cds_hooks.protocol.caller import Admission, Caller
from cds_hooks.trust.gate import Gate


def refusal(closed: Gate, authorization: str | None, *paths: str) -> str:
    """The class of reason; the rest of the refusal is the same for all."""
    with pytest.raises(Unauthorized) as caught:
        closed.admit(authorization, *(paths or (PATH,)))
    assert (caught.value.status, caught.value.code) == (401, "login")
    assert caught.value.diagnostics == "A valid token of a known client is needed."
    return caught.value.reason


def test_a_good_token() -> None:
    host = Host()
    assert gate(host=host).admit(bearer(signed()), PATH) == Admission(Caller("hospital-a", fhir_servers=()))
    assert host.asked == [JWKS]


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *(("ec", "ES384"), ("p256", "ES256"), ("ed", "EdDSA")),
        *(("rsa", f"{kind}{size}") for kind in ("RS", "PS") for size in (256, 384, 512)),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_each_algorithm_with_and_without_its_name_on_the_key(key: str, algorithm: str, named: bool) -> None:
    host = Host(jwks(jwk(key, "k1", **({"alg": algorithm} if named else {}))))
    open_ = gate(client(algorithms=[algorithm]), host=host)
    assert open_.admit(bearer(signed(key=key, algorithm=algorithm)), PATH).caller.name == "hospital-a"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer ", "Bearer"])
def test_the_scheme_has_no_case(scheme: str) -> None:
    assert gate().admit(f"{scheme} {signed()}", PATH).caller.name == "hospital-a"


def test_what_a_caller_may_do_comes_from_the_settings() -> None:
    mine = client(services=["a", "b"], fhir_servers=["https://ehr.example.org/fhir/"], tenants=["t1", "t2"])
    caller = gate(mine).admit(bearer(signed(tenant="t2")), PATH).caller
    assert caller == Caller("hospital-a", "t2", frozenset({"a", "b"}), ("https://ehr.example.org/fhir",))
    assert gate(client(services=["*", "a"])).admit(bearer(signed()), PATH).caller.services is None


@pytest.mark.parametrize(
    ("aud", "aliases", "good"),
    [
        (PUBLIC + PATH, [], True),
        ([PUBLIC + PATH], [], True),
        (["https://other.example.org", PUBLIC + PATH], [], True),
        ("urn:our-name", ["urn:our-name"], True),
        ("urn:our-name", [], False),
        (PUBLIC + PATH + "/", [], False),
        (PUBLIC + PATH + "-2", [], False),
        (PUBLIC + PATH + "/feedback", [], False),
        (PUBLIC, [], False),
        (PATH, [], False),
        ((PUBLIC + PATH).replace("https", "http"), [], False),
        ((PUBLIC + PATH).upper(), [], False),
        ([], [], False),
        ([["https://cds.example.org"]], [], False),
        ({"0": PUBLIC + PATH}, [], False),
        ("", [], False),
        (0, [], False),
    ],
)
def test_audience(aud: Any, aliases: list[str], good: bool) -> None:
    asked = gate(client(audiences=aliases))
    if good:
        assert asked.admit(bearer(signed(aud=aud)), PATH).caller.name
    else:
        assert refusal(asked, bearer(signed(aud=aud))) == "audience"


def test_any_of_the_paths_of_an_endpoint_is_its_audience() -> None:
    for path in ("/a", "/b"):
        assert gate().admit(bearer(signed(aud=PUBLIC + path)), "/a", "/b").caller.name
    assert refusal(gate(), bearer(signed(aud=PUBLIC + "/c")), "/a", "/b") == "audience"


LEEWAY, LIFE = 30, 3600


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iat": NOW + LEEWAY, "exp": NOW + 300}, None),
        ({"iat": NOW + LEEWAY + 1, "exp": NOW + 300}, "issued-in-the-future"),
        ({"exp": NOW - LEEWAY + 1}, None),
        ({"iat": NOW - 300, "exp": NOW - LEEWAY}, "expired"),
        ({"nbf": NOW - 300}, None),
        ({"nbf": NOW + LEEWAY}, None),
        ({"nbf": NOW + LEEWAY + 1}, "not-yet-valid"),
        ({"exp": NOW + LIFE}, None),
        ({"exp": NOW + LIFE + 1}, "lifetime"),
        ({"iat": NOW - LIFE, "exp": NOW + 1}, "lifetime"),
        ({"iat": NOW + 0.5, "exp": NOW + 299.5}, None),
        *(({name: None}, "missing-claim") for name in ("aud", "iat", "exp", "jti")),
        *(({name: value}, "malformed-claim") for name in ("iat", "exp", "nbf") for value in ("1800000000", True, [])),
        ({"exp": 10**400}, "malformed"),
        *(({"jti": value}, "malformed-claim") for value in (1, "", "x" * 257, "a\nb", "a\x00", ["x"], {}, False)),
        *(({"tenant": value}, "malformed-claim") for value in (1, "", "x" * 257, "\x1b[0m", ["x"])),
        ({"tenant": "any"}, None),
        ({"sub": "x", "extension": {"com.example": 1}}, None),
    ],
)  # fmt: skip
def test_claims(changes: dict[str, Any], reason: str | None) -> None:
    token = bearer(signed(**changes))
    if reason is None:
        assert gate().admit(token, PATH).caller.name == "hospital-a"
    else:
        assert refusal(gate(), token) == reason


def test_leeway_and_lifetime_can_be_set() -> None:
    strict: dict[str, Any] = {"leeway_s": 0, "lifetime_s": 60}
    assert refusal(gate(**strict), bearer(signed(iat=NOW + 1))) == "issued-in-the-future"
    assert refusal(gate(**strict), bearer(signed(exp=NOW + 61))) == "lifetime"
    assert gate(**strict).admit(bearer(signed(exp=NOW + 60)), PATH).caller.name


@pytest.mark.parametrize("tenant", [None, "t3", "T1", "t1 "])
def test_tenants_that_are_listed_only(tenant: str | None) -> None:
    assert refusal(gate(client(tenants=["t1", "t2"])), bearer(signed(tenant=tenant))) == "tenant"


# --- Once -----------------------------------------------------------------------------------------------------------


def test_a_token_is_good_for_one_call() -> None:
    once = gate()
    assert once.admit(bearer(signed()), PATH)
    assert refusal(once, bearer(signed())) == "replayed"
    assert once.admit(bearer(signed(jti="t2")), PATH)


def test_a_refused_token_is_not_used_up() -> None:
    host = Host(None)
    clock = Clock()
    once = gate(host=host, clock=clock)
    token = bearer(signed())
    assert refusal(once, token, "/elsewhere") == "keys-unavailable"
    host.document = jwks()
    later = gate(host=host)
    assert refusal(later, token, "/elsewhere") == "audience"
    assert later.admit(token, PATH)


class Shared:
    """A guard of all workers, which can fail."""

    def __init__(self) -> None:
        self.used: set[tuple[str, str]] = set()
        self.asked = 0
        self.down = False

    def first_use(self, issuer: str, jti: str, expires: float) -> bool:
        assert expires == NOW + 300 + LEEWAY
        self.asked += 1
        if self.down:
            raise StorageError("down")
        first = (issuer, jti) not in self.used
        self.used.add((issuer, jti))
        return first


def test_two_workers_share_a_guard() -> None:
    shared = Shared()
    one, two = gate(shared=shared), gate(shared=shared)
    assert one.admit(bearer(signed()), PATH) == Admission(Caller("hospital-a", fhir_servers=()))
    assert refusal(two, bearer(signed())) == "replayed"
    assert refusal(one, bearer(signed())) == "replayed"
    assert shared.asked == 2  # what this worker has seen it knows itself


def test_without_the_shared_guard_each_worker_keeps_its_own() -> None:
    shared, clock = Shared(), Clock()
    asked = gate(shared=shared, clock=clock)
    assert asked.admit(bearer(signed(jti="before")), PATH).notes == ()
    shared.down = True
    assert asked.admit(bearer(signed()), PATH).notes == ("replay-guard-local",)
    assert refusal(asked, bearer(signed())) == "replayed"
    assert refusal(asked, bearer(signed(jti="before"))) == "replayed"
    before = shared.asked
    assert asked.admit(bearer(signed(jti="t2")), PATH).notes == ("replay-guard-local",)
    assert shared.asked == before  # not every call pays for the store that is down
    shared.down = False
    clock.now += 1
    assert asked.admit(bearer(signed(jti="t3")), PATH).notes == ()


# --- Keys -----------------------------------------------------------------------------------------------------------


def test_keys_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(jwks()))
    host = Host()
    asked = gate(client(jwks_url=None, jwks_file=file), host=host)
    # The reference client names a URL even where its keys are configured by hand; it is not followed.
    assert asked.admit(bearer(signed(header={"jku": "https://sandbox.example.org/jwks.json"})), PATH).caller.name
    assert host.asked == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        ("[]", "holds no public key"),
        ('{"keys": []}', "holds no public key"),
        (json.dumps(jwks(jwk("rsa", "k1", alg="RS256"))), "holds no public key for ES384, RS384"),
    ],
)
def test_a_file_without_keys_is_told_at_start(tmp_path: Path, text: str | None, told: str) -> None:
    file = tmp_path / "jwks.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ContentError, match=told):
        gate(client(jwks_url=None, jwks_file=file))


@pytest.mark.parametrize(
    "unusable",
    [
        jwk("ec", "other"),
        jwk("ec", "k1", use="enc"),
        jwk("ec", "k1", alg="ES256"),
        jwk("ec", "k1", key_ops=["sign"]),
        jwk("ec", "k1", kty="RSA"),
        jwk("ec", "k1", x="!"),
        jwk("ec", "k1", x=1),
        jwk("ec", "k1", crv="P-256"),
        jwk("ec", "k1", crv=None),
        jwk("p256", "k1"),
        {"kty": "oct", "kid": "k1", "k": "c2VjcmV0", "alg": "ES384"},
        {"kty": "RSA", "kid": "k1"},
        {"kid": "k1"},
        {"kty": "EC", "kid": 1},
        "key",
        None,
    ],
)
def test_a_key_that_cannot_be_used_is_passed_over(unusable: Any) -> None:
    host = Host({"keys": [unusable]})
    assert refusal(gate(host=host), bearer(signed())) == "unknown-key"
    host = Host({"keys": [unusable, jwk("ec", "k1")]})
    assert gate(host=host).admit(bearer(signed()), PATH).caller.name


def test_a_short_rsa_key_is_passed_over() -> None:
    host = Host(jwks(jwk("rsa:short", "k1")))
    token = bearer(signed(key="rsa", algorithm="RS384"))
    assert refusal(gate(host=host), token) == "unknown-key"


def test_the_private_half_of_a_published_key_is_not_read() -> None:
    secret = private("ec").private_numbers().private_value.to_bytes(48, "big")
    host = Host(jwks(jwk("ec", "k1", d=secret.hex())))
    assert gate(host=host).admit(bearer(signed()), PATH).caller.name


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, "keys", OSError("no")])
def test_no_keys_to_be_had(document: Any) -> None:
    assert refusal(gate(host=Host(document)), bearer(signed())) == "keys-unavailable"


def test_more_keys_than_anyone_has() -> None:
    many = [jwk("ec", f"k{number}") for number in range(1, 102)]
    asked = gate(host=Host({"keys": many}))
    assert asked.admit(bearer(signed(header={"kid": "k100"})), PATH).caller.name
    assert refusal(asked, bearer(signed(header={"kid": "k101"}))) == "unknown-key"


def test_each_client_has_keys_of_its_own() -> None:
    documents = {JWKS: jwks(), "https://b.example.org/jwks": jwks(jwk("ec:b", "k1"))}
    b = client(name="hospital-b", issuer="https://b.example.org", jwks_url="https://b.example.org/jwks")
    asked = gate(client(), b, host=lambda url, seconds: documents[url])
    theirs = signed(key="ec:b", iss="https://b.example.org")
    assert asked.admit(bearer(theirs), PATH).caller.name == "hospital-b"
    assert asked.admit(bearer(signed()), PATH).caller.name == "hospital-a"
    assert refusal(asked, bearer(signed(key="ec:b"))) == "signature"
    assert refusal(asked, bearer(signed(iss=ISSUER + "/"))) == "unknown-issuer"


def test_a_refusal_names_the_client_only_if_there_is_one() -> None:
    for token, name in ((signed(exp=1), "hospital-a"), (signed(iss="https://x.example.org"), ""), ("x.y.z", "")):
        with pytest.raises(Unauthorized) as caught:
            gate().admit(bearer(token), PATH)
        assert caught.value.client == name
