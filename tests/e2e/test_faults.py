"""Each fault of the world outside, over real sockets: the answer comes in time, with the right status, never a 5xx."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from a_server import Ehr, free_port
from an_ehr import ICD, NOW, PLAN, bundle, patient, prefetch, problem, request, spasm
from flask.testing import FlaskClient

from cds_hooks.errors import Rejected
from cds_hooks.settings import Fhir, Settings
from cds_hooks.store.opening import Store, open_store, prepare
from cds_hooks.web.app import create_app
from cds_hooks.wsgi import build_service

FETCH_S = 1.5
#: What the answer may take beyond that: judging 10,000 resources, on a machine that does ten other things.
SLACK_S = 15.0
TYPE = "application/fhir+json"
SEED = [patient("seed"), spasm("seed")]
Answer = Callable[[Any], None]
Row = Callable[..., None]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """The whole service as a worker runs it, but in this process."""
    large()
    prefetch("patient-view")  # the plans are read once, outside of what is measured
    settings = Settings(
        data=tmp_path_factory.mktemp("data"), log="off",
        fhir=Fhir(deadline_ms=int(FETCH_S * 1000), breaker_failures=30),
        server={"deadline_ms": int(SLACK_S * 1000)},
    )  # fmt: skip
    return create_app(build_service(settings, validate=False), settings).test_client()


def searched(handler: Any) -> str:
    """The resource type that a request asks for."""
    found: str = handler.path.removeprefix("/fhir/").partition("?")[0].partition("/")[0]
    return found


def healthy(handler: Any) -> None:
    kind = searched(handler)
    if "?" in handler.path:
        handler.reply(bundle(*(one for one in SEED if one["resourceType"] == kind)))
    else:
        handler.reply(next((one for one in SEED if one["resourceType"] == kind), {"resourceType": "Basic"}))


def with_status(status: int) -> Answer:
    return lambda handler: handler.reply({"resourceType": "OperationOutcome", "issue": []}, status)


def hang(handler: Any) -> None:
    handler.server.closing.wait(10)
    handler.close_connection = True


def drip(handler: Any) -> None:
    """A header at once, then a byte now and then: each is in time for a reader that waits for the next one only."""
    handler.send_response(200)
    handler.send_header("Content-Type", TYPE)
    handler.send_header("Content-Length", "10000")
    handler.end_headers()
    while not handler.server.closing.wait(0.1):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def drip_headers(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.closing.wait(0.1):
        handler.wfile.write(b"X-A: b\r\n")
        handler.wfile.flush()


def truncated(handler: Any) -> None:
    data = json.dumps(bundle(*SEED)).encode()
    handler.reply(data[: len(data) // 2])


def cut_off(handler: Any) -> None:
    data = json.dumps(bundle(*SEED)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def login_page(handler: Any) -> None:
    handler.reply(b"<html><form>Please log in</form></html>", **{"Content-Type": "text/html"})


def redirect(handler: Any) -> None:
    handler.reply(b"", 302, Location="https://elsewhere.example.org/fhir/Condition")


def foreign_next(handler: Any) -> None:
    link = [{"relation": "next", "url": "https://elsewhere.example.org/fhir?page=2"}]
    handler.reply(bundle(link=link))


def endless(handler: Any) -> None:
    """Each page names another."""
    number = len(handler.server.seen)
    link = [{"relation": "next", "url": f"{handler.server.base}?page={number}"}]
    handler.reply(bundle(link=link))


@cache
def large() -> bytes:
    made = [problem("seed", f"c{number}", (ICD, "I10")) for number in range(10_000)]
    return json.dumps(bundle(*made, spasm("seed"))).encode()


def ten_thousand(handler: Any) -> None:
    return handler.reply(large()) if searched(handler) == "Condition" else healthy(handler)


def deep(handler: Any) -> None:
    handler.reply(b'{"resourceType":"Bundle","entry":' + b"[" * 50_000 + b"]" * 50_000 + b"}")


NUMBERS = b"""{"resourceType":"Bundle","total":1e400,"entry":[{"resource":%s}]}"""


def huge_numbers(handler: Any) -> None:
    handler.reply(NUMBERS % json.dumps(spasm("seed")).encode().replace(b'"active"', b"9" * 5000))


def only_slow(kind: str) -> Answer:
    return lambda handler: hang(handler) if searched(handler) == kind else healthy(handler)


#: fault -> (what the FHIR server does, status of the answer, cards)
FAULTS: dict[str, tuple[Answer, int, int]] = {
    "none": (healthy, 200, 1),
    "FHIR server says 401": (with_status(401), 412, 0),
    "FHIR server says 403": (with_status(403), 412, 0),
    "FHIR server says 404": (with_status(404), 412, 0),
    "FHIR server says 429": (with_status(429), 412, 0),
    "FHIR server says 500": (with_status(500), 412, 0),
    "FHIR server says 503": (with_status(503), 412, 0),
    "FHIR server hangs": (hang, 412, 0),
    "FHIR server drips its body": (drip, 412, 0),
    "FHIR server drips its headers": (drip_headers, 412, 0),
    "Observations alone hang": (only_slow("Observation"), 200, 1),
    "truncated JSON": (truncated, 412, 0),
    "connection cut in the body": (cut_off, 412, 0),
    "resource of a wrong type": (lambda handler: handler.reply({"resourceType": "Patient", "id": "x"}), 412, 0),
    "JSON that is no resource": (lambda handler: handler.reply([1, 2]), 412, 0),
    "login page": (login_page, 412, 0),
    "redirect": (redirect, 412, 0),
    "next link to a foreign origin": (foreign_next, 412, 0),
    "next links without end": (endless, 412, 0),
    "10,000 entries": (ten_thousand, 200, 1),
    "50,000 levels of nesting": (deep, 412, 0),
    "numbers of 5,000 digits": (huge_numbers, 412, 0),
}


def call(**members: Any) -> dict[str, Any]:
    body = request("patient-view", "seed", **members)
    del body["prefetch"]
    return body


def ask(service: FlaskClient, body: Any) -> tuple[int, Any, float]:
    """Status, body and milliseconds of a call."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    began = time.monotonic()
    answer = service.post(f"/cds-services/{PLAN}-patient-view", data=data, content_type="application/json")
    return answer.status_code, answer.get_json(), (time.monotonic() - began) * 1000


