"""FHIR dates of any precision, compared three-valued: a partial date may leave a question open.

A FHIR `date`, `dateTime` or `instant` covers the span from its first to its last moment ("2026-03" is a month).
Questions are answered True or False only if they hold for the whole span, else None.
"""

from __future__ import annotations

import calendar
import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final

_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_UNITS: Final = {  # UCUM codes and the calendar words of FHIR Duration / FHIRPath
    "a": "year", "year": "year", "years": "year", "mo": "month", "month": "month", "months": "month",
    "wk": "week", "week": "week", "weeks": "week", "d": "day", "day": "day", "days": "day",
    "h": "hour", "hour": "hour", "hours": "hour", "min": "minute", "minute": "minute", "minutes": "minute",
}  # fmt: skip
_A_DAY: Final = len("2026-11-21")
Span = tuple[datetime, datetime]


def span(value: Any, zone: tzinfo = UTC) -> Span | None:
    """First and last moment of a FHIR date string; None when it is no valid date. Dates without zone are in `zone`."""
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second, offset = match.groups()
    try:
        if hour is not None:
            stamp = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}"
            start = datetime.fromisoformat(stamp + (offset or "").replace("Z", "+00:00"))
            start = start if start.tzinfo else start.replace(tzinfo=zone)
            return start, start + timedelta(seconds=0 if second else 59)
        first = datetime(int(year), int(month or 1), int(day or 1), tzinfo=zone)
        last_month = int(month or 12)
        last_day = int(day or calendar.monthrange(int(year), last_month)[1])
        return first, datetime(int(year), last_month, last_day, 23, 59, 59, tzinfo=zone)
    except (ValueError, OverflowError):
        return None


def span_of(value: Any, zone: tzinfo = UTC) -> Span | None:
    """The span of a FHIR date or of a Period (its start, else its end)."""
    if isinstance(value, dict):
        return span(value.get("start"), zone) or span(value.get("end"), zone)
    return span(value, zone)


def shifted(moment: datetime, amount: int, unit: str) -> datetime:
    """`moment` moved by `amount` calendar units (negative: back). Raises ValueError for an unknown unit."""
    word = _UNITS.get(unit)
    if word is None:
        raise ValueError(f"unknown unit of time: {unit}")
    if word in ("year", "month"):
        months = moment.year * 12 + moment.month - 1 + amount * (12 if word == "year" else 1)
        year, month = months // 12, months % 12 + 1
        return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))
    return moment + timedelta(**{word + "s": amount})


def is_duration(value: Any) -> bool:
    """Whether this is a FHIR Duration that `within` understands: a whole number and a known unit, within reason."""
    if not isinstance(value, dict) or not isinstance(value.get("value"), int):
        return False
    try:
        shifted(datetime(2000, 1, 1, tzinfo=UTC), -value["value"], str(value.get("code") or value.get("unit")))
    except (ValueError, OverflowError):
        return False
    return True


def cutoff(duration: dict[str, Any], now: datetime) -> datetime:
    """The first moment of the last `duration` before `now`; see `within`."""
    amount, unit = duration["value"], duration.get("code") or duration["unit"]
    days = _days(amount, unit, now.date())
    if days is None:
        return shifted(now, -amount, unit)
    return datetime(days[0].year, days[0].month, days[0].day, tzinfo=now.tzinfo)


def within(value: Any, duration: dict[str, Any], now: datetime) -> bool | None:
    """Whether a date lies in the last `duration` before `now`; None if a partial date leaves it open.

    Windows of days and more count calendar days (a window of 7 days includes the whole seventh day); windows of
    hours count the clock. A date more than a day ahead of `now` is no past date: False.
    """
    zone = now.tzinfo or UTC
    if isinstance(value, str) and len(value) == _A_DAY and value[4] == value[7] == "-":
        days = _days(duration["value"], duration.get("code") or duration["unit"], now.date())
        if days is not None:
            with suppress(ValueError):  # no day of the calendar: the long way finds that too
                return days[0] <= date.fromisoformat(value) <= days[1]
    found = span_of(value, zone)
    if found is None:
        return None
    first = cutoff(duration, now)
    low, high = found
    if low > now + timedelta(days=1) or high < first:
        return False
    return True if low >= first else None


@lru_cache(maxsize=1000)
def _days(amount: int, unit: str, today: date) -> tuple[date, date] | None:
    """First and last day of a window that counts calendar days, None if it counts the clock."""
    if _UNITS[unit] in ("hour", "minute"):
        return None
    first = shifted(datetime(today.year, today.month, today.day, tzinfo=UTC), -amount, unit)
    return first.date(), today + timedelta(days=1)


def after(value: Any, other: Any, zone: tzinfo = UTC) -> bool | None:
    """Whether the first date lies after the second; None if their spans overlap or one is no date."""
    one, two = span_of(value, zone), span_of(other, zone)
    if one is None or two is None:
        return None
    if one[0] > two[1]:
        return True
    return False if one[1] <= two[0] else None


def day(value: Any) -> str | None:
    """The date part (`yyyy-mm-dd`, or less if less is known) of a FHIR date or Period."""
    if isinstance(value, dict):
        return day(value.get("start")) or day(value.get("end"))
    return value[:10] if span(value) else None


def whole_months(value: Any, today: date) -> int | None:
    """Completed months from a date to today; None if unknown or yet to come."""
    found = span_of(value)
    if found is None:
        return None
    start = found[0].date()
    months = (today.year - start.year) * 12 + today.month - start.month - (today.day < start.day)
    return months if months >= 0 else None
