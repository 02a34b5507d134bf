"""Send a server what no client should send, and see that it takes no harm.

First Schemathesis goes over the server's own OpenAPI document, then come mutated calls and feedback. The exit status is
1 if there was an answer of 5xx or none at all, a worker that was replaced, or memory that grew by more than a tenth.
Connections to the FHIR server that some of the calls name are refused: port 9 of this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from bench import process
from bench.mutants import Mutants
from bench.soak import receive

ANSWER_SECONDS = 10
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
#: By how much the memory may grow after the first tenth of the requests.
GROWTH = 1.10


class Attacker(threading.Thread):
    """Sends its share of the requests, one after another, on connections that it keeps as long as the server does."""

    def __init__(self, seed: int, port: int, mutants: Mutants, count: int) -> None:
        super().__init__(daemon=True)
        self.port, self.mutants, self.left, self.seed = port, mutants, count, seed
        self.answers: Counter[tuple[str, int]] = Counter()
        self.bad: list[tuple[str, str, bytes]] = []
        self.socket: socket.socket | None = None

    def run(self) -> None:
        while self.left:
            self.left -= 1
            kind, request = self.mutants.request()
            try:
                status = self.send(request)
            except (OSError, ValueError) as error:
                self.hang_up()
                self.bad.append((kind, f"{type(error).__name__} {error}", request[:500]))
                continue
            self.answers[kind, status] += 1
            if status >= 500:
                self.bad.append((kind, f"status {status}", request[:2000]))
        self.hang_up()

    def send(self, request: bytes) -> int:
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), ANSWER_SECONDS)
        elif self.answers.total() % 50 == 0:
            self.hang_up()
            return self.send(request)
        try:
            self.socket.sendall(request)
            status, closes = receive(self.socket, time.monotonic() + ANSWER_SECONDS, bodiless=request[:5] == b"HEAD ")
        except (ConnectionError, BrokenPipeError):
            # A kept connection may be closed at any time; on a new one an answer is due.
            self.hang_up()
            self.socket = socket.create_connection(("127.0.0.1", self.port), ANSWER_SECONDS)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.socket.sendall(request)
            status, closes = receive(self.socket, time.monotonic() + ANSWER_SECONDS, bodiless=request[:5] == b"HEAD ")
        if closes:
            self.hang_up()
        return status

    def hang_up(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def schemathesis(port: int, examples: int) -> int:
    """Run Schemathesis over the server's document; return its exit status."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{port}/openapi.json",
        "--checks", CHECKS, "--max-examples", str(examples), "--phases", "examples,coverage,fuzzing",
        "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    print(f"--- Schemathesis, {examples} examples for each operation", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout[-1500:] if done.returncode == 0 else done.stdout[-6000:])
    return done.returncode


def mutate(server: process.Running, requests: int, seed: int, threads: int) -> bool:
    """Send the mutants; tell whether all went well."""
    services = json.loads(server.get("/cds-services")[1])["services"]
    attackers = [Attacker(n, server.port, Mutants(seed + n, services), requests // threads) for n in range(threads)]
    workers, began, warm, grown = server.tree(), time.monotonic(), 0.0, 0.0
    print(f"--- {requests} mutated requests, seed {seed}", flush=True)
    for attacker in attackers:
        attacker.start()
    while any(attacker.is_alive() for attacker in attackers):
        time.sleep(1)
        left = sum(attacker.left for attacker in attackers)
        if left < 0.9 * requests:
            warm = warm or server.memory_mb()
            grown = server.memory_mb()
    seconds = time.monotonic() - began
    answers = sum((attacker.answers for attacker in attackers), Counter[tuple[str, int]]())
    bad = [one for attacker in attackers for one in attacker.bad]
    statuses: Counter[int] = Counter()
    for (_, status), count in answers.items():
        statuses[status] += count
    print(f"{answers.total()} answers in {seconds:.0f} s: {dict(sorted(statuses.items()))}")
    same, ratio = server.tree() == workers, grown / warm if warm else 1.0
    print(f"workers {'the same' if same else 'REPLACED'}")
    print(f"memory {warm:.0f} MB after a tenth, {grown:.0f} MB at the end")
    for kind, what, request in bad[:10]:
        print(f"BAD ({kind}): {what}\n{request!r}\n")
    print(f"{len(bad)} answers of 5xx or none")
    return not bad and same and ratio <= GROWTH


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000, help="mutated requests (default 100,000)")
    parser.add_argument("--examples", type=int, default=100, help="examples of Schemathesis per operation")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same requests")
    parser.add_argument("--threads", type=int, default=4, help="connections at the same time")
    options = parser.parse_args()
    os.nice(10)
    with process.ours("granian") as server:
        found = schemathesis(server.port, options.examples) if options.examples else 0
        return int(not mutate(server, options.requests, options.seed, options.threads) or found != 0)


if __name__ == "__main__":
    sys.exit(main())
