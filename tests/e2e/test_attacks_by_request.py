"""Attacks by what a known client sends, or by what answers in the name of its FHIR server. Part of the printed table.

A client may be taken over, and a chart holds what anybody typed. Nothing of that may make the service go where it may
not, hand a token to whom it is not meant for, or put something on a card that does more than be read.
"""

from __future__ import annotations

import io
import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from an_ehr import CPT, SNOMED, bundle, concept, loaded, order, patient, request, spasm
from click.testing import CliRunner
from flask.testing import FlaskClient
from made_up_clients import ISSUER, jwk, jwks, signed
from made_up_servers import Handler, Server, serving
from markdown_it import MarkdownIt

from cds_hooks.chart.client import FhirClient
from cds_hooks.chart.origin import AllowList
from cds_hooks.chart.resolving import Resolver
from cds_hooks.cli import main
from cds_hooks.service import CdsService
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app
from cds_hooks.wsgi import build_gate

PUBLIC = "https://cds.example.org"
PATIENT_VIEW, ORDER_SELECT = "hemifacial-spasm-patient-view", "hemifacial-spasm-order-select"
PRIVATE_NAME = "fhir.example.org"
SECRET = "the-token-of-the-user"
CHART = [patient("seed"), spasm("seed")]
Told = Callable[..., None]


@dataclass
class World:
    """The service with one client and its FHIR server, and a server of the attacker."""

    ehr: FlaskClient
    fhir: Server
    trap: Server
    log: io.BytesIO

    def call(self, body: Any, service: str = PATIENT_VIEW, **headers: str) -> Any:
        now = time.time()
        path = f"{PUBLIC}/cds-services/{service}"
        token = signed(aud=path, iat=now, exp=now + 300, jti=str(uuid.uuid4()))
        given = {"Authorization": f"Bearer {token}", **headers}
        return self.ehr.post(f"/cds-services/{service}", json=body, headers=given)

    def fetching(self, server: str, token: str = SECRET) -> Any:
        """A call without prefetch: all has to be fetched from this FHIR server."""
        body = request("patient-view", "seed", fhirServer=server)
        del body["prefetch"]
        body["fhirAuthorization"] = {
            "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": "x", "subject": "y",
        }  # fmt: skip
        return self.call(body)

    def last_line(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.log.getvalue().splitlines()[-1])
        return line


def chart(handler: Handler) -> None:
    """A good FHIR server with the chart of the seed patient."""
    kind = handler.path.removeprefix("/fhir/").partition("?")[0].partition("/")[0]
    found = [one for one in CHART if one["resourceType"] == kind]
    handler.say(200, found[0] if kind == "Patient" else bundle(*found))


def robbed(handler: Handler) -> None:
    """What the attacker would have us read."""
    handler.say(200, bundle(spasm("seed", "from-the-attacker")))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving(chart) as fhir, serving(robbed) as trap:
        keys = tmp_path / "jwks.json"
        keys.write_text(json.dumps(jwks(jwk("ec", "k1"))))
        servers = [f"{fhir.origin}/fhir", f"https://{PRIVATE_NAME}:{trap.server_address[1]}/fhir"]
        client = {"name": "first", "issuer": ISSUER, "jwks_file": keys, "fhir_servers": servers}
        settings = Settings(data=tmp_path, public_url=PUBLIC, clients=[client])  # type: ignore[arg-type]

        def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        reader = FhirClient(AllowList(), attempts=1, resolver=Resolver((), resolve))
        service = CdsService(loaded(), reader)
        log = io.BytesIO()
        app = create_app(service, settings, log, gate=build_gate(settings, service.ids()))
        yield World(app.test_client(), fhir, trap, log)
        reader.close()


# --- Where it goes --------------------------------------------------------------------------------------------------

UNLISTED = "not on the list of FHIR servers"
PRIVATE = "an address that is not public, and not on the list of FHIR servers"
#: What is named as fhirServer -> status, and what the answer says. FHIR and TRAP stand for host and port.
ELSEWHERE = {
    "https://evil.example.org/fhir": (412, UNLISTED),
    "http://TRAP/fhir": (412, PRIVATE),
    "http://TRAP": (412, PRIVATE),
    "http://localhost:1/fhir": (412, UNLISTED),
    "http://FHIR/fhir-of-others": (412, PRIVATE),
    "http://FHIR/": (412, PRIVATE),
    "http://FHIR/fhir/..;/admin": (412, "not a plain http or https base URL"),
    "http://FHIR/fhir/%2e%2e/admin": (400, "dot segments"),
    "http://FHIR/fhir/../admin": (400, "dot segments"),
    "http://FHIR@TRAP/fhir": (400, "without user"),
    "http://TRAP#@FHIR/fhir": (400, "fragment"),
    "http://TRAP\\@FHIR/fhir": (400, "plain URL"),
    "http://FHIR.evil.example.org/fhir": (400, "valid host and port"),
    "http://169.254.169.254/latest/meta-data": (412, "plain http to another machine"),
    "https://169.254.169.254/latest/meta-data": (412, PRIVATE),
    "https://2852039166/": (412, "not a plain http or https base URL"),
    "https://0x7f.1/": (412, "not a plain http or https base URL"),
    "https://[::ffff:127.0.0.1]/": (412, "not a plain http or https base URL"),
    "file:///etc/passwd": (400, "begins with https"),
    "gopher://TRAP/fhir": (400, "begins with https"),
}


