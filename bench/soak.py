"""Keep a mixed load on one server for a while and count what goes wrong.

Silent and speaking calls, calls that wait for an EHR, malformed ones, bodies of 1 MB, and clients that hang up in the
middle, on many connections at once, beside connections that never say anything (browsers open such). A stall is a call
without an answer within 5 s. The exit status is 1 if there was an error or a stall.
"""

from __future__ import annotations

import argparse
import http.server
import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, get_args

from bench import bodies, load, process
from cds_hooks import serving

STALL_SECONDS = 5
WINDOW_SECONDS = 10
EHR_SECONDS = 0.3  # how long the pretended EHR takes for an answer
BIG_BYTES = 1_000_000
#: Kind of call -> weight in the mix.
MIX = {"silent": 50, "speaking": 25, "malformed": 8, "waiting": 5, "big": 4, "half": 4, "deaf": 4}


@dataclass
class Window:
    latencies: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Log:
    """What happened, by window of 10 s."""

    def __init__(self) -> None:
        self.lock, self.window, self.totals = threading.Lock(), Window(), Counter[str]()

    def answered(self, kind: str, seconds: float) -> None:
        with self.lock:
            self.window.counts["calls"] += 1
            if kind not in ("waiting", "big"):  # these are slow by intention
                self.window.latencies.append(seconds)

    def note(self, what: str) -> None:
        with self.lock:
            self.window.counts[what] += 1

    def turn(self) -> Window:
        with self.lock:
            done, self.window = self.window, Window()
            self.totals += done.counts
            return done


class Client(threading.Thread):
    """One connection after another, each kept for a number of calls."""

    def __init__(self, number: int, port: int, requests: dict[str, bytes], log: Log, ends: float) -> None:
        super().__init__(daemon=True)
        self.port, self.requests, self.log, self.ends = port, requests, log, ends
        self.dice = random.Random(number)
        self.socket: socket.socket | None = None

    def run(self) -> None:
        while time.monotonic() < self.ends:
            kind = self.dice.choices(list(MIX), list(MIX.values()))[0]
            try:
                self.call(kind)
            except TimeoutError:
                self.log.note(f"stall ({kind})")
                self.hang_up()
            except (OSError, ValueError) as error:
                self.log.note(f"error ({kind}: {type(error).__name__} {error})")
                self.hang_up()
                time.sleep(0.05)
        self.hang_up()

    def call(self, kind: str) -> None:
        if self.dice.random() < 0.05:
            self.hang_up()
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), STALL_SECONDS)
        request = self.requests["silent" if kind in ("half", "deaf") else kind]
        started = time.monotonic()
        if kind == "half":  # leaves in the middle of sending
            self.socket.sendall(request[: self.dice.randrange(20, len(request) - 1)])
            self.hang_up(abruptly=self.dice.random() < 0.5)
            return
        self.socket.sendall(request)
        if kind == "deaf":  # leaves without hearing the answer
            self.hang_up(abruptly=self.dice.random() < 0.5)
            return
        status, closes = receive(self.socket, started + STALL_SECONDS)
        self.log.answered(kind, time.monotonic() - started)
        if status != (400 if kind == "malformed" else 200):
            self.log.note(f"error ({kind}: status {status})")
        if closes:
            self.hang_up()

    def hang_up(self, *, abruptly: bool = False) -> None:
        if self.socket is not None:
            if abruptly:  # a reset instead of an orderly end
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()
            self.socket = None


def receive(connection: socket.socket, ends: float, *, bodiless: bool = False) -> tuple[int, bool]:
    """Return the status of the answer (to a HEAD if `bodiless`), and whether the server closes the connection."""
    received, expected = b"", None
    while expected is None or len(received) < expected:
        connection.settimeout(max(0.001, ends - time.monotonic()))
        data = connection.recv(262_144)
        if not data:
            raise ConnectionError("closed without a whole answer")
        received += data
        if expected is None and b"\r\n\r\n" in received:
            head = received.partition(b"\r\n\r\n")[0].lower()
            lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
            expected = len(head) + 4 + int(lengths[0].partition(b":")[2]) if lengths and not bodiless else len(received)
    return int(received[9:12]), b"\r\nconnection: close" in head


class SlowEhr(http.server.BaseHTTPRequestHandler):
    """A FHIR server that knows the patient, finds nothing else, and takes its time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(EHR_SECONDS)
        if "?" in self.path:
            body: bodies.Json = {"resourceType": "Bundle", "type": "searchset", "total": 0}
        else:
            kind = self.path.split("/")[-2]
            body = next(iter(bodies.chart(spasm=False, conditions=0).get(kind, [])), {"resourceType": "Basic"})
        content = bodies.encode(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: standard error belongs to the report."""


class EhrServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the service may hang up whenever its deadline says so."""


def requests(path: str, templates: dict[str, str], ehr_port: int) -> dict[str, bytes]:
    silent = bodies.patient_view(templates, spasm=False, conditions=10)
    speaking = bodies.patient_view(templates, spasm=True, conditions=10)
    big = silent | {"extension": {"org.example.padding": {"text": "x" * BIG_BYTES}}}
    waiting = {key: value for key, value in silent.items() if key != "prefetch"}
    waiting["fhirServer"] = f"http://127.0.0.1:{ehr_port}/fhir"
    content = {"silent": silent, "speaking": speaking, "big": big, "waiting": waiting}
    made = {kind: load.post(path, bodies.encode(body)) for kind, body in content.items()}
    return made | {"malformed": load.post(path, bodies.encode(silent)[:-1])}


def soak(server: process.Running, seconds: int, connections: int, idle: int) -> int:
    path, templates = server.patient_view()
    ehr = EhrServer(("127.0.0.1", 0), SlowEhr)
    threading.Thread(target=ehr.serve_forever, daemon=True).start()
    mix, log, workers = requests(path, templates, ehr.server_address[1]), Log(), server.tree()
    silent = [socket.create_connection(("127.0.0.1", server.port), STALL_SECONDS) for _ in range(idle)]
    started = time.monotonic()
    for number in range(connections):
        Client(number, server.port, mix, log, started + seconds).start()
    print(f"{'s':>5}{'calls/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'errors':>8}{'stalls':>8}{'memory MB':>11}")
    for end in range(min(WINDOW_SECONDS, seconds), seconds + 1, WINDOW_SECONDS):
        time.sleep(max(0, started + end - time.monotonic()))
        report(end, log.turn(), server)
    time.sleep(STALL_SECONDS + 0.5)  # calls still open become answers or stalls
    left = log.turn()
    troubles = {what: count for what, count in sorted(log.totals.items()) if what != "calls"}
    print(f"\n{log.totals['calls']} calls, {left.counts['calls']} of them answered after the end; peak memory", end=" ")
    print(f"{server.memory_mb(peak=True):.0f} MB; workers {'the same' if server.tree() == workers else 'REPLACED'}")
    for what, count in troubles.items():
        print(f"{count:7}  {what}")
    status, seconds_alone = alone(server, mix["silent"])
    print(f"afterwards, alone: status {status} in {seconds_alone * 1000:.1f} ms")
    for connection in silent:
        connection.close()
    ehr.shutdown()
    return int(bool(troubles) or status != 200)


def report(end: int, window: Window, server: process.Running) -> None:
    counts = window.counts
    outcome = load.Outcome(WINDOW_SECONDS, window.latencies or [0])
    errors, stalls = (sum(n for what, n in counts.items() if what.startswith(kind)) for kind in ("error", "stall"))
    spread = "".join(f"{outcome.quantile(share):9.1f}" for share in (0.5, 0.99, 1))
    rate = counts["calls"] / WINDOW_SECONDS
    print(f"{end:5}{rate:9.0f}{spread}{errors:8}{stalls:8}{server.memory_mb():11.0f}", flush=True)


def alone(server: process.Running, request: bytes) -> tuple[int, float]:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), STALL_SECONDS) as connection:
        connection.sendall(request)
        try:
            return receive(connection, started + STALL_SECONDS)[0], time.monotonic() - started
        except (OSError, ValueError):
            return 0, time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    parser.add_argument("--connections", type=int, default=64, help="at the same time (default 64)")
    parser.add_argument("--idle", type=int, default=40, help="silent connections beside them (default 40)")
    parser.add_argument("--server", choices=get_args(serving.Server), default=serving.chosen(), help="the WSGI server")
    parser.add_argument(
        "--target", choices=["ours", "bare"], default="ours", help="the service, or the bare application"
    )
    options = parser.parse_args()
    run = process.bare if options.target == "bare" else process.ours
    with run(options.server) as server:
        print(f"{options.target} on {options.server}, {options.connections} connections and {options.idle} idle ones")
        print(json.dumps(MIX))
        return soak(server, options.seconds, options.connections, options.idle)


if __name__ == "__main__":
    sys.exit(main())
