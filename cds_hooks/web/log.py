"""The log: one JSON object per line on standard error.

Lines for standard error are written a moment later, many at once: a call does not wait for the disk or for who reads
the other end of a pipe, which may hang.

What goes into a line is chosen by who logs: names of routes and services, counts, timings. Never a body, an id, a
token, a query or a path, and so never the message of an unexpected exception either, which tends to quote them.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

from cds_hooks.outbox import Outbox

#: Seconds until a line is written, at most, while it can be.
_FLUSH_S: Final = 0.05


def open_log(wanted: str, stream: BinaryIO | None = None) -> FilteringBoundLogger:
    """Return the logger for the setting `log`: "json" writes lines to the stream, "off" nothing."""
    level = "critical" if wanted == "off" else "info"
    lines = structlog.BytesLogger(stream) if stream is not None else _Later(sys.stderr.buffer)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        lines,
        processors=[
            _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    ).bind()
    return logger


class _Later:
    """Takes lines for a stream and has them written. Raises OSError when too many wait, as the stream would."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: Final = stream
        self._lines: Final = Outbox[bytes](self._write, "log", flush_s=_FLUSH_S)

    def msg(self, line: bytes) -> None:
        if self._lines.put((line,)):
            raise OSError("the log is full")

    debug = info = warning = error = critical = msg

    def _write(self, lines: Sequence[bytes]) -> None:
        self._stream.write(b"\n".join(lines) + b"\n")
        self._stream.flush()


def _line(_logger: object, level: str, event: MutableMapping[str, Any]) -> bytes:
    """Level, time and all else as JSON, in one step rather than three: each request logs a line."""
    return orjson.dumps({**event, "level": level, "time": datetime.now(UTC).isoformat().replace("+00:00", "Z")})


def frames(error: BaseException) -> list[str]:
    """Return types and places of an exception and its causes, without their messages."""
    told: list[str] = []
    link: BaseException | None = error
    while link is not None and len(told) < 200:
        told.append(type(link).__name__)
        told += [f"{at.filename}:{at.lineno} in {at.name}" for at in traceback.extract_tb(link.__traceback__)]
        link = link.__cause__ or link.__context__
    return told