@pytest.mark.parametrize("named", ELSEWHERE)
def test_a_fhir_server_outside_the_list_is_not_called(world: World, named: str, attack: Told) -> None:
    here, there = (server.origin.removeprefix("http://") for server in (world.fhir, world.trap))
    status, told = ELSEWHERE[named]
    response = world.fetching(named.replace("FHIR", here).replace("TRAP", there))
    attack("fhirServer outside the list", named, response.status_code, told.partition(",")[0])
    assert response.status_code == status, response.get_data(as_text=True)
    assert told in response.get_json()["issue"][0]["diagnostics"]
    assert world.trap.seen == world.fhir.seen == []
    assert world.fetching(f"http://{here}/fhir").status_code == 200


def test_a_name_that_leads_to_a_private_address_is_not_called(world: World, attack: Told) -> None:
    port = world.trap.server_address[1]
    response = world.fetching(f"https://{PRIVATE_NAME}:{port}/fhir")
    diagnostics = response.get_json()["issue"][0]["diagnostics"]
    attack("DNS name to a private address", f"{PRIVATE_NAME} -> 127.0.0.1", response.status_code, "private address")
    assert (response.status_code, world.trap.seen) == (412, [])
    assert "conditions: private address" in diagnostics


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(world: World, status: int, attack: Told) -> None:
    world.fhir.act = lambda handler: handler.say(status, Location=f"{world.trap.origin}/fhir/Condition")
    response = world.fetching(f"{world.fhir.origin}/fhir")
    attack("redirect to a foreign origin", f"{status} from the FHIR server", response.status_code, "redirect")
    assert (response.status_code, world.trap.seen) == (412, [])
    assert "conditions: redirect" in response.get_json()["issue"][0]["diagnostics"]


NEXT = ["http://TRAP/fhir/Condition?p=2", "//TRAP/fhir?p=2", "http://FHIR@TRAP/fhir?p=2", "/admin?p=2", "../x?p=2"]


@pytest.mark.parametrize("link", NEXT)
@pytest.mark.parametrize("sent", ["fetched", "prefetched"])
def test_a_next_link_to_elsewhere_is_not_followed(world: World, link: str, sent: str, attack: Told) -> None:
    here, there = (server.origin.removeprefix("http://") for server in (world.fhir, world.trap))
    following = [{"relation": "next", "url": link.replace("FHIR", here).replace("TRAP", there)}]
    first = bundle(link=following)

    def paged(handler: Handler) -> None:
        handler.say(200, first) if "/Condition" in handler.path else chart(handler)

    world.fhir.act = paged
    if sent == "fetched":
        response = world.fetching(f"{world.fhir.origin}/fhir")
    else:
        body = request("patient-view", "seed", chart=CHART, fhirServer=f"{world.fhir.origin}/fhir")
        body["prefetch"]["conditions"] = first
        response = world.call(body)
    attack("next to a foreign origin", f"{link} ({sent})", response.status_code, "foreign next link")
    assert (response.status_code, world.trap.seen) == (412, [])
    assert all(path.startswith("/fhir/") for path, _ in world.fhir.seen)


def test_the_token_of_a_call_goes_to_its_own_server_only(world: World) -> None:
    assert world.fetching(f"{world.fhir.origin}/fhir").status_code == 200
    assert {headers["Authorization"] for _, headers in world.fhir.seen} == {f"Bearer {SECRET}"}
    assert SECRET not in world.log.getvalue().decode()


def test_an_operator_may_explain_with_the_servers_of_all_clients(tmp_path: Path) -> None:
    body = request("patient-view", "seed")
    del body["prefetch"]
    with serving(chart) as fhir:
        client = f'name = "a"\nissuer = "b"\njwks_file = "x"\nfhir_servers = ["{fhir.origin}/fhir"]'
        (tmp_path / "settings.toml").write_text(f'public_url = "{PUBLIC}"\n[[clients]]\n{client}')
        for server, good in ((fhir.origin, True), ("https://evil.example.org", False)):
            (tmp_path / "request.json").write_text(json.dumps(body | {"fhirServer": f"{server}/fhir"}))
            command = ["explain", str(tmp_path / "request.json"), "--config", str(tmp_path / "settings.toml")]
            result = CliRunner().invoke(main, command)
            assert (result.exit_code == 0) is good, result.output
            assert good or UNLISTED in result.output
        assert fhir.seen


# --- Headers --------------------------------------------------------------------------------------------------------


