"""A call from its bytes to the bytes of the answer."""

import gc
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_up import Answer, FakeService, call_body
from problem_shape import assert_problem
from werkzeug.test import TestResponse

from cds_hooks.errors import Rejected
from cds_hooks.web.visit import Visit

PATH = "/cds-services/made-up-patient-view"


def test_no_advice(client: FlaskClient, service: FakeService) -> None:
    response = client.post(PATH, json=call_body())
    assert (response.status_code, response.data, response.mimetype) == (200, b'{"cards":[]}', "application/json")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert [request.patient_id for request in service.seen] == ["secret-patient"]


def test_advice_and_raw_bytes(client: FlaskClient, service: FakeService) -> None:
    service.answer = Answer({"cards": [{"summary": "Say \u2713"}]}, topics=("t",))
    data = json.dumps(call_body(prefetch={"x": {"value": 1}})).encode().replace(b'"value": 1', b'"value": 1.10')
    response = client.post(PATH, data=data, content_type="application/json")
    assert json.loads(response.data) == service.answer.payload
    assert service.seen[0].raw == data
    assert service.seen[0].prefetch == {"x": {"value": 1.1}}


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        "application/fhir+json",
        None,
    ],
)
def test_media_types_that_mean_json(client: FlaskClient, media_type: str | None) -> None:
    response = client.post(PATH, data=json.dumps(call_body()), content_type=media_type)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "x", "json"],
)
def test_other_media_types(client: FlaskClient, media_type: str) -> None:
    response = client.post(PATH, data=json.dumps(call_body()), content_type=media_type)
    assert assert_problem(response, 415)["code"] == "not-supported"


def test_compressed_bodies_are_refused(client: FlaskClient) -> None:
    assert_problem(client.post(PATH, json=call_body(), headers={"Content-Encoding": "gzip"}), 415)


DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  ",
        b'{"hook": "patient-view", ',
        b"hello",
        b'{"hook": "patient-view",}',
        b"{/* hook */}",
        b"{'hook': 'x'}",
        b"{}{}",
        b'{"hook": "a\x01b"}',
        b"[" * 10_000,
        DEEP,
        b'{"hook": "\xff\xfe\xfa"}',
        b'{"hook": "\\ud800"}',
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": 1e999}',
        b"\xef\xbb\xbf{}",
        '{"hook": "patient-view"}'.encode("utf-16"),
        b"[]",
        b'"text"',
        b"7",
        b"null",
        b"{}",
    ],
)
def test_bodies_that_are_no_call(client: FlaskClient, service: FakeService, data: bytes) -> None:
    assert_problem(client.post(PATH, data=data, content_type="application/json"), 400)
    assert service.seen == []


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"hook": "order-sign"}, "hook"),
        ({"hookInstance": "x"}, "hookInstance"),
        ({"context": {}}, "context"),
        ({"context": {"userId": "x", "patientId": "x"}}, "userId"),
        ({"prefetch": []}, "prefetch"),
        ({"fhirServer": "x"}, "fhirServer"),
        ({"fhirAuthorization": {}}, "fhirAuthorization"),
    ],
)
def test_a_wrong_field_is_named(client: FlaskClient, members: dict[str, Any], field: str) -> None:
    issue = assert_problem(client.post(PATH, json=call_body(**members)), 400)
    assert field in issue["diagnostics"]
    assert field in issue["expression"][0]


@pytest.mark.parametrize("hook", ["order-select", "order-sign"])
def test_the_sandbox_before_a_choice(client: FlaskClient, service: FakeService, hook: str) -> None:
    body = call_body(hook)
    del body["context"]["draftOrders"]
    assert_problem(client.post(f"/cds-services/made-up-{hook}", json=body), 400)
    order = {"resourceType": "ServiceRequest", "id": "example-request-id", "code": {"coding": [{}]}, "reasonCode": []}
    body["context"]["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": order}]}
    assert client.post(f"/cds-services/made-up-{hook}", json=body).status_code == 200
    assert service.seen[-1].drafts == (order,)


def test_a_token_nobody_asked_for(client: FlaskClient) -> None:
    response = client.post(PATH, json=call_body(), headers={"Authorization": "Bearer probe.call.token"})
    assert response.status_code == 200


def test_missing_data(client: FlaskClient, service: FakeService) -> None:
    service.answer = Rejected("The prefetch key conditions is missing.", status=412, code="incomplete")
    response = client.post(PATH, json=call_body())
    assert "conditions" in assert_problem(response, 412)["diagnostics"]
    assert response.headers["Cache-Control"] == "no-store"


def test_an_unexpected_failure_says_nothing(client: FlaskClient, service: FakeService) -> None:
    service.answer = KeyError("secret-patient")
    response = client.post(PATH, json=call_body(), headers={"X-Request-ID": "abc-1"})
    assert_problem(response, 500)
    assert b"secret" not in response.data
    assert response.headers["X-Request-ID"] == "abc-1"


def test_what_is_too_deep_to_walk_is_a_bad_request(client: FlaskClient, service: FakeService) -> None:
    service.answer = RecursionError("maximum recursion depth exceeded")
    assert_problem(client.post(PATH, json=call_body()), 400)


def test_lone_surrogates_in_an_answer(client: FlaskClient, service: FakeService) -> None:
    service.answer = Answer({"cards": [{"summary": "a\ud800b\u2713"}]})
    response = client.post(PATH, json=call_body())
    assert response.status_code == 200
    assert json.loads(response.data.decode()) == {"cards": [{"summary": "a?b\u2713"}]}


