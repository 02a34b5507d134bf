"""The real server, as an operator starts it: `cds-hooks serve` with its workers, and HTTP to talk to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PLAN = "hemifacial-spasm"
#: When users said so: these servers run by the real clock, and heed what was said lately.
SAID = datetime.now(UTC).isoformat()
FEEDBACK = f"/cds-services/{PLAN}-patient-view/feedback"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One instance. All its processes are in a session of their own, so that they can be killed together."""

    def __init__(self, data: Path, config: Path | None = None, **environment: str) -> None:
        self.port = free_port()
        self._data, self._config, self._environment = data, config, environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        script = str(Path(sys.executable).with_name("cds-hooks"))
        argv = [script, "serve", "--port", str(self.port), "--data", str(self._data)]
        argv += ["--config", str(self._config)] if self._config else []
        log = (self._data / "log").open("ab")
        self._process = subprocess.Popen(argv, stderr=log, stdout=log, start_new_session=True,
                                         env=os.environ | self._environment)  # fmt: skip
        log.close()
        until = time.monotonic() + 60
        while self.status("/health/ready") != 200:
            if time.monotonic() > until or self._process.poll() is not None:
                raise AssertionError((self._data / "log").read_text()[-3000:])
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """Process ids of the workers: the children of the launcher."""
        assert self._process is not None
        found: list[int] = []
        for entry in Path(f"/proc/{self._process.pid}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, entry.read_text().split())
        return sorted(found)

    def kill_worker(self) -> None:
        """kill -9 of one worker, once there is one; the launcher replaces it."""
        until = time.monotonic() + 20
        while not (pids := self.workers()):
            assert time.monotonic() < until, "no worker came back"
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGKILL)

    def kill(self) -> None:
        """kill -9 of the launcher and all workers at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def stop(self) -> None:
        """Ask it to end, and see that it does."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            finally:
                self.kill()

    def post(self, path: str, body: Any, timeout: float = 20, **headers: str) -> tuple[int, Any]:
        """(status, JSON body) of a POST; raises OSError or HTTPException if no answer came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def status(self, path: str) -> int | None:
        """Status of a GET, None without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


@contextmanager
def serving(data: Path, config: Path | None = None, **environment: str) -> Iterator[Server]:
    """A running instance, killed in the end whatever happens."""
    data.mkdir(exist_ok=True)
    server = Server(data, config, **environment)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def feedback(card: str, outcome: str = "overridden", at: str = SAID) -> dict[str, Any]:
    item: dict[str, Any] = {"card": card, "outcome": outcome, "outcomeTimestamp": at}
    if outcome == "accepted":
        item["acceptedSuggestions"] = [{"id": card}]
    else:
        item["overrideReason"] = {"reason": {"code": "patient-refuses"}, "userComment": "a comment"}
    return {"feedback": [item]}
