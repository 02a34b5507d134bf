"""Bodies that do not arrive in time: their connections are cut, which ends the wait of the thread that reads.

No WSGI server of ours bounds the time of a body. granian reads it in Rust, without a limit, and the thread that waits
cannot be told to stop; nor does it say which connection is whose. But the connections of this process can be looked at
from below (Linux): one from the same address, on which nothing was sent for longer than a body may take, is either the
slow one or idle, and to close an idle connection is always allowed (RFC 9112 section 9.5).
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cds_hooks.web.places import Place, Places

#: Offset in struct tcp_info (linux/tcp.h): tcpi_last_data_sent, tcpi_last_ack_sent, tcpi_last_data_recv; ms, u32.
_SENT_AND_HEARD: Final = struct.Struct("=44xI4xI")
#: After so many times the limit a body is cut off even if that may hit another request of the same client.
_PATIENCE: Final = 3


def cut_overdue(places: Places, limit_s: float, call_s: float) -> int:
    """Cut the connections whose body is late, by the seconds that a body and a call may take; tell how many are late.

    Nothing is cut but on Linux.
    """
    now, taken = time.monotonic(), places.all()
    late = [place for place in taken if place.reading and now - place.since > limit_s]
    if late and sys.platform == "linux":
        for address, port in {(place.address, place.port) for place in late}:
            here = [place for place in taken if (place.address, place.port) == (address, port)]
            _cut(here, address, port, limit_s, call_s, now)
    return len(late)


def _cut(here: list[Place], address: str, port: str, limit_s: float, call_s: float, now: float) -> None:
    late = [place for place in here if place.reading and now - place.since > limit_s]
    alone = len(late) == len(here) or any(now - place.since > _PATIENCE * limit_s for place in late)
    for place in late:
        place.cut = True
    for connection in _connections(address, port):
        # A request that is being worked on was heard since a call may take that long. So is a body that drips in: it
        # is cut off only when no other request of this client is there that could be hit.
        if connection.sent_s >= limit_s and (connection.heard_s >= max(limit_s, call_s) or alone):
            connection.cut()


@dataclass(frozen=True, slots=True)
class _Connection:
    """A connection of this process: seconds since something was last sent on it, and received."""

    socket: socket.socket
    sent_s: float
    heard_s: float

    def cut(self) -> None:
        with contextlib.suppress(OSError):  # it may have ended by itself
            self.socket.shutdown(socket.SHUT_RD)  # whoever reads finds its end; an answer can still be sent


def _connections(address: str, port: str) -> Iterator[_Connection]:
    """The connections that came in at a port from an address. Each is looked at through a descriptor of its own."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.stat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
                    continue
                if str(found.getsockname()[1]) != port or found.getpeername()[0] != address:
                    continue
                info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                sent, heard = _SENT_AND_HEARD.unpack_from(info)
                yield _Connection(found, sent / 1000, heard / 1000)
        except OSError:
            continue  # not a socket, or gone
