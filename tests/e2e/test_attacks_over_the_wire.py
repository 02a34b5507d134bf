"""Attacks that need a real server: bytes that no client library would send, and more workers than one."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from an_ehr import patient, request, spasm
from made_up_clients import ISSUER, jwk, jwks, signed

PATH = "/cds-services/hemifacial-spasm-patient-view"
BODY = json.dumps(request("patient-view", "seed", chart=[patient("seed"), spasm("seed")])).encode()
SETTINGS = """
public_url = "{base}"
[server]
workers = 2
[[clients]]
name = "first"
issuer = "{issuer}"
jwks_file = "{keys}"
"""


@dataclass(frozen=True)
class Running:
    """A server with two workers."""

    port: int
    log: Path

    def token(self) -> str:
        now = time.time()
        aud = f"http://127.0.0.1:{self.port}{PATH}"
        return signed(aud=aud, iat=now, exp=now + 300, jti=str(uuid.uuid4()))

    def call(self, token: str) -> int:
        """The status of a call with this token, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
            connection.request("POST", PATH, BODY, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def raw(self, *lines: bytes) -> bytes:
        """What the server says to these header lines and a good body; empty if it hangs up."""
        head = [b"POST %s HTTP/1.1" % PATH.encode(), b"Host: 127.0.0.1", b"Content-Type: application/json",
                b"Content-Length: %d" % len(BODY), b"Connection: close", *lines]  # fmt: skip
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            try:
                connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + BODY)
                answer = b""
                while block := connection.recv(65536):
                    answer += block
            except ConnectionError:
                return b""
        return answer


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("wire")
    port = free_port()
    keys = folder / "jwks.json"
    keys.write_text(json.dumps(jwks(jwk("ec", "k1"))))
    config = folder / "settings.toml"
    config.write_text(SETTINGS.format(base=f"http://127.0.0.1:{port}", issuer=ISSUER, keys=keys))
    command = [Path(sys.executable).with_name("cds-hooks"), "serve", "--port", str(port), "--config", config,
               "--data", folder / "data"]  # fmt: skip
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | {"CDS_HOOKS_LOG": "json"})
    server = Running(port, log)
    try:
        until = time.monotonic() + 60
        while not ready(server):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def ready(server: Running) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_the_server_lets_its_client_in(running: Running) -> None:
    assert running.call(running.token()) == 200


def test_a_replayed_token_in_two_workers(running: Running, attack: Callable[..., None]) -> None:
    """Twenty tokens, each sent eight times at once: whichever worker it comes to, one call of each is answered."""
    tokens = [running.token() for _ in range(20)]
    sent = [token for token in tokens for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(running.call, sent))
    answered = [statuses[start : start + 8].count(200) for start in range(0, len(statuses), 8)]
    attack("replayed jti", "20 tokens, each 8 times at once to two workers", 401, f"{sum(answered)} of 160 answered")
    assert set(statuses) == {200, 401}
    assert answered == [1] * 20
    until = time.monotonic() + 5
    while running.log.read_text().count('"auth":"replayed"') < 140 and time.monotonic() < until:
        time.sleep(0.05)  # lines are written a moment later
    assert running.log.read_text().count('"auth":"replayed"') == 140


GOOD = object()
RAW: dict[str, tuple[object, ...]] = {
    "a line break and a header in the token": (b"Authorization: Bearer x\r\nX-Injected: 1",),
    "a folded header": (b"Authorization: Bearer\r\n x",),
    "a bare line feed in the token": (b"Authorization: Bearer x\nX-Injected: 1",),
    "a null character in the token": (b"Authorization: Bearer x\x00y",),
    "two Authorization headers": (b"Authorization: Bearer x", GOOD),
    "two Authorization headers, the good one first": (GOOD, b"Authorization: Bearer x"),
    "a token of 100,000 characters": (b"Authorization: Bearer " + b"x" * 100_000,),
    "2,000 headers": tuple(b"X-%d: 1" % number for number in range(2000)),
    "bytes that are no text": (b"Authorization: Bearer \xff\xfe\x80\x81",),
}


@pytest.mark.parametrize("what", RAW)
def test_bytes_that_no_library_sends(running: Running, what: str, attack: Callable[..., None]) -> None:
    good = f"Authorization: Bearer {running.token()}".encode()
    lines = [good if line is GOOD else line for line in RAW[what]]
    answer = running.raw(*lines)  # type: ignore[arg-type]
    head, _, _ = answer.partition(b"\r\n\r\n")
    status = head.split(b" ")[1].decode() if answer else "hung up"
    attack("header injection", what, status, "by the gate" if b"OperationOutcome" in answer else "by the HTTP server")
    assert status in ("400", "401", "431", "hung up")
    assert b"x-injected" not in head.lower()
    assert b"cards" not in answer
    assert b"Traceback" not in answer
    assert running.call(running.token()) == 200
