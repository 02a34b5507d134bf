"""When a breaker opens, what its trial may be, and when it closes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cds_hooks.chart.breaker import Breaker


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, rest_s=5, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.heard(well=False)


def test_it_opens_after_failures_in_a_row_only(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.heard(well=True)
    fail(breaker, 2)
    assert (breaker.state, breaker.lets_through()) == ("closed", True)
    fail(breaker, 1)
    assert (breaker.state, breaker.lets_through()) == ("open", False)


def test_a_trial_that_is_answered_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 4.9
    assert not breaker.lets_through()
    clock.now += 0.1
    assert (breaker.lets_through(), breaker.state) == (True, "half-open")
    breaker.heard(well=True)
    assert (breaker.lets_through(), breaker.state) == (True, "closed")
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_a_trial_that_fails_opens_it_for_another_rest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 5
    assert breaker.lets_through()
    clock.now += 2
    fail(breaker, 1)
    assert breaker.state == "open"
    clock.now += 4.9
    assert not breaker.lets_through()
    clock.now += 0.2
    assert breaker.lets_through()


def test_the_queries_of_one_call_are_one_trial(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 5
    assert [breaker.lets_through() for _ in range(18)] == [True] * 16 + [False] * 2
    clock.now += 0.2
    assert not breaker.lets_through()


def test_a_trial_that_is_never_heard_of_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 5
    assert breaker.lets_through()
    clock.now += 4.9
    assert not breaker.lets_through()
    clock.now += 0.1
    assert breaker.lets_through()


def test_late_failures_do_not_prolong_the_rest(breaker: Breaker, clock: Clock) -> None:
    """Requests that were on their way when it opened tell nothing new; a late success does."""
    fail(breaker, 3)
    clock.now += 4
    fail(breaker, 5)
    clock.now += 1
    assert breaker.lets_through()
    breaker.heard(well=False)
    breaker.heard(well=True)
    assert breaker.state == "closed"
