"""The real server under clients and a FHIR server that take their time: who waits, who is refused, how it stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from a_server import SERVICE, Ehr, Server, free_port, head, receive, serving
from an_ehr import patient, request, spasm

Row = Callable[..., None]
THREADS = 4
BODY_S = 1.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="connections are looked at through /proc")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    call()  # reads the plans, which takes longer than a body may
    with serving(server__workers="1", server__threads=str(THREADS), server__body_ms=str(int(BODY_S * 1000))) as made:
        yield made


def call(**members: Any) -> dict[str, Any]:
    return request("patient-view", "seed", chart=[patient("seed"), spasm("seed")], **members)


def is_well(server: Server) -> None:
    """Health, discovery and metrics answer at once, whatever else goes on."""
    for path in ("/health/ready", "/health/live", "/cds-services", "/metrics"):
        began = time.monotonic()
        assert server.get(path).status == 200
        assert time.monotonic() - began < 2


def metric(server: Server, name: str) -> float:
    lines = server.get("/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@linux
def test_bodies_that_never_come_end_in_time(fault: Row) -> None:
    limit_s = 3.0
    with serving(server__workers="1", server__threads=str(THREADS), server__body_ms=str(int(limit_s * 1000))) as server:
        began = time.monotonic()
        hanging = [server.connect(head("POST", SERVICE, 1000) + b"{") for _ in range(THREADS)]
        # All must have their places before anything else is sent: it could take one, and a hanging one be refused.
        while metric(server, "cds_hooks_at_work") < THREADS and time.monotonic() - began < limit_s:
            time.sleep(0.05)
        refused = server.post(SERVICE, call())
        assert (refused.status, refused.headers.get("retry-after")) == (503, "2")
        assert refused.json()["issue"][0]["code"] == "throttled"
        is_well(server)
        answers = [receive(connection).status for connection in hanging]
        ms = round((time.monotonic() - began) * 1000)
        fault("bodies that never come", "/".join(map(str, sorted(set(answers)))), "", ms, f"{limit_s} s for a body")
        fault("one request more than there are places for", refused.status, "", "", "health, metrics, discovery: 200")
        assert ms < (limit_s + 2) * 1000
        assert set(answers) <= {408, 0}
        assert server.post(SERVICE, call()).status == 200
        assert metric(server, 'cds_hooks_refused_total{reason="full"}') == 1
        assert metric(server, 'cds_hooks_refused_total{reason="slow body"}') == THREADS


@linux
def test_bodies_that_drip_end_in_time(server: Server, fault: Row) -> None:
    began = time.monotonic()
    dripping = [server.connect(head("POST", SERVICE, 1000)) for _ in range(THREADS)]
    for connection in dripping:
        connection.settimeout(0.05)
    while dripping and time.monotonic() - began < 15:
        for connection in list(dripping):
            try:
                connection.sendall(b" ")
                over = connection.recv(100)[:12] in (b"", b"HTTP/1.1 408")
            except TimeoutError:
                continue
            except OSError:
                over = True
            if over:
                dripping.remove(connection)
                connection.close()
    ms = round((time.monotonic() - began) * 1000)
    fault("bodies that drip", 408, "", ms, f"{BODY_S} s for a body")
    assert ms < (3 * BODY_S + 2) * 1000
    assert server.post(SERVICE, call()).status == 200


@linux
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PUT"])
def test_a_body_needs_a_place_whatever_the_method(server: Server, method: str) -> None:
    hanging = [server.connect(head(method, "/health/live", 1000) + b"{") for _ in range(THREADS + 8)]
    time.sleep(0.2)
    is_well(server)
    for connection in hanging:
        assert receive(connection).status in (0, 408, 503)


@linux
def test_a_slow_body_costs_no_other_call_of_the_same_client(server: Server) -> None:
    """Calls that wait for a FHIR server go on while the connection next to them is cut."""

    def slow(handler: Any) -> None:
        time.sleep(1.5)
        handler.reply({"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": spasm("seed")}]})

    with Ehr(slow) as ehr:
        kept = server.connect(head("GET", "/health/live").replace(b"Connection: close\r\n", b""))
        receive(kept, keep=True)
        time.sleep(BODY_S + 0.2)
        hanging = server.connect(head("POST", SERVICE, 1000) + b"{")
        body = call(fhirServer=ehr.base)
        del body["prefetch"]["conditions"]
        # On a connection on which nothing was said for long: only its request tells that it is alive.
        data = json.dumps(body).encode()
        kept.sendall(head("POST", SERVICE, len(data)) + data)
        assert receive(kept).status == 200
        assert receive(hanging).status in (0, 408)


def test_the_server_says_that_it_listens_when_it_does(server: Server) -> None:
    text = server.log.read_text()
    assert text.count("listens on") == 1
    assert f"listens on {server.base}/cds-services" in text


def test_calls_in_flight_are_finished_when_the_server_stops(fault: Row) -> None:
    def slow(handler: Any) -> None:
        time.sleep(1.5)
        handler.reply({"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": spasm("seed")}]})

    with serving() as server, Ehr(slow) as ehr:
        body = call(fhirServer=ehr.base)
        del body["prefetch"]["conditions"]
        data = json.dumps(body).encode()
        waiting = [server.connect(head("POST", SERVICE, len(data)) + data) for _ in range(8)]
        idle = [server.connect() for _ in range(4)]
        time.sleep(0.5)
        took = server.stop()
        answers = [receive(connection) for connection in waiting]
        fault("SIGTERM with 8 calls in flight", answers[0].status, 8, round(took * 1000), "all answered, process ended")
        assert [answer.status for answer in answers] == [200] * 8
        assert all(len(answer.json()["cards"]) == 1 for answer in answers)
        assert took < 5
        assert [receive(connection).status for connection in idle] == [0] * 4


def test_a_stop_does_not_wait_for_clients_that_never_finish(fault: Row) -> None:
    """Docker kills after ten seconds; what is still open then was no call that could have ended."""
    with serving(server__workers="1") as server:
        half = [server.connect(head("POST", SERVICE, 1000) + b"{"), server.connect(b"POST /cds")]
        time.sleep(0.3)
        took = server.stop()
        fault("SIGTERM with bodies that never come", "", "", round(took * 1000), "process ended")
        assert took < 9.5
        for connection in half:
            connection.close()


def test_every_call_is_in_the_log_when_the_server_has_ended() -> None:
    with serving(server__workers="2") as server:
        with ThreadPoolExecutor(8) as pool:
            assert {reply.status for reply in pool.map(lambda _: server.post(SERVICE, call()), range(200))} == {200}
        server.process.terminate()
        server.process.wait(20)
        lines = [line for line in server.lines() if line["service"] != "unknown"]
    assert len({line["request_id"] for line in lines}) == len(lines) == 200


@linux
def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path, fault: Row) -> None:
    port = free_port()
    command = [str(Path(sys.executable).with_name("cds-hooks")), "serve", "--port", str(port), "--data", str(tmp_path)]
    environment = os.environ | {"CDS_HOOKS_SERVER__WORKERS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        server = Server(process, port, tmp_path / "none")
        try:
            assert process.stderr is not None
            while b"listens on" not in process.stderr.readline():
                assert process.poll() is None
            until = time.monotonic() + 10
            while not _accepts(port) and time.monotonic() < until:
                time.sleep(0.05)
            began = time.monotonic()
            for _ in range(1000):  # some 200 kB of lines; a pipe holds 64
                assert server.get("/health/live").status == 200
            time.sleep(0.2)
            deep = b'{"hook":' + b"[" * 2000 + b"]" * 2000 + b"}"
            assert server.post(SERVICE, deep).status == 400
            fault("a log that nobody reads", 200, "", round((time.monotonic() - began) * 1000), "1000 requests")
            began = time.monotonic()
            process.terminate()
            process.wait(20)
            ended_s = time.monotonic() - began
        finally:
            for pid in server.tree():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    fault("SIGTERM with a log that nobody reads", "", "", round(ended_s * 1000), "process ended")
    assert ended_s < 6


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return False
    return True
