"""The ring of keys: how often and how long a client's server is asked, and what holds while it is down."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from cds_hooks.trust.keys import DUE_EVERY, FORCED_EVERY, Found, KeyRing

FRESH, STALE = 300.0, 3600.0


@dataclass
class Source:
    """Where the keys are; counts how often it is asked. With a gate, it answers once that is opened."""

    keys: dict[str, str] | Exception | None = field(default_factory=lambda: {"k1": "one"})
    asked: int = 0
    gate: threading.Event | None = None
    most: int = 0
    now: int = 0

    def __call__(self) -> dict[str, str] | None:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        if self.gate is not None:
            self.gate.wait(10)
        self.now -= 1
        if isinstance(self.keys, Exception):
            raise self.keys
        return self.keys


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ring(source: Callable[[], Any], clock: Callable[[], float], wait_s: float = 5.0) -> KeyRing[str, str]:
    return KeyRing(source, fresh_s=FRESH, stale_s=STALE, wait_s=wait_s, clock=clock)


def test_fresh_keys_are_not_read_again(clock: Clock) -> None:
    source = Source()
    keys = ring(source, clock)
    for clock.now in (0.0, 1.0, FRESH - 1):
        assert keys.find("k1") == Found("one")
    assert source.asked == 1


def test_old_keys_are_read_again(clock: Clock) -> None:
    source = Source()
    keys = ring(source, clock)
    keys.find("k1")
    clock.now = FRESH
    source.keys = {"k1": "new"}
    assert keys.find("k1") == Found("new")
    source.keys = {}
    clock.now = 2 * FRESH
    assert keys.find("k1") == Found(None)  # withdrawn
    assert source.asked == 3


def test_an_unknown_key_is_asked_for_now_and_then(clock: Clock) -> None:
    source = Source()
    keys = ring(source, clock)
    keys.find("k1")
    for number in range(50):  # whoever asks, by whatever names
        clock.now = number / 2
        assert keys.find(f"x{number}") == Found(None)
    assert source.asked == 1
    source.keys = {"k1": "one", "k2": "two"}
    clock.now = FORCED_EVERY
    assert keys.find("k2") == Found("two")
    assert source.asked == 2
    assert keys.find("x") == Found(None)
    assert source.asked == 2


def test_while_the_server_is_down_old_keys_serve_for_a_time(clock: Clock) -> None:
    source = Source()
    keys = ring(source, clock)
    keys.find("k1")
    for source.keys in (None, OSError("down")):
        clock.now += FRESH
        assert keys.find("k1") == Found("one", stale=True)
    clock.now = STALE - 1
    assert keys.find("k1") == Found("one", stale=True)
    assert keys.find("k2") == Found(None, stale=True)
    clock.now = STALE
    assert keys.find("k1") == Found(None, available=False, stale=True)
    source.keys = {"k1": "back"}
    clock.now += DUE_EVERY
    assert keys.find("k1") == Found("back")


def test_a_server_that_is_down_is_not_asked_by_every_call(clock: Clock) -> None:
    source = Source(None)
    keys = ring(source, clock)
    for number in range(100):
        clock.now = number / 10
        assert keys.find("k1") == Found(None, available=False, stale=True)
    assert source.asked == 1
    clock.now = DUE_EVERY
    source.keys = {"k1": "one"}
    assert keys.find("k1") == Found("one")


def test_one_reading_at_a_time(clock: Clock) -> None:
    source = Source(gate=threading.Event())
    keys = ring(source, clock)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(keys.find, "k1") for _ in range(4)]
        time.sleep(0.1)
        assert source.gate is not None
        source.gate.set()
        assert [each.result() for each in asked] == [Found("one")] * 4
    assert (source.asked, source.most) == (1, 1)


def test_a_slow_server_holds_few_calls_and_not_for_long(clock: Clock) -> None:
    source = Source(gate=threading.Event())
    keys = ring(source, clock, wait_s=2.0)

    def timed(_: int) -> float:
        began = time.perf_counter()
        assert keys.find("k1") == Found(None, available=False, stale=True)
        return time.perf_counter() - began

    with ThreadPoolExecutor(20) as pool:
        took = sorted(pool.map(timed, range(20)))
    assert source.asked == 1
    assert sum(seconds < 1.0 for seconds in took) == 16  # did not wait
    assert 1.9 < took[-1] < 5.0
    assert source.gate is not None
    source.gate.set()
    for _ in range(1000):
        if keys.find("k1").key:
            break
        time.sleep(0.01)
    assert keys.find("k1") == Found("one")  # what comes late is still taken
    assert source.asked == 1


def test_a_slow_server_does_not_keep_known_keys_from_serving(clock: Clock) -> None:
    source = Source()
    keys = ring(source, clock, wait_s=5.0)
    keys.find("k1")
    source.gate = threading.Event()
    clock.now = FRESH - 1
    with ThreadPoolExecutor(20) as pool:
        strangers = [pool.submit(keys.find, f"x{number}") for number in range(20)]
        began = time.perf_counter()
        assert keys.find("k1") == Found("one")
        assert time.perf_counter() - began < 2.0
        source.gate.set()
        assert {each.result() for each in strangers} == {Found(None)}


def test_a_reading_that_hangs_is_waited_for_once(clock: Clock) -> None:
    """Resolving a name, for one, has no deadline."""
    source = Source()
    keys = ring(source, clock, wait_s=1.5)
    keys.find("k1")
    source.gate = threading.Event()
    clock.now = FRESH
    began = time.perf_counter()
    assert keys.find("k1") == Found("one", stale=True)
    assert time.perf_counter() - began > 1.4
    for clock.now in (FRESH + 1.6, FRESH + 20, FRESH + 200):
        began = time.perf_counter()
        assert keys.find("k1") == Found("one", stale=True)
        assert keys.find("k2") == Found(None, stale=True)
        assert time.perf_counter() - began < 1.0
    assert source.asked == 2
    source.gate.set()


def test_no_thread_to_be_had(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    keys = ring(source, clock)

    def full(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        assert keys.find("k1") == Found(None, available=False, stale=True)
    clock.now = DUE_EVERY
    assert keys.find("k1") == Found("one")


# --- Before anyone asks ---------------------------------------------------------------------------------------------


def test_a_burst_of_first_calls_finds_the_keys_of_a_warm_ring(clock: Clock) -> None:
    source = Source()
    keys = ring(source, clock)
    assert keys.warm().wait(5)
    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(lambda _: keys.find("k1"), range(200))) == {Found("one")}
    assert source.asked == 1
    assert keys.warm().is_set(), "what is known is not read again"
    assert source.asked == 1


def test_warming_does_not_wait_and_may_fail(clock: Clock) -> None:
    source = Source(gate=threading.Event())
    keys = ring(source, clock)
    reading = keys.warm()
    assert not reading.is_set()
    assert keys.warm() is reading, "one reading at a time"
    assert source.gate is not None
    source.keys = OSError()
    source.gate.set()
    assert reading.wait(5)
    assert keys.find("k1") == Found(None, available=False, stale=True)
    clock.now = DUE_EVERY
    source.keys = {"k1": "one"}
    assert keys.find("k1") == Found("one")
