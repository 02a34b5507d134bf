"""Keep half of its own capacity on a server for ten minutes, and see that it does not tire.

Capacity is what the mixed load of `MIX` reaches at once on many connections, measured just before on the same server.
Then so many calls are started each second, whether or not the ones before are answered, as EHRs do. The exit status is
1 if there was an error, if the last third has a p99 more than half above that of the first third and above 50 ms, if
memory grew by more than a tenth after the first third, or if a worker was replaced.
"""

from __future__ import annotations

import argparse
import queue
import random
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from bench import process
from bench.soak import EhrServer, SlowEhr, receive, requests

ANSWER_SECONDS = 10
CAPACITY_SECONDS = 10
#: Kind of call -> weight.
MIX = {"silent": 70, "speaking": 24, "waiting": 3, "malformed": 2, "big": 1}
#: Kinds that are slow by intention, and so are left out of the latencies.
SLOW = ("waiting", "big")
THIRDS = 3


@dataclass
class Third:
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    memory_mb: float = 0.0

    def p(self, share: float) -> float:
        """Return the latency in ms that this share of the calls did not exceed."""
        return statistics.quantiles(self.latencies, n=1000)[int(share * 1000) - 1] * 1000


class Callers:
    """Threads with a connection each, that send whatever is due."""

    def __init__(self, port: int, mix: dict[str, bytes], threads: int) -> None:
        self.port, self.mix = port, mix
        self.due: queue.SimpleQueue[tuple[str, float] | None] = queue.SimpleQueue()
        self.third, self.lock = Third(), threading.Lock()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self) -> None:
        connection = None
        while (job := self.due.get()) is not None:
            kind, due = job
            try:
                connection = connection or _connect(self.port)
                connection.sendall(self.mix[kind])
                status, closes = receive(connection, time.monotonic() + ANSWER_SECONDS)
                wrong = "" if status == (400 if kind == "malformed" else 200) else f"{kind}: status {status}"
            except (OSError, ValueError) as error:
                wrong, closes = f"{kind}: {type(error).__name__}", True
            if closes and connection is not None:
                connection.close()
                connection = None
            self._note(kind, time.monotonic() - due, wrong)

    def _note(self, kind: str, seconds: float, wrong: str) -> None:
        with self.lock:
            self.third.calls += 1
            if wrong:
                self.third.errors[wrong] += 1
            elif kind not in SLOW:
                self.third.latencies.append(seconds)

    def turn(self) -> Third:
        """Return what was noted since the last turn."""
        with self.lock:
            done, self.third = self.third, Third()
            return done

    def end(self) -> None:
        for _ in self.threads:
            self.due.put(None)
        for thread in self.threads:
            thread.join(ANSWER_SECONDS + 1)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)


def capacity(callers: Callers, seconds: float) -> float:
    """Return the calls per second that the mix reaches when a new one is due as soon as one is answered."""
    dice, began = random.Random(1), time.monotonic()
    while time.monotonic() - began < seconds:
        while callers.due.qsize() < 2 * len(callers.threads):
            callers.due.put((_kind(dice), time.monotonic()))
        time.sleep(0.002)
    done = callers.turn().calls / (time.monotonic() - began)
    while not callers.due.empty():
        time.sleep(0.05)
    time.sleep(4)  # calls that wait for the pretended EHR may take that long
    callers.turn()
    return done


def steady(callers: Callers, server: process.Running, rate: float, seconds: float) -> list[Third]:
    """Start calls at this rate; return what came of each third."""
    dice, began, sent, thirds = random.Random(2), time.monotonic(), 0, []
    for number in range(1, THIRDS + 1):
        while (now := time.monotonic() - began) < seconds * number / THIRDS:
            while sent < now * rate:
                callers.due.put((_kind(dice), began + sent / rate))
                sent += 1
            time.sleep(0.001)
        third = callers.turn()
        third.memory_mb = server.memory_mb()
        thirds.append(third)
        print(f"{seconds * number / THIRDS:6.0f} s {third.calls:8} calls  p50 {third.p(0.5):6.1f} ms  "
              f"p99 {third.p(0.99):6.1f} ms  errors {third.errors.total()}  memory {third.memory_mb:.0f} MB",
              flush=True)  # fmt: skip
    return thirds


def _kind(dice: random.Random) -> str:
    return dice.choices(list(MIX), list(MIX.values()))[0]


def soak(server: process.Running, seconds: float, connections: int) -> bool:
    """Tell whether the server held out."""
    path, templates = server.patient_view()
    ehr = EhrServer(("127.0.0.1", 0), SlowEhr)
    threading.Thread(target=ehr.serve_forever, daemon=True).start()
    callers = Callers(server.port, requests(path, templates, ehr.server_address[1]), connections)
    workers = server.tree()
    most = capacity(callers, min(CAPACITY_SECONDS, seconds))
    print(f"capacity {most:.0f} calls/s on {connections} connections; now {most / 2:.0f} calls/s for {seconds:.0f} s")
    thirds = steady(callers, server, most / 2, seconds)
    callers.end()
    ehr.shutdown()
    first, last = thirds[0], thirds[-1]
    errors = sum((third.errors for third in thirds), Counter[str]())
    for what, count in errors.items():
        print(f"{count:7}  {what}")
    same = server.tree() == workers
    print(f"workers {'the same' if same else 'REPLACED'}")
    stable = last.p(0.99) <= max(1.5 * first.p(0.99), 50)
    return not errors and same and stable and last.memory_mb <= 1.1 * first.memory_mb


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.endurance", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="how long (default 600)")
    parser.add_argument("--connections", type=int, default=48, help="at the same time (default 48)")
    options = parser.parse_args()
    with process.ours("granian") as server:
        held = soak(server, options.seconds, options.connections)
    print("held out" if held else "DID NOT HOLD OUT")
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
