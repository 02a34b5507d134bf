"""The production server: which command starts a WSGI application, and with which limits.

One answer for everyone who starts a server (`cds-hooks serve`, the benchmark), so that what is measured is what runs.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Literal, get_args

from cds_hooks.errors import ContentError

Server = Literal["granian", "gunicorn"]

#: Processes. Two keep the service answering while one is busy with a large chart or is being replaced.
WORKERS = 2
#: Requests with a body that a process works on at once, each in a thread. Most of a call's time may be waiting, for
#: an EHR or for the rest of its body, so there are far more than processors; idle ones cost next to nothing.
THREADS = 64
#: Threads beyond these: whatever the calls do, a process answers whether it is well, and refuses what is too much.
SPARE = 8
#: Connections that may wait to be accepted.
BACKLOG = 1024
#: Seconds an idle connection stays open: longer than common proxies keep theirs, so that they close first.
KEEP_ALIVE = 75
#: Seconds for calls in progress to end after a request to stop. Longer than the deadline of a call, and shorter than
#: the 10 seconds after which `docker stop` kills.
GRACE = 8
#: Seconds for the headers of a request to arrive, and for which an idle connection stays open (granian).
HEADERS = 30


def chosen() -> Server:
    """Return the server to use: `CDS_WSGI_SERVER`, else granian. Raise ContentError for an unknown name."""
    name = os.environ.get("CDS_WSGI_SERVER", "granian")
    for known in get_args(Server):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ContentError("environment", "CDS_WSGI_SERVER", f"must be one of {', '.join(get_args(Server))}")


def check_port(host: str, port: int) -> None:
    """Raise ContentError if nobody can listen there. Servers that share a port would each get some of the calls."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that just ended is no hindrance
            probe.bind(address)
    except OSError as error:
        raise ContentError(f"{host}:{port}", "", f"cannot listen here: {error.strerror or error}") from None


def counters_folder(data: Path, port: int) -> Path:
    """Return an empty folder in which the workers share their counters; what a former server left is removed."""
    folder = data / f"counters-{port}"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise ContentError(str(data), "", f"cannot write here (--data): {error.strerror or error}") from None
    return folder


def command(
    target: str, host: str, port: int, workers: int = WORKERS, threads: int = THREADS, *, server: Server | None = None
) -> list[str]:
    """Return the argv that serves the application which the factory `target` ("module:callable") makes.

    The factory is called without arguments, once in each worker process.
    """
    name = server or chosen()
    if importlib.util.find_spec(name) is None:
        raise ContentError("environment", "CDS_WSGI_SERVER", f"{name} is not installed; it comes with the extra `dev`")
    argv = _granian if name == "granian" else _gunicorn
    return [sys.executable, "-m", name, *argv(target, host, port, workers, threads)]


def _granian(target: str, host: str, port: int, workers: int, threads: int) -> list[str]:
    return [
        "--interface=wsgi",
        "--factory",
        f"--host={host}",
        f"--port={port}",
        f"--workers={workers}",
        f"--blocking-threads={threads + SPARE}",
        f"--backlog={BACKLOG}",
        # `--backpressure` stays at its default: it counts open connections, idle ones too, so a number near that of
        # the threads would let a few idle clients lock out everyone else.
        "--http=1",
        f"--http1-header-read-timeout={HEADERS * 1000}",
        "--no-ws",
        "--loop=asyncio",
        "--runtime-mode=st",
        "--respawn-failed-workers",
        f"--workers-kill-timeout={GRACE}",
        "--log-level=error",  # its warnings are advice on the number of threads, at each start
        "--no-access-log",
        target,
    ]


def _gunicorn(target: str, host: str, port: int, workers: int, threads: int) -> list[str]:
    address = f"[{host}]" if ":" in host else host
    memory = Path("/dev/shm")  # noqa: S108 - the heartbeat file of a worker; on a disk it can block the worker
    return [
        "--worker-class=gthread",  # never `sync`: one slow EHR would hold a whole worker
        f"--bind={address}:{port}",
        f"--workers={workers}",
        f"--threads={threads + SPARE}",
        f"--backlog={BACKLOG}",
        f"--keep-alive={KEEP_ALIVE}",
        "--timeout=30",
        f"--graceful-timeout={GRACE}",
        "--no-control-socket",  # it would let every process of the same user stop the server
        *([f"--worker-tmp-dir={memory}"] if os.access(memory, os.W_OK) else []),
        "--log-level=warning",
        f"{target}()",
    ]
