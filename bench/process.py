"""Servers under test: started alike, watched through `/proc`, ended by their process id."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cds_hooks import serving

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Running:
    """A server process with its workers."""

    def __init__(self, name: str, pid: int, port: int) -> None:
        self.name, self.pid, self.port = name, pid, port

    def tree(self) -> list[int]:
        """Return the process ids of the server and all its descendants."""
        found, parents = [self.pid], _parents()
        for pid in found:  # grows while it is walked
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_seconds(self) -> float:
        """Return the processor time that the whole tree has used so far, ended children included."""
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in self.tree()) / TICKS_PER_SECOND

    def memory_mb(self, *, peak: bool = False) -> float:
        """Return the resident memory of the tree; pages that processes share count in each of them."""
        return sum(_status_kb(pid, "VmHWM" if peak else "VmRSS") for pid in self.tree()) / 1024

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def patient_view(self) -> tuple[str, dict[str, str]]:
        """Return the path of the patient-view service and its prefetch templates, from discovery."""
        services = json.loads(self.get("/cds-services")[1])["services"]
        service = next(service for service in services if service["hook"] == "patient-view")
        return f"/cds-services/{service['id']}", service.get("prefetch", {})


@contextlib.contextmanager
def bare(server: serving.Server) -> Iterator[Running]:
    """Run the bare application on a free port, just as `cds-hooks serve` runs the service."""
    port = free_port()
    argv = serving.command("bench.bare:create_app", "127.0.0.1", port, serving.WORKERS, serving.THREADS, server=server)
    with _running("bare", argv, port, server) as running:
        yield running


@contextlib.contextmanager
def ours(server: serving.Server) -> Iterator[Running]:
    """Run the service on a free port, with a data folder of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cds-hooks-bench-") as data:
        script = str(Path(sys.executable).with_name("cds-hooks"))
        argv = [script, "serve", "--host", "127.0.0.1", "--port", str(port), "--data", data]
        with _running("ours", argv, port, server) as running:
            yield running


@contextlib.contextmanager
def _running(name: str, argv: list[str], port: int, server: serving.Server) -> Iterator[Running]:
    environment = os.environ | {"CDS_WSGI_SERVER": server}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=log)
        running = Running(name, process.pid, port)
        try:
            _wait_until_ready(process, running)
            yield running
        except BaseException:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4000))
            sys.stderr.write(f"--- the end of what `{name}` logged\n{log.read().decode(errors='replace')}\n")
            raise
        finally:
            _end(process)


def _wait_until_ready(process: subprocess.Popen[bytes], running: Running) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"{running.name} ended with status {process.returncode} before it was ready")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if running.get("/health/ready")[0] == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{running.name} was not ready within {START_SECONDS} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        left = Running("", process.pid, 0).tree()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in left:  # the workers would outlive a killed parent
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/<pid>/stat` from the third on; nothing for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parents() -> dict[int, int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid: int(fields[1]) for pid in pids if (fields := _stat(pid))}


def _status_kb(pid: int, field: str) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0
