"""One line per request, and nothing in it that belongs to a patient or lets one in."""

import contextlib
import io
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_up import Answer, FakeService, call_body

from cds_hooks.outbox import BOUND
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app
from cds_hooks.web.log import Later, Log, frames, open_log

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


class Pipe:
    """A pipe with somebody at its other end, who reads when told to."""

    def __init__(self) -> None:
        self.other, self.end = os.pipe()
        self.got = b""

    def read(self) -> None:
        """Read what is in it now."""
        os.set_blocking(self.other, False)
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self.other, 1 << 20):
                self.got += more

    def soon(self, lines: int) -> list[str]:
        """Read until so many lines are there; their events."""
        until = time.monotonic() + 20
        while self.got.count(b"\n") < lines and time.monotonic() < until:
            self.read()
            time.sleep(0.01)
        return [json.loads(line)["event"] for line in self.got.splitlines()]

    def close(self) -> None:
        for end in (self.other, self.end):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def later(pipe: Pipe) -> Iterator[Later]:
    later = Later(pipe.end)
    yield later
    later.close()


def logged(later: Later) -> tuple[Log, list[None]]:
    """A log, and what tells of lost lines."""
    lost: list[None] = []
    return Log(later.write, lambda: lost.append(None)), lost


def test_a_pipe_gets_all_lines_in_their_order(pipe: Pipe, later: Later) -> None:
    log, lost = logged(later)
    for number in range(2500):
        log.info(str(number), {"filler": "x" * (number % 700)})
    assert pipe.soon(2500) == [str(number) for number in range(2500)]
    assert not lost


def test_nobody_waits_for_who_does_not_read_the_log(pipe: Pipe, later: Later) -> None:
    log, _ = logged(later)
    began = time.monotonic()
    for number in range(5000):  # a pipe holds 64 kB
        log.info(str(number), {"filler": "x" * 100})
    assert time.monotonic() - began < 2
    time.sleep(0.7)
    assert pipe.soon(5000) == [str(number) for number in range(5000)]


def test_a_long_line_is_written_whole(pipe: Pipe, later: Later) -> None:
    log, _ = logged(later)
    log.info("long", {"filler": "x" * 300_000})
    log.info("short", {})
    assert pipe.soon(2) == ["long", "short"]


def test_of_two_processes_at_one_pipe_no_line_is_torn(pipe: Pipe) -> None:
    """Who reads slowly makes pieces of long writes: none may be longer than a pipe takes at once."""
    both = [Later(pipe.end), Later(os.dup(pipe.end))]
    logs = [logged(one)[0] for one in both]
    for number in range(3000):
        for log in logs:
            log.info(str(number), {"filler": "x" * 200})
    until = time.monotonic() + 30
    while pipe.got.count(b"\n") < 6000 and time.monotonic() < until:
        pipe.got += os.read(pipe.other, 3000)
    lines = [json.loads(line) for line in pipe.got.splitlines()]
    assert sorted(line["event"] for line in lines) == sorted(str(number) for number in [*range(3000)] * 2)
    for one in both:
        one.close()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of a file's size here")
def test_a_full_disk_loses_and_repeats_no_line(tmp_path: Path) -> None:
    path, limit = tmp_path / "log", resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("ab") as file:
        later = Later(file.fileno())
        log, lost = logged(later)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
        try:
            for number in range(300):
                log.info(str(number), {"filler": "x" * 100})
            time.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        log.info("300", {})
        until = time.monotonic() + 10
        while path.read_bytes().count(b"\n") < 301 and time.monotonic() < until:
            time.sleep(0.02)
        later.close()
    assert [json.loads(line)["event"] for line in path.read_bytes().splitlines()] == [str(n) for n in range(301)]
    assert not lost


def test_a_log_that_stays_broken_is_counted_and_fills_no_memory(pipe: Pipe, later: Later) -> None:
    os.close(pipe.other)  # nobody reads any more
    log, lost = logged(later)
    for _ in range(BOUND + 3):
        log.error("x", {})
    assert len(lost) == 3


def test_a_process_with_a_stuck_log_ends_soon(pipe: Pipe) -> None:
    later = Later(pipe.end)
    log, _ = logged(later)
    for _ in range(5000):
        log.info("x", {"filler": "x" * 100})
    time.sleep(0.2)
    began = time.monotonic()
    later.close(10)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("error", [None, KeyError("secret"), RecursionError("secret")])
def test_a_full_log_changes_no_answer_and_is_counted(
    service: FakeService, tmp_path: Path, error: Exception | None
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError("the log is full")

    if error:
        service.answer = error
    client = create_app(service, Settings(data=tmp_path), Full()).test_client()
    status = {None: 200, KeyError: 500, RecursionError: 400}[type(error) if error else None]
    response = client.post(PATH, json=call_body())
    assert response.status_code == status
    assert "secret" not in response.text
    assert f"cds_hooks_log_failures_total {2.0 if error else 1.0}" in client.get("/metrics").text


def test_a_fact_that_is_no_json_is_counted(log: io.BytesIO) -> None:
    lost: list[None] = []
    Log(log.write, lambda: lost.append(None)).info("x", {"odd": object(), "\ud800": "\ud800"})
    assert (len(lost), log.getvalue()) == (1, b"")


def test_of_many_frames_the_first_and_last_are_told() -> None:
    def deeper(number: int) -> None:
        if number == 0:
            raise ValueError
        deeper(number - 1)

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - raised here, without a message
        deeper(400)
    told = frames(caught.value)
    assert (told[0], told[20], len(told)) == ("ValueError", "...", 51)
    assert told[-1].endswith("in deeper")


def test_off_is_off() -> None:
    stream = io.BytesIO()
    open_log("off", lambda: None, stream).error("x", {})
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
