"""Attacks on the gate, one by one, against the whole service. The run prints them as a table.

Each is sent between two good calls, so that it is the attack that is refused. Whatever it is, the answer is the same
to the byte, the service behind the gate hears nothing, and the log has the class of reason.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from an_ehr import loaded, patient, request, spasm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask.testing import FlaskClient
from made_up_clients import ISSUER, jwk, jwks, part, private, signed
from made_up_servers import Handler, Server, serving

from cds_hooks.service import CdsService
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app
from cds_hooks.wsgi import build_gate

PUBLIC = "https://cds.example.org"
SERVICE = "hemifacial-spasm-patient-view"
PATH = f"/cds-services/{SERVICE}"
OTHER = "https://other.example.org"
CHART = [patient("seed"), spasm("seed")]
BODY = request("patient-view", "seed", chart=CHART)
REFUSED = "A valid token of a known client is needed."


@dataclass
class World:
    """The service with two clients, the server with the keys of the first, and a server of the attacker."""

    ehr: FlaskClient
    keys: Server
    trap: Server
    log: io.BytesIO
    #: The last token that was let in.
    used: list[str] = field(default_factory=list)

    def token(self, **changes: Any) -> str:
        """A good token of the first client, with changes as `signed` takes them."""
        now = time.time()
        times = {"iat": now, "exp": now + 300, "jti": str(uuid.uuid4()), "aud": PUBLIC + PATH}
        return signed(**{**times, **changes})

    def call(self, authorization: str | None, path: str = PATH) -> Any:
        headers = {} if authorization is None else {"Authorization": authorization}
        return self.ehr.post(path, json=BODY, headers=headers)

    def last_line(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.log.getvalue().splitlines()[-1])
        return line


def publishing(handler: Handler) -> None:
    handler.say(200, jwks(jwk("ec", "k1", alg="ES384"), jwk("rsa", "r1")))


def published_by_attacker(handler: Handler) -> None:
    handler.say(200, jwks(jwk("ec:attacker", "k1"), jwk("ec:attacker", "a1")))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving(publishing) as keys, serving(published_by_attacker) as trap:
        second = tmp_path / "jwks.json"
        second.write_text(json.dumps(jwks(jwk("ec:second", "k1"), jwk("ec:second", "s1"))))
        clients = [
            {"name": "first", "issuer": ISSUER, "jwks_url": f"{keys.origin}/jwks.json", "tenants": ["north", "south"]},
            {"name": "second", "issuer": OTHER, "jwks_file": second, "services": ["hemifacial-spasm-order-sign"]},
        ]
        rules = {"keys_deadline_ms": 1500}
        settings = Settings(data=tmp_path, public_url=PUBLIC, clients=clients, auth=rules)  # type: ignore[arg-type]
        service = CdsService(loaded())
        log = io.BytesIO()
        app = create_app(service, settings, log, gate=build_gate(settings, service.ids()))
        yield World(app.test_client(), keys, trap, log)


def pem(name: str) -> bytes:
    encoded: bytes = private(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def der(name: str) -> bytes:
    encoded: bytes = private(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def hmac(world: World, secret: bytes, **header: Any) -> str:
    """A token "signed" with a secret, as PyJWT would refuse to make it."""
    import hashlib
    import hmac as library

    head = part({"alg": "HS256", "typ": "JWT", "kid": "k1"} | header)
    body = world.token(tenant="north").split(".")[1]
    mac = library.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"Bearer {head}.{body}.{part(mac)}"


def unsigned(world: World, alg: Any, signature: str = "") -> str:
    body = world.token(tenant="north").split(".")[1]
    return f"Bearer {part({'alg': alg, 'typ': 'JWT', 'kid': 'k1'})}.{body}.{signature}"


def changed(world: World) -> str:
    head, _, signature = world.token(tenant="north").split(".")
    return f"Bearer {head}.{world.token(tenant='south').split('.')[1]}.{signature}"


def with_(**changes: Any) -> Callable[[World], str]:
    return lambda world: f"Bearer {world.token(**({'tenant': 'north'} | changes))}"


def header(**members: Any) -> Callable[[World], str]:
    return with_(header=members)


def foreign_jku(world: World) -> str:
    return header(jku=f"{world.trap.origin}/jwks.json")(world)


def attackers_jku(world: World) -> str:
    return with_(key="ec:attacker", header={"jku": f"{world.trap.origin}/jwks.json", "kid": "a1"})(world)


def attackers_jwk(world: World) -> str:
    return with_(key="ec:attacker", header={"jwk": jwk("ec:attacker", "k1")})(world)


def attackers_x5u(world: World) -> str:
    return with_(key="ec:attacker", header={"x5u": f"{world.trap.origin}/cert.pem", "x5c": ["AAAA"]})(world)


def replayed(world: World) -> str:
    token = f"Bearer {world.token(tenant='north')}"
    assert world.call(token).status_code == 200
    return token


def relabelled(world: World) -> str:
    """The same claims signed once more: another text, the same token."""
    identity = str(uuid.uuid4())
    assert world.call(f"Bearer {world.token(tenant='north', jti=identity)}").status_code == 200
    return f"Bearer {world.token(tenant='north', jti=identity)}"


def in_(seconds: float) -> float:
    return time.time() + seconds


YEARS = 30 * 365 * 86_400.0
#: Attack, what is sent, the header it makes, the class of reason in the log.
ATTACKS: list[tuple[str, str, Callable[[World], str | None], str]] = [
    ("no token", "no Authorization header", lambda _: None, "no-token"),
    ("garbage header", "Bearer and bytes that are no text", lambda _: "Bearer \xff\xfe\x80", "no-bearer-token"),
    ("garbage header", "Bearer ../../etc/passwd", lambda _: "Bearer ../../etc/passwd", "malformed"),
    ("garbage header", "a.b.c", lambda _: "Bearer a.b.c", "malformed"),
    ("garbage header", "user and password (Basic)", lambda _: "Basic dXNlcjpwYXNz", "no-bearer-token"),
    ("two tokens", "a good one after a bad one", lambda w: f"Bearer a.b.c, Bearer {w.token()}", "no-bearer-token"),
    ("over-long token", "100,000 characters", lambda w: f"Bearer {w.token(pad='x' * 70_000)}", "too-long"),
    ("deep token", "claims nested 2,000 deep", lambda _: f"Bearer {part({})}.{part(b'[' * 2000)}.", "malformed"),
    ("encrypted token", "five parts (JWE)", lambda w: f"Bearer {w.token()}.x.y", "malformed"),
    ("alg none", "alg none, no signature", lambda w: unsigned(w, "none"), "algorithm"),
    ("alg none", "alg nOnE, no signature", lambda w: unsigned(w, "nOnE"), "algorithm"),
    ("alg none", "alg none, a signature", lambda w: unsigned(w, "none", w.token().split(".")[2]), "algorithm"),
    ("alg none", "no alg at all", lambda w: unsigned(w, None), "algorithm"),
    ("signature stripped", "alg ES384, no signature", lambda w: unsigned(w, "ES384"), "signature"),
    ("blank signature", "r = s = 0", lambda w: unsigned(w, "ES384", part(bytes(96))), "signature"),
    ("HS256 with the public key", "key as PEM", lambda w: hmac(w, pem("ec")), "algorithm"),
    ("HS256 with the public key", "key as DER", lambda w: hmac(w, der("ec")), "algorithm"),
    ("HS256 with the public key", "the RSA key, as PEM", lambda w: hmac(w, pem("rsa"), kid="r1"), "algorithm"),
    ("HS256 with the public key", "called ES384", lambda w: hmac(w, pem("ec"), alg="ES384"), "signature"),
    ("algorithm of another key", "RS384, kid of the EC key", with_(key="rsa", algorithm="RS384"), "unknown-key"),
    ("algorithm not agreed", "RS256", with_(key="rsa", algorithm="RS256", header={"kid": "r1"}), "algorithm"),
    ("changed claims", "the signature of another token", changed, "signature"),
    ("key of another client", "iss of the first", with_(key="ec:second"), "signature"),
    ("key of another client", "iss of the first, its kid", with_(key="ec:second", header={"kid": "s1"}), "unknown-key"),
    ("key of the attacker", "kid of a good key", with_(key="ec:attacker"), "signature"),
    ("wrong iss", "an unknown issuer", with_(iss="https://evil.example.org"), "unknown-issuer"),
    ("wrong iss", "a slash more", with_(iss=ISSUER + "/"), "unknown-issuer"),
    ("wrong iss", "a list with the good one", with_(iss=[ISSUER]), "unknown-issuer"),
    ("wrong iss", "none", with_(iss=None), "unknown-issuer"),
    ("wrong kid", "a kid that nobody has", header(kid="k9"), "unknown-key"),
    ("wrong kid", "a path", header(kid="../../../../dev/null"), "unknown-key"),
    ("wrong kid", "SQL", header(kid="k1' UNION SELECT 'secret' --"), "unknown-key"),
    ("wrong kid", "a list", header(kid=["k1"]), "header"),
    ("wrong kid", "none", header(kid=None), "header"),
    ("wrong aud", "another server", with_(aud="https://else.example.org" + PATH), "audience"),
    ("token for another service", "aud of order-sign", with_(aud=f"{PUBLIC}{PATH[:-12]}order-sign"), "audience"),
    ("token for discovery", "aud of discovery", with_(aud=f"{PUBLIC}/cds-services"), "audience"),
    ("token for feedback", "aud of feedback", with_(aud=f"{PUBLIC}{PATH}/feedback"), "audience"),
    ("wrong aud", "a prefix", with_(aud=PUBLIC), "audience"),
    ("wrong aud", "none", with_(aud=None), "missing-claim"),
    ("wrong tenant", "a tenant that is not listed", with_(tenant="west"), "tenant"),
    ("wrong tenant", "none", with_(tenant=None), "tenant"),
    ("expired", "exp an hour ago", lambda w: with_(iat=in_(-3900), exp=in_(-3600))(w), "expired"),
    ("far-future exp", "exp in 30 years", lambda w: with_(exp=in_(YEARS))(w), "lifetime"),
    ("far-future exp", "exp as text", with_(exp="99999999999"), "malformed-claim"),
    ("no exp", "none", with_(exp=None), "missing-claim"),
    ("not yet valid", "nbf in an hour", lambda w: with_(nbf=in_(3600))(w), "not-yet-valid"),
    ("from the future", "iat in an hour", lambda w: with_(iat=in_(3600), exp=in_(3700))(w), "issued-in-the-future"),
    ("missing jti", "none", with_(jti=None), "missing-claim"),
    ("unstorable jti", "5,000 characters", with_(jti="x" * 5_000), "malformed-claim"),
    ("unstorable jti", "a null character", with_(jti="a\x00b"), "malformed-claim"),
    ("replayed jti", "the same token twice, same worker", replayed, "replayed"),
    ("replayed jti", "the same jti, signed anew", relabelled, "replayed"),
    ("jku to a foreign host", "signed by the client", foreign_jku, "foreign-jku"),
    ("jku to a foreign host", "signed by the attacker", attackers_jku, "foreign-jku"),
    ("key in the header (jwk)", "signed by the attacker", attackers_jwk, "signature"),
    ("certificate in the header", "x5u and x5c of the attacker", attackers_x5u, "signature"),
    ("crit header", "crit: [exp]", header(crit=["exp"]), "header"),
    ("crit header", "crit: [b64], b64: true", header(crit=["b64"], b64=True), "header"),
    ("crit header", "crit: []", header(crit=[]), "header"),
    ("token of another kind", "typ at+jwt", header(typ="at+jwt"), "header"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=[f"{name}: {sent}" for name, sent, _, _ in ATTACKS])
def test_a_forged_token_is_refused(world: World, number: int, attack: Callable[..., None]) -> None:
    name, sent, make, reason = ATTACKS[number]
    assert world.call(f"Bearer {world.token(tenant='north')}").status_code == 200
    response = world.call(make(world))
    line = world.last_line()
    attack(name, sent, response.status_code, line.get("auth", ""))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.get_json() == {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "login", "diagnostics": REFUSED}],
    }
    assert line["auth"] == reason
    assert "think_ms" not in line  # nobody was asked about the patient
    assert world.trap.seen == []
    assert world.call(f"Bearer {world.token(tenant='north')}").status_code == 200


def test_a_token_for_another_client_is_of_no_use(world: World, attack: Callable[..., None]) -> None:
    token = world.token(iss=OTHER, key="ec:second")
    response = world.call(f"Bearer {token}")
    line = world.last_line()
    attack("service not allowed", "a good token of a client for another service", response.status_code, line["auth"])
    assert (response.status_code, line["auth"], line["client"]) == (403, "service", "second")
    assert "think_ms" not in line


# --- The server with the keys ---------------------------------------------------------------------------------------


def down(handler: Handler) -> None:
    handler.say(503)


def slow(handler: Handler) -> None:
    handler.server.over.wait(5)


def dripping(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b" ")


def huge(handler: Handler) -> None:
    handler.say(200, b" " * 5_000_000)


def no_set(handler: Handler) -> None:
    handler.say(200, b"<html>login</html>")


HOSTS = {"down (503)": down, "slow": slow, "dripping": dripping, "five megabytes": huge, "no JWK Set": no_set}


@pytest.mark.parametrize("how", HOSTS)
def test_without_its_keys_no_client_is_let_in(world: World, how: str, attack: Callable[..., None]) -> None:
    world.keys.act = HOSTS[how]
    began = time.perf_counter()
    response = world.call(f"Bearer {world.token(tenant='north')}")
    took = time.perf_counter() - began
    attack("JWKS server in trouble", how, response.status_code, world.last_line()["auth"])
    assert (response.status_code, world.last_line()["auth"]) == (401, "keys-unavailable")
    assert took < 3.0
    again = time.perf_counter()
    assert world.call(f"Bearer {world.token(tenant='north')}").status_code == 401
    assert time.perf_counter() - again < 1.0  # neither asked again so soon, nor waited for again
    assert len(world.keys.seen) == 1
    # The other client is none the worse for it.
    assert world.call(f"Bearer {world.token(iss=OTHER, key='ec:second')}").status_code == 403


def test_keys_behind_a_redirect_are_not_read(world: World, attack: Callable[..., None]) -> None:
    world.keys.act = lambda handler: handler.say(302, Location=f"{world.trap.origin}/jwks.json")
    response = world.call(f"Bearer {world.token(tenant='north', key='ec:attacker')}")
    reason = world.last_line()["auth"]
    attack("JWKS server redirects", "to keys of the attacker", response.status_code, reason)
    assert (response.status_code, reason, world.trap.seen) == (401, "keys-unavailable", [])


def test_unknown_keys_do_not_make_us_ask_again_and_again(world: World, attack: Callable[..., None]) -> None:
    assert world.call(f"Bearer {world.token(tenant='north')}").status_code == 200
    for number in range(50):
        response = world.call(f"Bearer {world.token(tenant='north', header={'kid': f'x{number}'})}")
        assert (response.status_code, world.last_line()["auth"]) == (401, "unknown-key")
    attack("flood of unknown kids", f"50 tokens: {len(world.keys.seen)} request for keys", 401, "unknown-key")
    assert len(world.keys.seen) == 1


def test_no_key_is_fetched_for_an_issuer_that_is_not_known(world: World) -> None:
    world.call(f"Bearer {world.token(iss='https://evil.example.org')}")
    assert world.keys.seen == world.trap.seen == []


def test_what_is_wrong_with_a_token_is_not_to_be_seen_from_outside(world: World) -> None:
    """All refusals, byte for byte, headers included, but for the id of the request."""
    answers = set()
    for _, _, make, _ in ATTACKS:
        response = world.call(make(world))
        headers = sorted((name, value) for name, value in response.headers if name != "X-Request-ID")
        answers.add((response.status_code, response.data, tuple(headers)))
    assert len(answers) == 1


def test_no_token_is_logged_or_counted(world: World) -> None:
    tokens = [make(world) or "" for _, _, make, _ in ATTACKS]
    for token in tokens:
        world.call(token)
    kept = world.log.getvalue().decode() + world.ehr.get("/metrics").get_data(as_text=True)
    for token in tokens:
        for piece in token.removeprefix("Bearer ").split("."):
            assert len(piece) < 12 or piece not in kept
    assert "evil.example.org" not in kept
    assert "dev/null" not in kept
