"""What a worker does beside its calls goes on, whatever happens to it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from made_up import FakeService, call_body

from cds_hooks.settings import Server
from cds_hooks.web import pulse
from cds_hooks.web.metrics import Metrics
from cds_hooks.web.overdue import cut_overdue
from cds_hooks.web.places import Places
from cds_hooks.web.pulse import Pulse

PATH = "/cds-services/made-up-patient-view"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_EVERY_S", 0.01)


def until(true: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 5
    while not true() and time.monotonic() < ends:
        time.sleep(0.01)
    return true()


def test_calls_are_counted_without_a_scrape(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    beating: Pulse = app.extensions["cds_hooks.pulse"]
    app.test_client().post(PATH, json=call_body())
    assert len(beating._metrics._queue) == 1
    beating.start()
    assert until(lambda: not beating._metrics._queue)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyError("a bug")])
def test_a_beat_that_fails_is_not_the_last(error: Exception) -> None:
    class Broken(FakeService):
        beats = 0

        def breakers(self) -> dict[tuple[str, str], int]:
            self.beats += 1
            if self.beats < 3:
                raise error
            return {}

    service, metrics = Broken(), Metrics()
    Pulse(service, Places(1), metrics, Server()).start()
    assert until(lambda: service.beats > 5)
    assert b"cds_hooks_missed_beats_total 2.0" in metrics.scrape()


def test_only_what_is_late_is_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which requests are late; which connection is whose is tried with a real server."""
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr("cds_hooks.web.overdue._connections", lambda *where: asked.append(where) or ())
    places = Places(10)

    def take(address: str, seconds: float, *, reading: bool) -> Any:
        place = places.take({"REMOTE_ADDR": address, "SERVER_PORT": "8000"})
        assert place is not None
        place.since -= seconds
        place.reading = reading
        return place

    late = take("192.0.2.1", 6, reading=True)
    soon = take("192.0.2.2", 4, reading=True)
    works = take("192.0.2.3", 60, reading=False)
    assert cut_overdue(places, 5, 5) == 1
    assert (late.cut, soon.cut, works.cut) == (True, False, False)
    assert asked in ([("192.0.2.1", "8000")], [])  # none but on Linux
