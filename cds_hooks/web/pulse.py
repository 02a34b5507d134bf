"""What a worker does beside its calls, twice a second: counts them, says how it stands, ends what takes too long."""

from __future__ import annotations

import atexit
import threading
from contextlib import suppress
from typing import Final

from cds_hooks.settings import Server
from cds_hooks.web.metrics import Metrics
from cds_hooks.web.overdue import cut_overdue
from cds_hooks.web.places import Places
from cds_hooks.web.port import Service

_EVERY_S: Final = 0.5


class Pulse:
    """Does it once with `beat`; with `start` in a thread, for as long as the process lives."""

    def __init__(self, service: Service, places: Places, metrics: Metrics, limits: Server) -> None:
        self._service = service
        self._places = places
        self._metrics = metrics
        self._body_s = limits.body_ms / 1000
        self._call_s = limits.deadline_ms / 1000

    def beat(self) -> None:
        """Do all of it once."""
        cut_overdue(self._places, self._body_s, self._call_s)
        self._metrics.standing(self._places.taken, self._service.breakers())
        self._metrics.count()

    def start(self) -> None:
        """Go on doing it. What was counted last is not lost when the process ends in order."""
        atexit.register(self._metrics.count)
        threading.Thread(target=self._go_on, name="pulse", daemon=True).start()

    def _go_on(self) -> None:
        pause = threading.Event()
        while not pause.wait(_EVERY_S):
            try:
                self.beat()
            except Exception:  # a full disk, a folder of counters that is gone: whatever it is, the next beat must come
                with suppress(Exception):
                    self._metrics.missed_beat()
