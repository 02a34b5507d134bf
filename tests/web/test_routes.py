"""Which addresses and methods there are, and what the others answer."""

import json
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_up import SERVICES, FakeService, call_body
from problem_shape import assert_problem

PATH = "/cds-services/made-up-patient-view"


def test_discovery(client: FlaskClient) -> None:
    response = client.get("/cds-services?probe=1", headers={"Accept": "text/html", "Authorization": "Bearer x"})
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert [entry["id"] for entry in json.loads(response.data)["services"]] == list(SERVICES)
    head = client.head("/cds-services")
    assert (head.status_code, head.data) == (200, b"")


def test_a_client_that_appends_to_a_trailing_slash(client: FlaskClient) -> None:
    assert client.get("/cds-services/").data == client.get("/cds-services").data
    assert client.post("/cds-services//made-up-patient-view", json=call_body()).status_code == 200
    assert client.post("/cds-services//made-up-patient-view/feedback", json={"feedback": []}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *((method, PATH, "POST") for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH")),
        *((method, f"{PATH}/feedback", "POST") for method in ("GET", "DELETE")),
        *((method, "/cds-services", "GET") for method in ("POST", "PUT", "DELETE", "PATCH")),
        ("POST", "/metrics", "GET"),
    ],
)
def test_other_methods(client: FlaskClient, method: str, path: str, allowed: str) -> None:
    response = client.open(path, method=method, json=None if method in ("GET", "HEAD") else {})
    assert response.status_code == 405
    assert allowed in response.headers["Allow"]
    if method != "HEAD":
        assert_problem(response, 405)


@pytest.mark.parametrize(
    "path",
    [
        *("/probe-no-such-page", "/cds-services-probe", "/" + "a" * 3000, "/static/x", "/health", "/cds-services///x"),
        *("/favicon.ico", "/explain", "/health/live/"),
    ],
)
def test_elsewhere(client: FlaskClient, path: str) -> None:
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize(
    "service_id",
    [
        *("no-such-service", "MADE-UP-PATIENT-VIEW", "..%2F..%2Fconfig", "%2e%2e/%2e%2e/config", "a%00b"),
        *("%3Cscript%3E", "'%20OR%201=1--", "%ff%fe", "a" * 3000, "%0d%0aX:1", "made-up-patient-view/"),
    ],
)
def test_service_ids_that_do_not_exist(client: FlaskClient, service: FakeService, service_id: str) -> None:
    issue = assert_problem(client.post(f"/cds-services/{service_id}", json=call_body()), 404)
    assert issue["code"] == "not-found"
    assert service.seen == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]"])
def test_an_unknown_service_is_said_before_a_bad_body(client: FlaskClient, data: bytes) -> None:
    assert_problem(client.post("/cds-services/no-such-service", data=data), 404)
    assert_problem(client.post("/cds-services/no-such-service/feedback", data=data), 404)


def test_health(client: FlaskClient, service: FakeService) -> None:
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200
    service.broken = {"store": "the database cannot be opened", "content": "rule x is broken"}
    assert "store" in assert_problem(client.get("/health/ready"), 503)["diagnostics"]
    assert len(json.loads(client.get("/health/ready").data)["issue"]) == 2
    assert client.get("/health/live").status_code == 200


def test_the_front_page_says_where_to_look(make_app: Callable[..., Flask]) -> None:
    page = json.loads(make_app().test_client().get("/").data)
    assert page["discovery"] == "/cds-services"
    assert "explain" in page
    far = make_app(public_url="https://cds.example.org/", development=False).test_client()
    page = json.loads(far.get("/").data)
    assert page["discovery"] == "https://cds.example.org/cds-services"
    assert "explain" not in page
