"""Compare the service with a bare Flask application: processor time, throughput, latency, memory.

Processor time per call is the figure to judge by: it is that of the server's whole process tree, over alternating
rounds, so that neither the load generator nor a busy machine favours one side. The exit status is 1 if a ratio is over
its limit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bench import bodies, load, process
from cds_hooks import serving

CPU_CONNECTIONS, CPU_ROUNDS, CPU_SECONDS = 4, 15, 0.4
WARM_UP_SECONDS = 1.0
LATENCY_CONNECTIONS, LATENCY_SECONDS = (1, 8, 32), 2.5


@dataclass(frozen=True)
class Cell:
    """One patient with one size of chart, and how many times the bare application's processor time it may cost."""

    spasm: bool
    conditions: int
    limit: float

    @property
    def name(self) -> str:
        return f"{'hemifacial spasm' if self.spasm else 'unrelated'}, {self.conditions} Conditions"


CELLS = [Cell(False, 10, 2.0), Cell(False, 200, 1.3), Cell(True, 10, 6.0), Cell(True, 200, 2.0)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--server", choices=get_args(serving.Server), default=serving.chosen(), help="the WSGI server of both"
    )
    options = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        sys.exit("the benchmark reads /proc and so needs Linux")
    with process.bare(options.server) as bare, process.ours(options.server) as ours:
        print(f"{options.server}, {serving.WORKERS} workers x {serving.THREADS} threads\n")
        return compare(bare, ours)


def compare(bare: process.Running, ours: process.Running) -> int:
    path, templates = ours.patient_view()
    payloads = {
        cell: bodies.encode(bodies.patient_view(templates, spasm=cell.spasm, conditions=cell.conditions))
        for cell in CELLS
    }
    for cell, body in payloads.items():
        see_answer(ours, path, body, cell)
    requests = {cell: load.post(path, body) for cell, body in payloads.items()}
    over = compare_cpu(bare, ours, requests)
    compare_latency(bare, ours, requests)
    print("\npeak memory of the process tree, MB (shared pages count in each process)")
    print("".join(f"  {server.name} {server.memory_mb(peak=True):.0f}" for server in (bare, ours)))
    if over:
        print(f"\n{over} of {len(CELLS)} ratios over the limit")
    return int(bool(over))


def see_answer(ours: process.Running, path: str, body: bytes, cell: Cell) -> None:
    """Exit unless the service says what it should: a fast wrong answer is not worth measuring."""
    status, answer = ours.post(path, body)
    cards = answer.get("cards", [])
    right = len(cards) == 1 and cards[0].get("suggestions") if cell.spasm else not cards
    if status != 200 or not right:
        wanted = "one card with a suggestion" if cell.spasm else "no card"
        found = [card.get("summary") for card in cards] if status == 200 else answer
        raise SystemExit(f"{cell.name}: wanted {wanted}, got {status} {found}")


def compare_cpu(bare: process.Running, ours: process.Running, requests: dict[Cell, bytes]) -> int:
    """Print processor time per call; return how many ratios are over their limit."""
    print(f"processor time per call, ms (median of {CPU_ROUNDS} alternating rounds, {CPU_CONNECTIONS} connections)")
    print(f"{'':34}{'body kB':>8}{'calls':>8}{'bare':>8}{'ours':>8}{'ratio':>8}{'limit':>8}")
    over = 0
    for cell, request in requests.items():
        for server in (bare, ours):
            drive(server, request, CPU_CONNECTIONS, WARM_UP_SECONDS)
        rounds, calls = [], 0
        for _ in range(CPU_ROUNDS):
            cost = []
            for server in (bare, ours):
                before = server.cpu_seconds()
                outcome = drive(server, request, CPU_CONNECTIONS, CPU_SECONDS)
                cost.append((server.cpu_seconds() - before) * 1000 / outcome.requests)
                calls += outcome.requests
            rounds.append(cost)
        ratio = statistics.median(of_ours / of_bare for of_bare, of_ours in rounds)
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        figures = f"{len(request) / 1000:8.0f}{calls:8}{medians[0]:8.3f}{medians[1]:8.3f}{ratio:8.2f}{cell.limit:8.1f}"
        print(f"{cell.name:34}{figures}  {'pass' if ratio <= cell.limit else 'over'}", flush=True)
        over += ratio > cell.limit
    return over


def compare_latency(bare: process.Running, ours: process.Running, requests: dict[Cell, bytes]) -> None:
    print(f"\n{'':34}{'connections':>12}{'calls/s':>9}{'p50 ms':>9}{'p99 ms':>9}")
    quiet, speaking = [cell for cell in requests if cell.conditions == 10]
    rows = [("bare, 10 Conditions", bare, quiet)]
    rows += [(f"ours, {cell.name}", ours, cell) for cell in (quiet, speaking)]
    for connections in LATENCY_CONNECTIONS:
        for name, server, cell in rows:
            outcome = drive(server, requests[cell], connections, LATENCY_SECONDS)
            rate = outcome.requests / outcome.seconds
            spread = f"{outcome.quantile(0.5):9.2f}{outcome.quantile(0.99):9.2f}"
            print(f"{name:42}{connections:4}{rate:9.0f}{spread}", flush=True)


def drive(server: process.Running, request: bytes, connections: int, seconds: float) -> load.Outcome:
    outcome = load.run(server.port, request, connections=connections, seconds=seconds)
    if set(outcome.statuses) != {200}:
        raise SystemExit(f"{server.name} answered {dict(outcome.statuses)}")
    return outcome


if __name__ == "__main__":
    began = time.monotonic()
    result = main()
    print(f"\ntook {time.monotonic() - began:.0f} s")
    sys.exit(result)
