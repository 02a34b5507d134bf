"""From counts to the rows of the report. What few answers cannot tell, the report does not say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import sqrt
from typing import Final

from cds_hooks.loading import Loaded
from cds_hooks.store.tally import Counted

#: Normal deviate of a two-sided interval of 95 %.
_Z: Final = 1.96
NO_REASON: Final = "no reason, or one of the client's own"


@dataclass(slots=True)
class Row:
    """One topic of one version of a plan."""

    plan: str
    version: str
    #: First digits of the digests of the content; with the name of the site's layer, if there was one.
    content: str
    topic: str
    title: str
    #: Percentage of overrides that the plan wants to stay below, None if it names none.
    target: int | None
    accepted: int = 0
    overridden: int = 0
    ignored: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def edition(self) -> tuple[str, str, str]:
        """What made the cards: plan, version, content."""
        return self.plan, self.version, self.content

    @property
    def issued(self) -> int:
        return self.accepted + self.overridden + self.ignored

    @property
    def answered(self) -> int:
        return self.accepted + self.overridden

    @property
    def rate(self) -> float | None:
        """Percentage of overrides among the answered cards; None without any."""
        return 100 * self.overridden / self.answered if self.answered else None

    @property
    def span(self) -> tuple[float, float]:
        """Where the rate lies with 95 % confidence (Wilson's interval), in percent; 0 to 100 without answers."""
        n = self.answered
        if not n:
            return 0.0, 100.0
        p = self.overridden / n
        middle = (p + _Z * _Z / (2 * n)) / (1 + _Z * _Z / n)
        half = _Z * sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n)) / (1 + _Z * _Z / n)
        return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))

    @property
    def verdict(self) -> str:
        """Whether the target is met: below, above, open (too few answers to tell), or no target."""
        if self.target is None:
            return "no target"
        low, high = self.span
        if high < self.target:
            return "below"
        return "above" if low >= self.target else "open"


def figures(counts: Iterable[Counted], plans: Iterable[Loaded]) -> list[Row]:
    """The rows by plan and version, what was in use last first; topics in the order of the plan's rules."""
    known = {loaded.plan.id: loaded for loaded in plans}
    rows: dict[tuple[str, str, str, str], Row] = {}
    last: dict[tuple[str, str, str], datetime] = {}
    for one in counts:
        content = one.content[:12] + (f" {one.site}" if one.site else "")
        key = (one.plan, one.version, content, one.topic)
        row = rows.get(key)
        if row is None:
            rows[key] = row = _row(*key, known.get(one.plan))
        last[row.edition] = max(one.last, last.get(row.edition, one.last))
        if one.outcome == "accepted":
            row.accepted += one.cards
        elif one.outcome == "overridden":
            row.overridden += one.cards
            name = _reason(one, known.get(one.plan))
            row.reasons[name] = row.reasons.get(name, 0) + one.cards
        else:
            row.ignored += one.cards
    for row in rows.values():
        row.reasons = dict(sorted(row.reasons.items(), key=lambda pair: (-pair[1], pair[0])))
    places = _places(known)
    ordered = sorted(rows.values(), key=lambda row: (places.get((row.plan, row.topic), len(places)), row.topic))
    ordered.sort(key=lambda row: (last[row.edition], row.edition), reverse=True)
    return sorted(ordered, key=lambda row: row.plan)


def _row(plan: str, version: str, content: str, topic: str, loaded: Loaded | None) -> Row:
    title, target = topic, None
    if loaded is not None:
        rule = next((rule for rule in loaded.plan.rules if rule.topic["code"] == topic), None)
        title = rule.topic.get("display", topic) if rule else topic
        target = loaded.plan.parameters[loaded.plan.override_target] if loaded.plan.override_target else None
    return Row(plan, version, content, topic, title, target)


def _reason(one: Counted, loaded: Loaded | None) -> str:
    if one.reason is None:
        return NO_REASON
    offered = loaded.plan.override_reasons if loaded else ()
    found = (reason.get("display") for reason in offered if (reason.get("system"), reason.get("code")) == one.reason)
    return next(found, None) or one.reason[1]


def _places(known: Mapping[str, Loaded]) -> dict[tuple[str, str], int]:
    places: dict[tuple[str, str], int] = {}
    for loaded in known.values():
        for place, rule in enumerate(loaded.plan.rules):
            places.setdefault((loaded.plan.id, rule.topic["code"]), place)
    return places