def trace(service: FlaskClient, body: dict[str, Any], key: str) -> str:
    """How the trace says that a key came."""
    shown = service.post(f"/explain/{PLAN}-patient-view", json=body).get_json()
    if "inputs" not in shown:
        return reason(shown)
    found = shown["inputs"][key]
    return f"{key}: {found['how']}" + (f" ({found['problem']})" if found.get("problem") else "")


def reason(found: dict[str, Any]) -> str:
    """The part of a 412 that tells what went wrong."""
    return str(found["issue"][0]["diagnostics"]).partition("(")[2].partition(")")[0]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_fhir_server(service: FlaskClient, fault: Row, name: str) -> None:
    answer, expected, cards = FAULTS[name]
    with Ehr(answer) as ehr:
        body = call(fhirServer=ehr.base)
        status, found, ms = ask(service, body)
        told = trace(service, body, "observations" if "Observation" in name else "conditions")
    fault(name, status, len(found.get("cards", ())), round(ms), told)
    assert status == expected
    assert len(found.get("cards", ())) == cards
    assert ms < (FETCH_S + SLACK_S) * 1000
    if expected == 412:
        assert found["issue"][0]["expression"] == ["prefetch.conditions"]
        assert "127.0.0.1" not in str(found)


def test_no_fhir_server_is_there(service: FlaskClient, fault: Row) -> None:
    body = call(fhirServer=f"http://127.0.0.1:{free_port()}/fhir")
    status, found, ms = ask(service, body)
    fault("FHIR server down", status, 0, round(ms), trace(service, body, "conditions"))
    assert status == 412
    assert "unreachable" in found["issue"][0]["diagnostics"]
    assert ms < (FETCH_S + SLACK_S) * 1000


