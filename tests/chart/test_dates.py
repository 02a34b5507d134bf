"""Partial dates, zones and windows: an answer is given only if it holds for the whole span of a date."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cds_hooks.chart.dates import after, day, is_duration, shifted, span, span_of, whole_months, within

EAST = timezone(timedelta(hours=5))
NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
YEAR = {"value": 12, "code": "mo"}
WEEK = {"value": 7, "unit": "days"}
HOURS = {"value": 24, "code": "h"}
NONSENSE = [
    None, "", 5, True, [], ["2026"], {}, {"start": None}, {"start": 5}, "yesterday", "26-01-01", "2026-1-1", "2026-13",
    "2026-02-30", "0000", "2026-01-01T25:00", "2026-01-01T10", "2026-01-01 10:00", "2026-01-01T10:00:60Z",
    "2026-01-01\n", "2026-01-01T10:00+99:00", "x" * 20_000, "20260101",
]  # fmt: skip


def at(*parts: int, zone: Any = UTC) -> datetime:
    return datetime(*parts, tzinfo=zone)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026", at(2026, 1, 1), at(2026, 12, 31, 23, 59, 59)),
        ("2024-02", at(2024, 2, 1), at(2024, 2, 29, 23, 59, 59)),
        ("2026-03-04", at(2026, 3, 4), at(2026, 3, 4, 23, 59, 59)),
        ("2026-03-04T05:06", at(2026, 3, 4, 5, 6), at(2026, 3, 4, 5, 6, 59)),
        ("2026-03-04T05:06:07", at(2026, 3, 4, 5, 6, 7), at(2026, 3, 4, 5, 6, 7)),
        ("2026-03-04T05:06:07.891234Z", at(2026, 3, 4, 5, 6, 7), at(2026, 3, 4, 5, 6, 7)),
        ("2026-03-04T05:06:07+02:00", at(2026, 3, 4, 3, 6, 7), at(2026, 3, 4, 3, 6, 7)),
        ("9999-12-31T23:59", at(9999, 12, 31, 23, 59), at(9999, 12, 31, 23, 59, 59)),
    ],
)
def test_a_date_is_the_span_that_it_covers(text: str, first: datetime, last: datetime) -> None:
    assert span(text) == (first, last)


def test_a_date_without_zone_is_one_of_the_place() -> None:
    assert span("2026-03-04", EAST) == (at(2026, 3, 4, zone=EAST), at(2026, 3, 4, 23, 59, 59, zone=EAST))
    assert span("2026-03-04T01:00:00", EAST) == (at(2026, 3, 3, 20), at(2026, 3, 3, 20))
    assert span("2026-03-04T01:00:00Z", EAST) == (at(2026, 3, 4, 1), at(2026, 3, 4, 1))


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: repr(value)[:24])
def test_nonsense_is_no_date(value: Any) -> None:
    assert span_of(value) is None
    assert within(value, YEAR, NOW) is None
    assert after(value, "2026", UTC) is None
    assert after("2026", value, UTC) is None
    assert day(value) is None
    assert whole_months(value, NOW.date()) is None


# \d of a pattern takes the digits of every script.
@pytest.mark.parametrize("text", ["２０２６", "٢٠٢٦-٠١-٠١"])
def test_digits_of_other_scripts_are_no_date(text: str) -> None:
    assert span(text) is None
    assert day(text) is None


@pytest.mark.parametrize(
    ("period", "text"),
    [
        ({"start": "2026-01", "end": "2026-03"}, "2026-01"),
        ({"end": "2026-03"}, "2026-03"),
        ({"start": "soon", "end": "2026-03"}, "2026-03"),
    ],
)
def test_a_period_counts_from_its_start_else_from_its_end(period: dict[str, str], text: str) -> None:
    assert span_of(period) == span(text)
    assert day(period) == text


@pytest.mark.parametrize(
    ("moment", "amount", "unit", "moved"),
    [
        (at(2024, 2, 29), -1, "a", at(2023, 2, 28)),
        (at(2026, 3, 31), -1, "mo", at(2026, 2, 28)),
        (at(2026, 1, 15), -1, "months", at(2025, 12, 15)),
        (at(2025, 12, 15), 1, "month", at(2026, 1, 15)),
        (at(2026, 3, 1), -1, "wk", at(2026, 2, 22)),
        (at(2026, 3, 1), -1, "day", at(2026, 2, 28)),
        (at(2026, 3, 1, 0, 30), -1, "h", at(2026, 2, 28, 23, 30)),
        (at(2026, 3, 1), 90, "min", at(2026, 3, 1, 1, 30)),
    ],
)
def test_calendar_arithmetic(moment: datetime, amount: int, unit: str, moved: datetime) -> None:
    assert shifted(moment, amount, unit) == moved


def test_an_unknown_unit_is_an_error() -> None:
    with pytest.raises(ValueError, match="fortnight"):
        shifted(NOW, 1, "fortnight")


@pytest.mark.parametrize(
    ("value", "duration", "answer"),
    [
        # whole dates, a window of months
        ("2026-11-21", YEAR, True),
        ("2025-11-21", YEAR, True),
        ("2025-11-20", YEAR, False),
        # partial dates: the answer must hold for every day in them
        ("2026", YEAR, True),
        ("2025", YEAR, None),
        ("2025-11", YEAR, None),
        ("2025-10", YEAR, False),
        ("2024", YEAR, False),
        # days are calendar days: all of the seventh day counts, whatever the time of day is now
        ("2026-11-14", WEEK, True),
        ("2026-11-14T00:00:00Z", WEEK, True),
        ("2026-11-13T23:59:59Z", WEEK, False),
        ("2026-11", WEEK, None),
        # hours count by the clock; a day alone leaves the hour open
        ("2026-11-20T10:30:00Z", HOURS, True),
        ("2026-11-20T10:29:59Z", HOURS, False),
        ("2026-11-20T10:29", HOURS, False),
        ("2026-11-20", HOURS, None),
        ("2026-11-21", HOURS, True),
        ("2026-11-19", HOURS, False),
        # the future is no past; one day of grace for clocks and zones
        ("2026-11-22T10:30:00Z", WEEK, True),
        ("2026-11-22T10:30:01Z", WEEK, False),
        ("2026-11-23", WEEK, False),
        ("2027", YEAR, False),
        ("2999-01-01", YEAR, False),
        # a period
        ({"start": "2026-11-20", "end": "2026-11-21"}, WEEK, True),
        ({"start": "2020", "end": "2026-11-21"}, WEEK, False),
        # the ends of the calendar
        ("0001-01-01T00:00:00+14:00", YEAR, False),
        ("9999-12-31T23:59:59-14:00", YEAR, False),
    ],
)
def test_windows(value: Any, duration: dict[str, Any], answer: bool | None) -> None:
    assert within(value, duration, NOW) is answer


@pytest.mark.parametrize(("text", "answer"), [("2026-11-14T19:30:00Z", True), ("2026-11-14T18:59:59Z", False)])
def test_the_days_of_a_window_are_those_of_the_place(text: str, answer: bool) -> None:
    """In this zone the 15th begins at 19:00Z on the 14th."""
    assert within(text, {"value": 6, "code": "d"}, NOW.astimezone(EAST)) is answer


@pytest.mark.parametrize("zone", [UTC, EAST, ZoneInfo("Europe/Zurich")])
@pytest.mark.parametrize("hour", [0, 23])
@pytest.mark.parametrize("month", [2, 3, 10])
@pytest.mark.parametrize("duration", [YEAR, WEEK, {"value": 18, "code": "a"}, {"value": 0, "code": "d"}])
def test_a_plain_day_is_judged_like_a_period_that_begins_on_it(
    duration: dict[str, Any], month: int, hour: int, zone: Any
) -> None:
    now = datetime(2028, month, 29, hour, 59, tzinfo=zone)
    first = shifted(now, -duration["value"], duration.get("code") or duration["unit"]).date()
    for middle in (first, now.date()):
        for off in range(-4, 5):
            text = (middle + timedelta(days=off)).isoformat()
            assert within(text, duration, now) is within({"start": text}, duration, now), text


def test_a_window_across_the_change_of_clocks() -> None:
    now = datetime(2026, 3, 30, 9, tzinfo=ZoneInfo("Europe/Zurich"))
    assert within("2026-03-29T00:30:00+01:00", {"value": 1, "code": "d"}, now) is True
    assert within("2026-03-28T23:30:00+01:00", {"value": 1, "code": "d"}, now) is False


@pytest.mark.parametrize(
    ("one", "two", "answer"),
    [
        ("2026-02", "2026-01", True),
        ("2026-01", "2026-02", False),
        ("2026-01", "2026-01", None),
        ("2026-01-15", "2026-01", None),
        ("2026", "2026-01-01T00:00:00Z", None),
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z", False),
        ("2026-01-01T10:00:00Z", "2026-01-01T12:30:00+05:00", True),
        ({"start": "2026-03"}, {"start": "2026-01"}, True),
    ],
)
def test_after(one: Any, two: Any, answer: bool | None) -> None:
    assert after(one, two) is answer


@pytest.mark.parametrize(
    ("value", "months"),
    [("2026-08-21", 3), ("2026-08-22", 2), ("2026-11-21", 0), ("2025-11", 12), ("2024-02-29T23:00:00Z", 32)],
)
def test_completed_months(value: str, months: int) -> None:
    assert whole_months(value, date(2026, 11, 21)) == months


# A date of tomorrow counts as past for zones that are ahead; no card may say "-1 months ago".
def test_completed_months_are_never_negative() -> None:
    assert whole_months("2026-11-22", date(2026, 11, 21)) in (0, None)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (YEAR, True),
        (WEEK, True),
        ({"value": 1.5, "code": "mo"}, False),
        ({"value": "1", "code": "mo"}, False),
        ({"value": 1, "code": "fortnight"}, False),
        ({"value": 1}, False),
        ({}, False),
        ("P1Y", False),
    ],
)
def test_which_durations_are_understood(value: Any, answer: bool) -> None:
    assert is_duration(value) is answer
