"""The log: one JSON object per line on standard error.

Lines for standard error are written a moment later, many at once: a call does not wait for the disk or for who reads
the other end of a pipe, which may hang.

What goes into a line is chosen by who logs: names of routes and services, counts, timings. Never a body, an id, a
token, a query or a path, and so never the message of an unexpected exception either, which tends to quote them.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import orjson

from cds_hooks.outbox import Outbox

#: Seconds until a line is written, at most, while it can be.
_FLUSH_S: Final = 0.05
#: Milliseconds to wait for a pipe that is full; also when the process ends, so it does not end much later for that.
_PATIENCE_MS: Final = 500
#: Frames of a trace that are told: the first and the last. A recursion has a thousand, and lines wait in memory.
_FIRST, _LAST = 20, 30


class Log:
    """Makes lines. One that cannot be written is told to `lost`; no caller has to care."""

    def __init__(self, write: Callable[[bytes], object] | None, lost: Callable[[], None]) -> None:
        """`write` takes one line with its end, and may raise OSError or ValueError. None: nothing is logged."""
        self._write: Final = write
        self._lost: Final = lost

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
        if self._write is None:
            return
        line = {**facts, "event": event, "level": level, "time": datetime.now(UTC)}
        try:  # whatever becomes of the line, the answer is sent
            self._write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        except (OSError, ValueError, TypeError):  # a full queue, a closed stream, a fact that is no JSON
            self._lost()


def open_log(wanted: str, lost: Callable[[], None], stream: BinaryIO | None = None) -> Log:
    """Return the log for the setting `log`: "json" writes lines to the stream (none: standard error), "off" nothing."""
    if wanted == "off":
        return Log(None, lost)
    if stream is None:
        with suppress(OSError):  # no descriptor, when somebody captures what is written
            return Log(Later(sys.stderr.fileno()).write, lost)
        stream = sys.stderr.buffer
    return Log(stream.write, lost)


class Later:
    """Takes lines for a descriptor and has them written, without ever waiting long for it.

    Several processes share one pipe: PIPE_BUF bytes that are written at once stay together there (POSIX, write), and
    there is room for them once the pipe is said to be writable.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: Final = descriptor
        self._ready: Final = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._rest = b""  # of a line that was begun
        self._lines: Final = Outbox[bytes](self._flush, "log", flush_s=_FLUSH_S)

    def write(self, line: bytes) -> None:
        """Raises OSError when too many wait, as the descriptor would."""
        if self._lines.put((line,)):
            raise OSError("the log is full")

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits and can be written."""
        self._lines.close(timeout)

    def _flush(self, lines: Sequence[bytes]) -> int:
        """Write lines; how many. Of one that could be written in part the rest is kept."""
        done = 0
        try:
            while self._rest or done < len(lines):
                if not self._ready.poll(_PATIENCE_MS):
                    break
                if self._rest:
                    self._rest = self._rest[os.write(self._descriptor, self._rest[: select.PIPE_BUF]) :]
                    continue
                some = _piece(lines, done)
                left = os.write(self._descriptor, b"".join(some)[: select.PIPE_BUF])
                for line in some:
                    if left <= 0:
                        break
                    done, self._rest, left = done + 1, line[left:], left - len(line)
        except OSError:  # tried again with what is left
            pass
        return done


def _piece(lines: Sequence[bytes], start: int) -> Sequence[bytes]:
    """The lines from `start` on that are written at once: one at least, then as many as fit."""
    end, size = start + 1, len(lines[start])
    while end < len(lines) and size + len(lines[end]) <= select.PIPE_BUF:
        size += len(lines[end])
        end += 1
    return lines[start:end]


def frames(error: BaseException) -> list[str]:
    """Return types and places of an exception and its causes, without their messages; of many the first and last."""
    told: list[str] = []
    link: BaseException | None = error
    while link is not None and len(told) < 200:
        told.append(type(link).__name__)
        told += [f"{at.filename}:{at.lineno} in {at.name}" for at in traceback.extract_tb(link.__traceback__)]
        link = link.__cause__ or link.__context__
    return told if len(told) <= _FIRST + _LAST else [*told[:_FIRST], "...", *told[-_LAST:]]
