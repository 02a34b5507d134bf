"""The production server: which command starts a WSGI application, and with which limits.

One answer for everyone who starts a server (`cds-hooks serve`, the benchmark), so that what is measured is what runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal, get_args

Server = Literal["granian", "gunicorn"]

#: Processes. Two keep the service answering while one is busy with a large chart or is being replaced.
WORKERS = 2
#: Threads per process. Most of a call's time may be waiting for an EHR, so there are more than processors.
THREADS = 16
#: Connections that may wait to be accepted.
BACKLOG = 1024
#: Seconds an idle connection stays open: longer than common proxies keep theirs, so that they close first.
KEEP_ALIVE = 75
#: Seconds for calls in progress to end after a request to stop; longer than the deadline of any call.
GRACE = 15


def chosen() -> Server:
    """Return the server to use: `CDS_WSGI_SERVER`, else granian. Raise ValueError for an unknown name."""
    name = os.environ.get("CDS_WSGI_SERVER", "granian")
    for known in get_args(Server):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"CDS_WSGI_SERVER must be one of {', '.join(get_args(Server))}")


def command(
    target: str, host: str, port: int, workers: int = WORKERS, threads: int = THREADS, *, server: Server | None = None
) -> list[str]:
    """Return the argv that serves the application which the factory `target` ("module:callable") makes.

    The factory is called without arguments, once in each worker process.
    """
    name = server or chosen()
    argv = _granian if name == "granian" else _gunicorn
    return [sys.executable, "-m", name, *argv(target, host, port, workers, threads)]


def _granian(target: str, host: str, port: int, workers: int, threads: int) -> list[str]:
    return [
        "--interface=wsgi",
        "--factory",
        f"--host={host}",
        f"--port={port}",
        f"--workers={workers}",
        f"--blocking-threads={threads}",
        f"--backlog={BACKLOG}",
        # `--backpressure` stays at its default: it counts open connections, idle ones too, so a number near that of
        # the threads would let a few idle clients lock out everyone else.
        "--http=1",
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
        f"--threads={threads}",
        f"--backlog={BACKLOG}",
        f"--keep-alive={KEEP_ALIVE}",
        "--timeout=30",
        f"--graceful-timeout={GRACE}",
        "--no-control-socket",  # it would let every process of the same user stop the server
        *([f"--worker-tmp-dir={memory}"] if os.access(memory, os.W_OK) else []),
        "--log-level=warning",
        f"{target}()",
    ]