def test_a_server_that_hangs_is_not_waited_for_again(service: FlaskClient, fault: Row) -> None:
    """After a few calls the breaker answers in its stead, so that a call costs no time any more."""
    with Ehr(hang) as ehr:
        body = call(fhirServer=ehr.base)
        waited = [ask(service, body)[2] for _ in range(4)]
        status, found, ms = ask(service, body)
    fault("FHIR server hangs, fifth call", status, 0, round(ms), reason(found))
    assert status == 412
    assert "breaker open" in found["issue"][0]["diagnostics"]
    assert ms < FETCH_S * 500
    assert waited[0] > FETCH_S * 900


# --- What the client itself sends -------------------------------------------------------------------------------------


def odd(conditions: Any, **members: Any) -> dict[str, Any]:
    body = request("patient-view", "seed", chart=SEED, **members)
    body["prefetch"]["conditions"] = conditions
    return body


def raw(text: bytes) -> bytes:
    """A call whose problem list holds this JSON in place of the onset."""
    body = odd(bundle(spasm("seed") | {"onsetDateTime": "@"}))
    return json.dumps(body).encode().replace(b'"@"', text)


def many(make: Callable[[str], dict[str, Any]], *more: Any) -> dict[str, Any]:
    return odd(bundle(*(make(f"c{number}") for number in range(10_000)), *more))


def pressure(identity: str, code: str = "I10") -> dict[str, Any]:
    return problem("seed", identity, (ICD, code))


SPLIT = {"access_token": "a\r\nX: y", "token_type": "Bearer", "expires_in": 1, "scope": "x", "subject": "y"}
LONG = {"userId": "Practitioner/u", "patientId": "p" * 1_000_000}
LOCAL = "http://127.0.0.1:1/fhir"

SENT: dict[str, tuple[Callable[[], Any], int]] = {
    "prefetch of 10,000 entries": (lambda: many(pressure, spasm("seed")), 200),
    "10,000 spasms": (lambda: many(lambda identity: spasm("seed", identity)), 200),
    "prefetch nested 5,000 deep": (lambda: raw(b'{"a":' * 5000 + b"1" + b"}" * 5000), 400),
    "prefetch nested 900 deep": (lambda: raw(b'{"a":' * 900 + b"1" + b"}" * 900), 200),
    "a number of 1e400": (lambda: raw(b"1e400"), 400),
    "an integer of 5,000 digits": (lambda: raw(b"9" * 5000), 400),
    "a date out of range": (lambda: raw(b'"99999-13-45T25:61:61+99:99"'), 200),
    "a date of one million characters": (lambda: raw(b'"' + b"2026-01-01" * 100_000 + b'"'), 200),
    "a code of one million characters": (lambda: odd(bundle(pressure("c", "I" * 1_000_000))), 200),
    "a patient id of one million characters": (lambda: odd(bundle()) | {"context": LONG}, 400),
    "a FHIR server of one million characters": (lambda: odd(bundle(), fhirServer="https://" + "a." * 500_000), 400),
    "an access token with a line break": (lambda: odd(bundle(), fhirServer=LOCAL, fhirAuthorization=SPLIT), 400),
}


SPEAKING = {
    "prefetch of 10,000 entries", "10,000 spasms", "prefetch nested 900 deep", "a date out of range",
    "a date of one million characters",
}  # fmt: skip


@pytest.mark.parametrize("name", SENT)
def test_a_fault_of_the_client(service: FlaskClient, fault: Row, name: str) -> None:
    make, expected = SENT[name]
    body = make()
    status, found, ms = ask(service, body)
    cards = len(found.get("cards", ()))
    fault(name, status, cards, round(ms), "" if status == 200 else found["issue"][0]["diagnostics"][:90])
    assert status == expected
    assert ms < SLACK_S * 1000
    assert cards == (name in SPEAKING)


def test_a_chart_that_takes_too_long_is_given_up(tmp_path: Path, fault: Row) -> None:
    """A chart that is larger than can be judged is the fault of who sent it; being slow with a small one is ours."""
    settings = Settings(data=tmp_path, log="off", server={"deadline_ms": 100})
    service = create_app(build_service(settings, validate=False), settings).test_client()
    large = odd(bundle(*(spasm("seed", f"c{n}") for n in range(10_000))))
    status, found, ms = ask(service, large)
    fault("more data than can be judged in time", status, 0, round(ms), found["issue"][0]["diagnostics"])
    assert (status, found["issue"][0]["code"]) == (413, "too-costly")
    assert ms < SLACK_S * 1000
    service.application.view_functions["call"].__self__._deadline_s = -1.0  # type: ignore[attr-defined]
    answer = service.post(f"/cds-services/{PLAN}-patient-view", json=odd(bundle(spasm("seed"))))
    assert (answer.status_code, answer.get_json()["issue"][0]["code"]) == (503, "timeout")
    assert answer.headers["Retry-After"]


