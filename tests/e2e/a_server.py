"""The real server in processes of its own, and plain sockets to talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

READY_S = 60
SERVICE = "/cds-services/hemifacial-spasm-patient-view"


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, data: bytes = b"", timeout: float = 10) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout)
        made.sendall(data)
        return made

    def send(self, data: bytes, timeout: float = 10) -> Reply:
        return receive(self.connect(data, timeout))

    def get(self, path: str) -> Reply:
        return self.send(head("GET", path))

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(head("POST", path, len(data), **headers) + data)

    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]

    def tree(self) -> set[int]:
        """The process ids of the server and its workers."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += [int(child) for child in task.read_text().split()]
        return set(found)

    def stop(self, wait: float = 30) -> float:
        """Ask it to stop as a supervisor does; the seconds that it takes."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(wait)
        return time.monotonic() - began


@dataclass
class Reply:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


def head(method: str, path: str, length: int | None = None, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: cds.example.org", "Connection: close"]
    if length is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def receive(connection: socket.socket, *, keep: bool = False) -> Reply:
    """Read one answer, and close the connection; a status of 0 is one that was closed without an answer."""
    with contextlib.nullcontext() if keep else connection:
        return _receive(connection)


def _receive(connection: socket.socket) -> Reply:
    received = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in received:
            data = connection.recv(65536)
            if not data:
                break
            received += data
    top, _, body = received.partition(b"\r\n\r\n")
    if not top:
        return Reply(0)
    first, *rest = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        data = connection.recv(262_144)
        if not data:
            break
        body += data
    return Reply(int(first.split(" ")[1]), headers, body)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(**settings: str) -> Iterator[Server]:
    """A server with settings (`server__threads="4"`); it is ended with its workers at the end."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cds-hooks-test-") as folder:
        log = Path(folder, "log")
        command = [str(Path(sys.executable).with_name("cds-hooks")), "serve", "--port", str(port), "--data", folder]
        environment = os.environ | {f"CDS_HOOKS_{name.upper()}": value for name, value in settings.items()}
        with log.open("wb") as to:
            process = subprocess.Popen(command, env=environment, stdout=to, stderr=to)
        server = Server(process, port, log)
        try:
            _wait_until_it_says_so(server)
            yield server
        finally:
            left = server.tree()
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(5)


def _wait_until_it_says_so(server: Server) -> None:
    ends = time.monotonic() + READY_S
    while b"listens on" not in server.log.read_bytes():
        assert server.process.poll() is None, server.log.read_text()
        assert time.monotonic() < ends, server.log.read_text()
        time.sleep(0.05)


class Ehr(ThreadingHTTPServer):
    """A FHIR server on loopback. `answer` is called with the handler for each GET."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.closing = threading.Event()
        self.seen: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/fhir"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the service may hang up whenever its deadline says so."""

    def __exit__(self, *args: object) -> None:
        self.closing.set()
        self.shutdown()
        super().__exit__(*args)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Ehr

    def do_GET(self) -> None:
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.server.answer(self)

    def reply(self, content: Any, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        given = {"Content-Type": "application/fhir+json", "Content-Length": str(len(data)), **headers}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
