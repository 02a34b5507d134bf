"""kill -9 of a worker, or of everything, under a load of feedback: what was answered 200 is there, exactly once.

`CDS_CRASH_ROUNDS` says how many times; a few by default, `make crash` does 50. Clients here do what clients should:
whoever hears nothing, or 503, sends the same again.
"""

from __future__ import annotations

import http.client
import os
import sqlite3
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from an_instance import FEEDBACK, Server, feedback, serving

ROUNDS = int(os.environ.get("CDS_CRASH_ROUNDS", "4"))
CLIENTS = 6


class Load:
    """Clients that send feedback one after the other, each about a card of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self.answered: list[str] = []
        self.tries: Counter[str] = Counter()
        self.others: Counter[int] = Counter()
        self._threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _client(self) -> None:
        while not self._stop.is_set():
            card = str(uuid.uuid4())
            while not self._sent(card) and not self._stop.is_set():
                time.sleep(0.02)

    def _sent(self, card: str) -> bool:
        self.tries[card] += 1
        try:
            status, _ = self._server.post(FEEDBACK, feedback(card), timeout=10)
        except (OSError, http.client.HTTPException, ValueError):
            return False  # cut off; it may have been stored or not
        if status != 200:
            self.others[status] += 1
            return False
        self.answered.append(card)
        return True


@pytest.mark.timeout(120 + 20 * ROUNDS)
def test_no_feedback_is_lost_or_doubled(tmp_path: Path) -> None:
    killed = Counter[str]()
    with serving(tmp_path / "data") as server:
        with Load(server) as load:
            for number in range(ROUNDS):
                before = len(load.answered)
                until = time.monotonic() + 30
                while len(load.answered) < before + 20:  # in full flow again
                    assert time.monotonic() < until, f"no feedback is taken any more; {load.others}"
                    time.sleep(0.01)
                if number % 2:
                    server.kill()
                    server.start()
                else:
                    server.kill_worker()
                killed["service" if number % 2 else "worker"] += 1
        server.kill()
    connection = sqlite3.connect(tmp_path / "data" / "cds.db")
    stored = Counter(card for (card,) in connection.execute("SELECT card FROM feedback"))
    connection.close()
    lost = [card for card in load.answered if not stored[card]]
    doubled = [card for card, times in stored.items() if times > 1]
    unsure = sum(1 for times in load.tries.values() if times > 1)
    sys.stdout.write(
        f"\n{ROUNDS} times kill -9 ({dict(killed)}): {len(load.answered)} answered 200, {len(lost)} lost,"
        f" {len(doubled)} doubled; {unsure} sent more than once; other answers {dict(load.others)}\n"
    )
    assert (lost, doubled) == ([], [])
    assert set(stored) <= set(load.tries)
    assert set(load.others) <= {503}
    assert len(load.answered) >= 20 * ROUNDS
