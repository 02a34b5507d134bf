"""The FHIR servers that this process talks to: for each a circuit breaker, and threads of its own.

A server that hangs can hold its own threads only. So the number of threads is also the limit of requests that are
under way to one server at the same time, and a server that is down costs the calls of others nothing.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from cds_hooks.chart.breaker import Breaker

#: Servers remembered at the same time. More than any site has; the name of one may come from a caller.
MOST: Final = 64


@dataclass(frozen=True, slots=True)
class Peer:
    """One FHIR server: its name in the settings ("other" for one that is not there), its breaker, its threads."""

    name: str
    breaker: Breaker
    pool: ThreadPoolExecutor


class Peers:
    """All FHIR servers by base URL; the one that was longest not used is forgotten first. Safe with many threads."""

    def __init__(
        self,
        *,
        connections: int = 64,
        failures: int = 20,
        rest_s: float = 5.0,
        name: Callable[[str], str] = lambda base: "other",
    ) -> None:
        """Set requests at the same time per server, failures in a row that open a breaker, seconds until a trial."""
        self._connections = connections
        self._failures = failures
        self._rest_s = rest_s
        self._name = name
        self._lock = threading.Lock()
        self._peers: OrderedDict[str, Peer] = OrderedDict()

    def of(self, base: str) -> Peer:
        """The server of a base URL, made when first asked for."""
        with self._lock:
            peer = self._peers.get(base)
            if peer is None:
                breaker = Breaker(failures=self._failures, rest_s=self._rest_s)
                peer = Peer(self._name(base), breaker, ThreadPoolExecutor(self._connections, "fhir"))
                self._peers[base] = peer
                if len(self._peers) > MOST:
                    # Not shut down: a call may be about to use it. Its threads end when nobody holds it any more.
                    self._peers.popitem(last=False)
            else:
                self._peers.move_to_end(base)
            return peer

    def states(self) -> Counter[tuple[str, str]]:
        """How many breakers of which name stand how."""
        with self._lock:
            return Counter((peer.name, peer.breaker.state) for peer in self._peers.values())

    def close(self) -> None:
        """Let the threads go; requests under way end by themselves."""
        with self._lock:
            for peer in self._peers.values():
                peer.pool.shutdown(wait=False, cancel_futures=True)
            self._peers.clear()
