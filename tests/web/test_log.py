"""One line per request, and nothing in it that belongs to a patient or lets one in."""

import io
import json
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_up import Answer, FakeService, call_body

from cds_hooks.outbox import BOUND
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app
from cds_hooks.web.log import frames, open_log

Lines = Callable[[], list[dict[str, Any]]]
PATH = "/cds-services/made-up-patient-view"


def test_a_call(client: FlaskClient, service: FakeService, lines: Lines) -> None:
    service.answer = Answer(log={"cards": 2, "topics": ["t"], "status": "not this one"})
    client.post(PATH, json=call_body(prefetch=None), headers={"X-Request-ID": "abc"})
    (line,) = lines()
    assert line.pop("ms") >= 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "request_id": "abc",
        "route": "/cds-services/<service_id>",
        "service": "made-up-patient-view",
        "status": 200,
        "cards": 2,
        "topics": ["t"],
        "problems": ["prefetch is null, taken as absent"],
    }


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/cds-services?secret=1", "/cds-services", 200),
        ("GET", "/secret-page?secret=1", "unknown", 404),
        ("POST", "/cds-services/secret-service", "/cds-services/<service_id>", 404),
        ("PUT", "/cds-services/secret-service", "unknown", 405),
        ("POST", PATH, "/cds-services/<service_id>", 400),
        ("OPTIONS", PATH, "/cds-services/<service_id>", 200),
    ],
)
def test_every_request_has_its_line(
    client: FlaskClient, lines: Lines, method: str, path: str, route: str, status: int
) -> None:
    client.open(path, method=method, data=b'{"secret": 1}' if method == "POST" else None)
    (line,) = lines()
    assert (line["route"], line["status"]) == (route, status)
    assert "secret" not in str(line)


@pytest.mark.parametrize("error", [None, KeyError("secret"), RecursionError("secret")])
def test_no_line_tells_on_the_patient(
    client: FlaskClient, service: FakeService, log: io.BytesIO, error: Exception | None
) -> None:
    if error:
        service.answer = error
    body = call_body(
        fhirServer="http://127.0.0.1/secret",
        prefetch={"patient": {"resourceType": "Patient", "id": "secret-patient"}},
        fhirAuthorization={
            "access_token": "secret-token",
            "token_type": "Bearer",
            "expires_in": 1,
            "scope": "secret",
            "subject": "secret",
        },
    )
    client.post(f"{PATH}?q=secret", json=body, headers={"Authorization": "Bearer secret", "X-Request-ID": "<secret>"})
    client.post(PATH, json={**body, "hookInstance": "secret"})
    assert len(log.getvalue().splitlines()) == (3 if error else 2)
    assert b"secret" not in log.getvalue()


def test_a_failure_is_logged_with_its_places(client: FlaskClient, service: FakeService, lines: Lines) -> None:
    service.answer = ValueError("secret")
    response = client.post(PATH, json=call_body())
    failure, line = lines()
    assert (failure["event"], failure["level"], line["status"]) == ("failure", "error", 500)
    assert failure["request_id"] == line["request_id"] == response.headers["X-Request-ID"]
    assert failure["trace"][0] == "ValueError"
    assert any("made_up.py" in place and place.endswith(" in call") for place in failure["trace"])


def test_a_refusal_is_logged_with_its_reason(client: FlaskClient, lines: Lines) -> None:
    client.post(PATH, json=call_body(hookInstance="x"))
    assert lines()[0]["refused"] == "hookInstance must be a UUID."


def test_causes_are_told_without_their_messages() -> None:
    def fail() -> None:
        try:
            raise KeyError("secret")
        except KeyError as error:
            raise ValueError("secret") from error

    with pytest.raises(ValueError, match="secret") as caught:
        fail()
    told = frames(caught.value)
    assert [word for word in told if word.endswith("Error")] == ["ValueError", "KeyError"]
    assert "secret" not in "".join(told)


def test_off_is_silent(make_app: Callable[..., Flask], lines: Lines) -> None:
    make_app(log="off").test_client().get("/")
    assert lines() == []


class Pipe(io.BytesIO):
    """Standard error whose other end may hang or be gone."""

    def __init__(self) -> None:
        super().__init__()
        self.read_on = threading.Event()
        self.read_on.set()
        self.broken = False

    def write(self, data: Any) -> int:
        self.read_on.wait(20)
        if self.broken:
            raise BrokenPipeError
        return super().write(data)

    def soon(self, lines: int) -> list[str]:
        """The events of so many lines, once they are there."""
        until = time.monotonic() + 10
        while self.getvalue().count(b"\n") < lines and time.monotonic() < until:
            time.sleep(0.01)
        return [json.loads(line)["event"] for line in self.getvalue().splitlines()]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Pipe:
    pipe = Pipe()
    stderr = types.SimpleNamespace(buffer=pipe)
    monkeypatch.setattr("cds_hooks.web.log.sys", types.SimpleNamespace(stderr=stderr))
    return pipe


def test_standard_error_gets_all_lines_in_their_order(pipe: Pipe) -> None:
    log = open_log("json")
    for number in range(2500):
        log.info(str(number), {})
    assert pipe.soon(2500) == [str(number) for number in range(2500)]


def test_nobody_waits_for_who_does_not_read_the_log(pipe: Pipe) -> None:
    pipe.read_on.clear()
    log = open_log("json")
    began = time.monotonic()
    for number in range(100):
        log.info(str(number), {})
    assert time.monotonic() - began < 1
    pipe.read_on.set()
    assert pipe.soon(100) == [str(number) for number in range(100)]


def test_what_could_not_be_written_is_written_when_it_can_be(pipe: Pipe) -> None:
    pipe.broken = True
    log = open_log("json")
    log.error("first", {})
    time.sleep(0.2)
    pipe.broken = False
    log.info("second", {})
    assert pipe.soon(2) == ["first", "second"]


def test_a_log_that_stays_broken_is_counted_and_fills_no_memory(
    make_app: Callable[..., Flask], service: FakeService, tmp_path: Path, pipe: Pipe
) -> None:
    pipe.broken = True
    client = create_app(service, Settings(data=tmp_path)).test_client()
    for _ in range(BOUND + 3):
        assert client.get("/health/live").status_code == 200
    text = client.get("/metrics").text
    pipe.broken = False
    assert "cds_hooks_log_failures_total 3.0" in text


def test_off_is_off() -> None:
    stream = io.BytesIO()
    open_log("off", stream).error("x", {})
    assert stream.getvalue() == b""


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_trace_of_the_client_is_told_and_passed_on(
    client: FlaskClient, service: FakeService, lines: Lines
) -> None:
    client.post(PATH, json=call_body(), headers={"X-Request-ID": "abc", "traceparent": TRACE})
    assert lines()[0]["traceparent"] == TRACE
    assert service.seen[0].pass_on == {"X-Request-ID": "abc", "traceparent": TRACE}


@pytest.mark.parametrize(
    "offered",
    [
        "", "secret", TRACE.upper(), f"{TRACE}-secret", TRACE.replace("00-", "ff-"), f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01", f"{TRACE}, {TRACE}",
    ],
)  # fmt: skip
def test_what_is_no_trace_goes_nowhere(
    client: FlaskClient, service: FakeService, lines: Lines, offered: str
) -> None:
    client.post(PATH, json=call_body(), headers={"traceparent": offered, "X-Request-ID": "no: such id"})
    assert "traceparent" not in lines()[0]
    assert list(service.seen[0].pass_on) == ["X-Request-ID"]
    assert service.seen[0].pass_on["X-Request-ID"] == lines()[0]["request_id"] != "no: such id"