def test_no_time_for_the_cards_is_not_silence(
    service: FlaskClient, fault: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that cannot be built is left out; one for which there was no time must not look like nothing to say."""

    def late(*args: Any) -> None:
        raise Rejected("The call took longer than a call may take.", status=503, code="timeout")

    monkeypatch.setattr("cds_hooks.service.build", late)
    status, found, ms = ask(service, odd(bundle(spasm("seed"))))
    fault("time is up while a card is built", status, 0, round(ms), found["issue"][0]["diagnostics"])
    assert status == 503


# --- Storage ----------------------------------------------------------------------------------------------------------


@dataclass
class Remembering:
    """A service with a store of its own."""

    client: FlaskClient
    store: Store

    def speaks(self) -> tuple[int, Any, float]:
        return ask(self.client, odd(bundle(spasm("seed"))))

    def feedback(self, card: str) -> Any:
        item = {"card": card, "outcome": "overridden", "outcomeTimestamp": NOW.isoformat(),
                "overrideReason": {"userComment": "made up"}}  # fmt: skip
        return self.client.post(f"/cds-services/{PLAN}-patient-view/feedback", json={"feedback": [item]})


@contextmanager
def remembering(data: Path, url: str | None = None) -> Iterator[Remembering]:
    settings = Settings(data=data, log="off", storage={"url": url, "key": "k" * 40})
    if url is None:
        prepare(settings.storage, settings.data)
    store = open_store(settings.storage, settings.data)
    try:
        service = build_service(settings, validate=False, memory=store.memory)
        yield Remembering(create_app(service, settings).test_client(), store)
    finally:
        store.close()


def survives(service: Remembering, fault: Row, name: str) -> None:
    """Cards go on; feedback is refused with a word on when to send it again; readiness tells."""
    status, found, ms = service.speaks()
    fault(f"{name}: call", status, len(found.get("cards", ())), round(ms), "")
    began = time.monotonic()
    told = service.feedback(found["cards"][0]["uuid"])
    spent = (time.monotonic() - began) * 1000
    fault(f"{name}: feedback", told.status_code, "", round(spent), told.get_json()["issue"][0]["diagnostics"])
    ready = service.client.get("/health/ready")
    fault(f"{name}: readiness", ready.status_code, "", "", ready.get_json()["issue"][0]["diagnostics"])
    assert (status, len(found["cards"])) == (200, 1)
    assert ms < 5000
    assert (told.status_code, bool(told.headers["Retry-After"])) == (503, True)
    assert spent < 10_000
    assert ready.status_code == 503
    assert service.client.get("/health/live").status_code == 200


def test_a_database_that_is_down(tmp_path: Path, fault: Row) -> None:
    with remembering(tmp_path, f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing") as service:
        survives(service, fault, "database down")


def test_a_database_that_hangs(tmp_path: Path, fault: Row) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://nobody@127.0.0.1:{silent.getsockname()[1]}/nothing"
        with remembering(tmp_path, url) as service:
            survives(service, fault, "database hangs")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; only root can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_full(small_disk: Path, fault: Row) -> None:
    with remembering(small_disk) as service:
        with (small_disk / "other").open("wb", buffering=0) as other, suppress(OSError):
            while True:
                other.write(b"x" * 4096)
        while service.feedback(str(uuid.uuid4())).status_code == 200:
            pass  # what is free in the pages that are there
        survives(service, fault, "disk full")
        (small_disk / "other").unlink()
        ends = time.monotonic() + 20  # it is left alone for a moment
        while service.feedback(str(uuid.uuid4())).status_code != 200:
            assert time.monotonic() < ends
            time.sleep(0.2)