SPLITTING = ["a\r\nX-Injected: 1", "a\nX-Injected: 1", "a b", "a\x00b", "a\u2028b", "\u00e4"]


@pytest.mark.parametrize("token", SPLITTING, ids=ascii)
def test_a_token_that_would_split_a_header(world: World, token: str, attack: Told) -> None:
    response = world.fetching(f"{world.fhir.origin}/fhir", token)
    attack("header injection", f"access_token {token!a}", response.status_code, "value")
    assert response.status_code == 400
    assert response.get_json()["issue"][0]["expression"] == ["fhirAuthorization.access_token"]
    assert world.fhir.seen == []


@pytest.mark.parametrize("given", ["a b", "<script>", "x" * 65, "a,b", "\xff", "'\""], ids=ascii)
def test_an_odd_request_id_is_not_given_back(world: World, given: str, attack: Told) -> None:
    response = world.call(request("patient-view", "seed", chart=CHART), **{"X-Request-ID": given})
    attack("header injection", f"X-Request-ID {given[:12]!a}", response.status_code, "replaced")
    assert response.status_code == 200
    assert uuid.UUID(response.headers["X-Request-ID"])
    assert given not in str(response.headers)
    assert world.last_line()["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("given", ["x%0d%0aX-Injected:%201", "%0d%0a%0d%0a<script>", "..%2f..%2fmetrics"])
def test_an_address_does_not_become_a_header(world: World, given: str, attack: Told) -> None:
    response = world.ehr.post(f"/cds-services/{given}", json={}, headers={"Origin": "https://evil.example.org"})
    attack("header injection", f"service id {given}", response.status_code, world.last_line().get("auth", "no route"))
    assert response.status_code == (404 if "/" in response.request.path[14:] else 401)
    assert "X-Injected" not in response.headers
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "script" not in response.get_data(as_text=True)


# --- Cards ----------------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<a href='https://evil.example.org'>x</a>",
    "[x](https://evil.example.org)", "[x](javascript:alert(1))", "![x](https://evil.example.org/pixel)",
    "https://evil.example.org/x", "www.evil.example.org", "evil.example.org", "a@evil.example.org", "<https://evil.example.org>",
    "[x][1]\n\n[1]: https://evil.example.org", "x\n\n# Stop all treatment", "x\n\n---\n\n| a |\n|---|\n| b |",
    "`x` **bold** ~~gone~~", "{{ 7 * 7 }}{% raw %}", "\u202e<b>", "&lt;script&gt;", "<!-- x", "]]>", "\x1b[31m<b>",
]  # fmt: skip
#: What no text of the chart may become; our own cards have paragraphs, lists, bold and italics, and no links or tags.
ACTIVE = {"html_inline", "html_block", "link_open", "image", "heading_open", "hr", "code_inline", "fence", "code_block",
          "s_open", "blockquote_open"}  # fmt: skip
_READER = MarkdownIt("gfm-like", {"html": True, "linkify": True})


def kinds(markdown: str) -> set[str]:
    """What a client that renders everything, raw HTML too, would make of the text."""
    tokens = _READER.parse(markdown)
    return {inner.type for token in tokens for inner in (token, *(token.children or ()))}


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_text_of_the_chart_stays_text(world: World, text: str, attack: Told) -> None:
    named = spasm("seed") | {"code": concept((SNOMED, "13753008"), text=text)}
    ordered = order("o1", (CPT, "70551"), reasonCode=[concept((SNOMED, "13753008"))])
    ordered["code"] = concept((CPT, "70551"), text=text)
    hostile_patient = patient("seed") | {"name": [{"text": text, "family": text}]}
    first = world.call(request("patient-view", "seed", chart=[hostile_patient, named]))
    second = world.call(request("order-select", "seed", ordered, chart=[hostile_patient, named]), ORDER_SELECT)
    cards = [card for response in (first, second) for card in response.get_json()["cards"]]
    attack("Markdown/HTML by the chart", ascii(text), first.status_code, "literal text")
    assert [response.status_code for response in (first, second)] == [200, 200]
    assert {card["source"]["topic"]["code"] for card in cards} == {"imaging-none-on-record", "imaging-standard-mri"}
    for card in cards:
        assert not kinds(card["detail"]) & ACTIVE, card["detail"]
        assert card["summary"].isprintable()
        labels = [card["summary"], *(suggestion["label"] for suggestion in card.get("suggestions", ()))]
        assert not any(re.search(r"evil|script|<b>", label) for label in labels)
    # Of both texts something is there to be read: they were not just left out.
    words = re.findall(r"[a-z]{4,}", text.lower())
    assert not words or any(word in card["detail"].lower() for card in cards for word in words)


def test_the_reader_of_these_tests_sees_what_it_should() -> None:
    found = set().union(*(kinds(text) for text in HOSTILE))
    assert {"html_inline", "html_block", "link_open", "image", "heading_open", "hr"} <= found
