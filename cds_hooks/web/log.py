"""The log: one JSON object per line on standard error.

What goes into a line is chosen by who logs: names of routes and services, counts, timings. Never a body, an id, a
token, a query or a path, and so never the message of an unexpected exception either, which tends to quote them.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.typing import FilteringBoundLogger


def open_log(wanted: str, stream: BinaryIO | None = None) -> FilteringBoundLogger:
    """Return the logger for the setting `log`: "json" writes lines to the stream, "off" nothing."""
    level = "critical" if wanted == "off" else "info"
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stderr.buffer),
        processors=[
            _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    ).bind()
    return logger


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