def test_an_answer_nested_deeper_than_orjson_writes(client: FlaskClient, service: FakeService) -> None:
    nested: list[Any] = []
    for _ in range(400):
        nested = [nested]
    service.answer = Answer({"cards": nested})
    assert client.post(PATH, json=call_body()).status_code == 200


def test_an_answer_that_is_no_json_is_our_fault(client: FlaskClient, service: FakeService) -> None:
    service.answer = Answer({"cards": [object()]})
    assert_problem(client.post(PATH, json=call_body()), 500)


class Breaking(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise RuntimeError("client went away at /secret/path")


@pytest.fixture
def small(make_app: Callable[..., Flask]) -> FlaskClient:
    """A door that takes 1,000 bytes."""
    return make_app(server={"body_limit": 1000}).test_client()


def test_the_limit(small: FlaskClient) -> None:
    data = json.dumps(call_body()).encode()
    assert small.post(PATH, data=data.ljust(1000), content_type="application/json").status_code == 200
    response = small.post(PATH, data=data.ljust(1001), content_type="application/json")
    assert assert_problem(response, 413)["code"] == "too-long"


@pytest.mark.parametrize("length", ["9" * 30, "-1", "x", "\u0663"])
def test_odd_lengths(small: FlaskClient, length: str) -> None:
    response = small.post(PATH, data=b"{}", environ_overrides={"CONTENT_LENGTH": length})
    assert_problem(response, 413 if length.startswith("9") else 400)


def chunked(client: FlaskClient, body: bytes | io.IOBase, *, terminated: bool = True, length: str = "") -> TestResponse:
    environ = {
        "CONTENT_LENGTH": length,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input_terminated": terminated,
        "wsgi.input": io.BytesIO(body) if isinstance(body, bytes) else body,
    }
    return client.post(PATH, content_type="application/json", environ_overrides=environ)


def test_bodies_in_chunks(small: FlaskClient) -> None:
    data = json.dumps(call_body()).encode()
    assert chunked(small, data).status_code == 200
    assert_problem(chunked(small, data.ljust(1001)), 413)
    assert_problem(chunked(small, data, terminated=False), 400)


def test_chunks_override_an_announced_length(small: FlaskClient) -> None:
    """RFC 9112 section 6.3; a server in front that lets both through must not cut the body."""
    data = json.dumps(call_body()).encode()
    assert chunked(small, data, length="5").status_code == 200


def test_a_stream_that_gives_a_little_at_a_time(small: FlaskClient) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(7, size or 0))

    data = json.dumps(call_body()).encode()
    assert chunked(small, Slow(data)).status_code == 200
    assert_problem(chunked(small, Slow(data.ljust(5000))), 413)


def test_a_body_that_breaks_off(small: FlaskClient) -> None:
    assert_problem(chunked(small, Breaking()), 400)
    cut = small.post(
        PATH, data=b'{"hook":', content_type="application/json", environ_overrides={"CONTENT_LENGTH": "50"}
    )
    assert_problem(cut, 400)


@pytest.mark.parametrize(
    ("method", "path", "media_type"),
    [
        ("POST", "/cds-services/no-such-service", "application/json"),
        ("POST", "/no-such-page", "application/json"),
        ("PUT", PATH, "application/json"),
        ("POST", PATH, "text/plain"),
    ],
)
def test_a_refused_body_is_read_to_its_end(client: FlaskClient, method: str, path: str, media_type: str) -> None:
    """Else its rest would be taken for the next request on a connection that is kept."""
    stream = io.BytesIO(b"GET /smuggled HTTP/1.1\r\n\r\n")
    response = client.open(
        path, method=method, content_type=media_type, input_stream=stream, environ_overrides={"CONTENT_LENGTH": "26"}
    )
    assert response.status_code in (404, 405, 415)
    assert stream.read() == b""


def test_explain(client: FlaskClient) -> None:
    response = client.post("/explain/made-up-order-sign", json=call_body("order-sign"))
    assert json.loads(response.data) == {"service": "made-up-order-sign", "hook": "order-sign", "rules": ["a", "b"]}
    assert response.headers["Cache-Control"] == "no-store"
    assert_problem(client.post("/explain/no-such-service", json=call_body()), 404)
    assert_problem(client.post("/explain/made-up-order-sign", json={}), 400)


def test_explain_is_for_development_only(make_app: Callable[..., Flask]) -> None:
    client = make_app(development=False).test_client()
    assert_problem(client.post("/explain/made-up-order-sign", json=call_body("order-sign")), 404)


def test_nothing_of_a_call_waits_for_the_collector(make_app: Callable[..., Flask], service: FakeService) -> None:
    """A circle of objects that holds a body keeps it until the collector comes by, under load for long."""
    app, body = make_app(), json.dumps(call_body()).encode()
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": PATH, "SERVER_NAME": "x", "SERVER_PORT": "80", "HTTP_HOST": "x",
        "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
    }  # fmt: skip

    def visits() -> int:
        return sum(type(one) is Visit for one in gc.get_objects())

    gc.collect()
    before = visits()
    gc.disable()
    try:
        for _ in range(3):
            answer = app({**environ, "wsgi.input": io.BytesIO(body)}, lambda status, headers, _=None: lambda data: None)
            assert b"".join(answer) == b'{"cards":[]}'
            answer.close()
            service.seen.clear()
        assert visits() == before
    finally:
        gc.enable()
