"""A load generator that costs little itself: one thread, plain sockets, one request in flight per connection."""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

GIVE_UP_SECONDS = 10


def post(path: str, body: bytes) -> bytes:
    """Return the bytes of a request, to be sent again and again on open connections."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        "Accept: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


@dataclass
class Outcome:
    seconds: float = 0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return len(self.latencies)

    def quantile(self, share: float) -> float:
        """Return the latency in ms that this share of the requests did not exceed."""
        ranked = sorted(self.latencies)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] * 1000


class _Connection:
    def __init__(self, port: int, request: bytes) -> None:
        self.port, self.request = port, memoryview(request)
        self.socket = self.connect()
        self.begin()

    def connect(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.port), 5)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)
        return opened

    def begin(self) -> None:
        self.sent, self.received, self.expected = 0, b"", 0
        self.started = time.perf_counter()

    def send(self) -> bool:
        """Send what the socket takes; tell whether the request is out."""
        try:
            self.sent += self.socket.send(self.request[self.sent :])
        except BlockingIOError:
            return False
        return self.sent == len(self.request)

    def receive(self) -> int:
        """Read what is there; return the status once the answer is complete, else 0."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed the connection in the middle of a call")
        self.received += data
        if not self.expected:
            head, end, _ = self.received.partition(b"\r\n\r\n")
            if not end:
                return 0
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self.expected = len(head) + 4 + int(lengths[0].partition(b":")[2])
        return int(self.received[9:12]) if len(self.received) >= self.expected else 0


def run(port: int, request: bytes, *, connections: int, seconds: float) -> Outcome:
    """Send the request over and over on so many connections; wait for the answers to all that were sent."""
    outcome = Outcome()
    with selectors.DefaultSelector() as selector:
        started = time.perf_counter()
        for _ in range(connections):
            connection = _Connection(port, request)
            selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        while selector.get_map():
            ready = selector.select(GIVE_UP_SECONDS)
            if not ready:
                raise TimeoutError(f"no answer within {GIVE_UP_SECONDS} s on {len(selector.get_map())} connections")
            for key, _ in ready:
                _proceed(selector, key.data, outcome, started + seconds)
        outcome.seconds = time.perf_counter() - started
    return outcome


def _proceed(selector: selectors.BaseSelector, connection: _Connection, outcome: Outcome, ends: float) -> None:
    if connection.sent < len(connection.request):
        if connection.send():
            selector.modify(connection.socket, selectors.EVENT_READ, connection)
        return
    status = connection.receive()
    if not status:
        return
    now = time.perf_counter()
    outcome.latencies.append(now - connection.started)
    outcome.statuses[status] += 1
    closes = b"\r\nconnection: close" in connection.received[:2000].lower()
    if closes or now >= ends:
        selector.unregister(connection.socket)
        connection.socket.close()
        if now >= ends:
            return
        connection.socket = connection.connect()
        selector.register(connection.socket, selectors.EVENT_WRITE, connection)
    connection.begin()
    waits_for = selectors.EVENT_READ if connection.send() else selectors.EVENT_WRITE
    selector.modify(connection.socket, waits_for, connection)
