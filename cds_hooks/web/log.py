"""The log: one JSON object per line on standard error.

Lines for standard error are written a moment later, many at once: a call does not wait for the disk or for who reads
the other end of a pipe, which may hang.

What goes into a line is chosen by who logs: names of routes and services, counts, timings. Never a body, an id, a
token, a query or a path, and so never the message of an unexpected exception either, which tends to quote them.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import orjson

from cds_hooks.outbox import Outbox

#: Seconds until a line is written, at most, while it can be.
_FLUSH_S: Final = 0.05


class Log:
    """Makes lines. Raises OSError or ValueError when a line cannot be written: the stream is full, broken or closed."""

    def __init__(self, write: Callable[[bytes], object] | None) -> None:
        """`write` takes one line with its end; None: nothing is logged."""
        self._write: Final = write

    def info(self, event: str, facts: Mapping[str, Any]) -> None:
        """What happens all the time."""
        self._say("info", event, facts)

    def warning(self, event: str, facts: Mapping[str, Any]) -> None:
        """What somebody should look at."""
        self._say("warning", event, facts)

    def error(self, event: str, facts: Mapping[str, Any]) -> None:
        """What must not happen."""
        self._say("error", event, facts)

    def _say(self, level: str, event: str, facts: Mapping[str, Any]) -> None:
        if self._write is not None:
            line = {**facts, "event": event, "level": level, "time": datetime.now(UTC)}
            self._write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))


def open_log(wanted: str, stream: BinaryIO | None = None) -> Log:
    """Return the log for the setting `log`: "json" writes lines to the stream (none: standard error), "off" nothing."""
    if wanted == "off":
        return Log(None)
    return Log(_Later(sys.stderr.buffer).write if stream is None else stream.write)


class _Later:
    """Takes lines for a stream and has them written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: Final = stream
        self._lines: Final = Outbox[bytes](self._flush, "log", flush_s=_FLUSH_S)

    def write(self, line: bytes) -> None:
        """Raises OSError when too many wait, as the stream would."""
        if self._lines.put((line,)):
            raise OSError("the log is full")

    def _flush(self, lines: Sequence[bytes]) -> None:
        self._stream.write(b"".join(lines))
        self._stream.flush()


def frames(error: BaseException) -> list[str]:
    """Return types and places of an exception and its causes, without their messages."""
    told: list[str] = []
    link: BaseException | None = error
    while link is not None and len(told) < 200:
        told.append(type(link).__name__)
        told += [f"{at.filename}:{at.lineno} in {at.name}" for at in traceback.extract_tb(link.__traceback__)]
        link = link.__cause__ or link.__context__
    return told
