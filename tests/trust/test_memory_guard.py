"""The replay guard in memory: once for each token, from any thread, and never more than it may hold."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cds_hooks.trust.replay import MemoryGuard


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_token_is_good_once(clock: Clock) -> None:
    guard = MemoryGuard(clock=clock)
    assert guard.first_use("https://a", "1", 2000.0)
    assert not guard.first_use("https://a", "1", 2000.0)
    assert not guard.first_use("https://a", "1", 9000.0)


@pytest.mark.parametrize("other", [("https://a", "2"), ("https://b", "1"), ("https://a1", ""), ("", "https://a1")])
def test_another_token_or_issuer_is_another(clock: Clock, other: tuple[str, str]) -> None:
    guard = MemoryGuard(clock=clock)
    assert guard.first_use("https://a", "1", 2000.0)
    assert guard.first_use(*other, 2000.0)


def test_it_forgets_what_has_expired_and_not_before(clock: Clock) -> None:
    guard = MemoryGuard(clock=clock)
    assert guard.first_use("i", "short", 1010.0)
    assert guard.first_use("i", "long", 5000.0)
    clock.now = 1009.9
    assert not guard.first_use("i", "short", 1010.0)
    clock.now = 1010.0
    assert guard.first_use("i", "other", 1200.0)
    assert len(guard) == 2
    assert not guard.first_use("i", "long", 5000.0)


def test_it_holds_no_more_than_it_may(clock: Clock) -> None:
    guard = MemoryGuard(capacity=100, clock=clock)
    for number in range(1000):
        assert guard.first_use("i", str(number), 2000.0 + number)
    assert len(guard) == 100
    assert not guard.first_use("i", "999", 2999.0)
    assert guard.first_use("i", "0", 2000.0)  # forgotten before its time: that is the price


def test_of_many_threads_one_is_first() -> None:
    guard = MemoryGuard()
    tokens = [str(number % 200) for number in range(1600)]
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda jti: guard.first_use("i", jti, 4e9), tokens))
    assert sum(first) == 200


def test_words_that_no_encoding_takes(clock: Clock) -> None:
    guard = MemoryGuard(clock=clock)
    assert guard.first_use("i", "\ud800", 2000.0)
    assert not guard.first_use("i", "\ud800", 2000.0)
