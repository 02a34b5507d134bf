"""The gate at the door: which routes ask for a token, when, and what a caller who is turned away hears."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_up import SERVICES, FakeService, call_body
from problem_shape import assert_problem

from cds_hooks.errors import Unauthorized
from cds_hooks.protocol.caller import ANONYMOUS, Admission, Caller
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app

CLIENT = {"name": "hospital-a", "issuer": "https://ehr.example.org", "jwks_url": "https://ehr.example.org/jwks"}
SETTINGS: dict[str, Any] = {"public_url": "https://cds.example.org", "clients": [CLIENT]}
SERVICE = "made-up-patient-view"
PATH = f"/cds-services/{SERVICE}"
GOOD = {"Authorization": "Bearer good"}
HOSPITAL = Caller("hospital-a", "t1", frozenset({SERVICE}))


@dataclass
class FakeGate:
    """Lets "Bearer good" in; remembers for which paths it was asked."""

    guards_discovery: bool = True
    notes: tuple[str, ...] = ()
    paths: list[tuple[str, ...]] = field(default_factory=list)

    def admit(self, authorization: str | None, *paths: str) -> Admission:
        self.paths.append(paths)
        if authorization != "Bearer good":
            raise Unauthorized("signature" if authorization else "no-token", "hospital-a")
        return Admission(HOSPITAL, self.notes)


@pytest.fixture
def gate() -> FakeGate:
    return FakeGate()


@pytest.fixture
def guarded(make_app: Callable[..., Flask], gate: FakeGate) -> FlaskClient:
    return make_app(gate=gate, development=True, **SETTINGS).test_client()


FEEDBACK = {"feedback": []}
ROUTES = [
    ("GET", "/cds-services", None),
    ("GET", "/cds-services/", None),
    ("POST", PATH, call_body()),
    ("POST", f"/cds-services//{SERVICE}", call_body()),
    ("POST", f"{PATH}/feedback", FEEDBACK),
    ("POST", f"/explain/{SERVICE}", call_body()),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_each_route_that_answers_asks_who_calls(guarded: FlaskClient, method: str, path: str, body: Any) -> None:
    assert guarded.open(path, method=method, json=body, headers=GOOD).status_code == 200
    for headers in ({}, {"Authorization": "Bearer bad"}, {"Authorization": ""}):
        response = guarded.open(path, method=method, json=body, headers=headers)
        told = assert_problem(response, 401, origin=None)
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert told["diagnostics"] == "A valid token of a known client is needed."
        assert "signature" not in response.get_data(as_text=True)
    assert guarded.head("/cds-services").status_code == 401


def test_discovery_may_be_open(make_app: Callable[..., Flask]) -> None:
    open_ = make_app(gate=FakeGate(guards_discovery=False), **SETTINGS).test_client()
    assert open_.get("/cds-services").status_code == 200
    assert open_.post(PATH, json=call_body()).status_code == 401


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/metrics"])
def test_what_holds_no_data_asks_nobody(guarded: FlaskClient, gate: FakeGate, path: str) -> None:
    assert guarded.get(path).status_code == 200
    assert gate.paths == []


@pytest.mark.parametrize("path", ["/cds-services", PATH, f"{PATH}/feedback"])
def test_the_preflight_needs_no_token(make_app: Callable[..., Flask], gate: FakeGate, path: str) -> None:
    page = "https://ehr.example.org"
    browser = make_app(gate=gate, cors={"origins": [page]}, **SETTINGS).test_client()
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    response = browser.options(path, headers={"Origin": page} | asked)
    assert response.status_code == 200
    assert "authorization" in response.headers["Access-Control-Allow-Headers"]
    refused = browser.post(PATH, json=call_body(), headers={"Origin": page})
    assert refused.headers["Access-Control-Allow-Origin"] == page  # so that the page can read what is wrong
    assert gate.paths == [(PATH, f"/cds-services//{SERVICE}")]


def test_with_clients_no_page_may_read_unless_it_is_named(guarded: FlaskClient) -> None:
    response = guarded.post(PATH, json=call_body(), headers=GOOD | {"Origin": "https://any.example.org"})
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers


def test_explain_is_for_development(make_app: Callable[..., Flask]) -> None:
    client = make_app(gate=FakeGate(), **SETTINGS).test_client()
    assert client.post(f"/explain/{SERVICE}", json=call_body(), headers=GOOD).status_code == 404


@pytest.mark.parametrize("data", [b"{", b"[]", b"", b"\xff"])
def test_a_token_is_looked_at_before_the_body(guarded: FlaskClient, data: bytes) -> None:
    for path in (PATH, f"{PATH}/feedback"):
        assert guarded.post(path, data=data).status_code == 401
        assert guarded.post(path, data=data, headers=GOOD).status_code == 400


def test_nobody_learns_which_services_there_are(guarded: FlaskClient) -> None:
    for service in (*SERVICES, "no-such-service"):
        assert guarded.post(f"/cds-services/{service}", json=call_body()).status_code == 401


def test_the_endpoint_of_a_call_and_of_feedback(guarded: FlaskClient, gate: FakeGate) -> None:
    guarded.get("/cds-services", headers=GOOD)
    guarded.post(PATH, json=call_body(), headers=GOOD)
    guarded.post(f"{PATH}/feedback", json=FEEDBACK, headers=GOOD)
    doubled = f"/cds-services//{SERVICE}"
    assert gate.paths == [
        ("/cds-services", "/cds-services/"),
        (PATH, doubled),
        (PATH, doubled, f"{PATH}/feedback", f"{doubled}/feedback"),
    ]


def test_the_service_hears_who_calls(guarded: FlaskClient, service: FakeService, client: FlaskClient) -> None:
    for path, body in ((PATH, call_body()), (f"{PATH}/feedback", FEEDBACK), (f"/explain/{SERVICE}", call_body())):
        guarded.post(path, json=body, headers=GOOD)
        assert service.callers.pop() == HOSPITAL
        client.post(path, json=body, headers=GOOD)
        assert service.callers.pop() == ANONYMOUS


def test_a_service_that_is_not_for_this_client(guarded: FlaskClient, service: FakeService, lines: Any) -> None:
    for end in ("", "/feedback"):
        response = guarded.post(f"/cds-services/made-up-order-sign{end}", json=FEEDBACK, headers=GOOD)
        told = assert_problem(response, 403, origin=None)
        assert told["code"] == "forbidden"
        assert "WWW-Authenticate" not in response.headers
    assert (service.seen, service.callers) == ([], [])
    assert (lines()[-1]["auth"], lines()[-1]["client"]) == ("service", "hospital-a")
    assert 'cds_hooks_auth_failures_total{reason="service"} 2.0' in guarded.get("/metrics").get_data(as_text=True)


def test_log_and_counters_say_what_the_caller_does_not_hear(guarded: FlaskClient, gate: FakeGate, lines: Any) -> None:
    guarded.post(PATH, json=call_body(), headers={"Authorization": "Bearer secret-token"})
    line = lines()[-1]
    assert (line["status"], line["auth"], line["client"]) == (401, "signature", "hospital-a")
    assert line["service"] == SERVICE
    guarded.post(PATH, json=call_body())
    assert lines()[-1]["auth"] == "no-token"
    guarded.post(PATH, json=call_body(), headers=GOOD)
    assert "auth" not in lines()[-1]
    assert lines()[-1]["client"] == "hospital-a"
    gate.notes = ("stale-keys", "replay-guard-local")
    guarded.post(PATH, json=call_body(), headers=GOOD)
    counted = guarded.get("/metrics").get_data(as_text=True)
    assert 'cds_hooks_auth_failures_total{reason="signature"} 1.0' in counted
    assert 'cds_hooks_auth_failures_total{reason="no-token"} 1.0' in counted
    assert 'cds_hooks_auth_degraded_total{kind="stale-keys"} 1.0' in counted
    assert 'cds_hooks_auth_degraded_total{kind="replay-guard-local"} 1.0' in counted
    assert "secret-token" not in counted + str(lines())


def test_clients_without_a_gate_are_a_mistake(service: FakeService) -> None:
    with pytest.raises(ValueError, match="has to be a gate"):
        create_app(service, Settings(**SETTINGS))
