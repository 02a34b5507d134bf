"""Who may read an answer, who may keep it, and under which id it is found again."""

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_up import call_body

PATH = "/cds-services/made-up-patient-view"
ORIGIN = {"Origin": "https://ehr.example.org"}
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.mark.parametrize("path", ["/cds-services", PATH, f"{PATH}/feedback", "/explain/made-up-order-sign"])
def test_the_preflight(client: FlaskClient, path: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    response = client.options(path, headers=ORIGIN | asked)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert response.headers["Access-Control-Allow-Headers"] == "authorization, content-type, traceparent, x-request-id"
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/cds-services"), ("POST", PATH), ("POST", "/none"), ("GET", PATH)]
)
def test_any_page_may_read_any_answer(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path, method=method, headers=ORIGIN)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Expose-Headers"] == "X-Request-ID"
    assert "Access-Control-Allow-Methods" not in response.headers
    assert "Vary" not in response.headers


def test_listed_pages_only(make_app: Callable[..., Flask]) -> None:
    client = make_app(cors={"origins": ["https://ehr.example.org"]}).test_client()
    for path in ("/cds-services", "/none"):
        allowed = client.get(path, headers=ORIGIN).headers
        assert (allowed["Access-Control-Allow-Origin"], allowed["Vary"]) == ("https://ehr.example.org", "Origin")
        for other in ({"Origin": "https://evil.example.org"}, {"Origin": "null"}, {}):
            refused = client.get(path, headers=other).headers
            assert "Access-Control-Allow-Origin" not in refused
            assert refused["Vary"] == "Origin"
    preflight = client.options(PATH, headers={"Origin": "https://evil.example.org"}).headers
    assert "Access-Control-Allow-Headers" not in preflight


def test_no_answer_to_a_post_is_kept(client: FlaskClient) -> None:
    for path in (PATH, f"{PATH}/feedback", "/none", "/cds-services", "/cds-services/none"):
        for data in (b"", b"{}"):
            assert client.post(path, data=data).headers["Cache-Control"] == "no-store"
    assert client.post(PATH, json=call_body()).headers["Cache-Control"] == "no-store"
    assert "Cache-Control" not in client.get("/cds-services").headers


@pytest.mark.parametrize("given", ["abc", "A.b_c-9", "x" * 64])
def test_a_harmless_request_id_is_taken_over(client: FlaskClient, given: str) -> None:
    assert client.get("/", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\tb", "<x>", "\xe9", None])
def test_any_other_is_replaced(client: FlaskClient, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given}
    first, second = (client.get("/", headers=headers).headers["X-Request-ID"] for _ in range(2))
    assert re.fullmatch(UUID4, first)
    assert first != second
