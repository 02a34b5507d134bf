"""Which orders a rule is about, and since when an override silences it.

A rule that a user overrode stays silent for a while, for the same patient and the same orders; never a critical one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cds_hooks.chart.dates import cutoff
from cds_hooks.chart.orders import TooMuch, said_by
from cds_hooks.reasoning.evaluation import Evaluation
from cds_hooks.reasoning.functions import raw
from cds_hooks.reasoning.plan import Plan, Rule


def window(plan: Plan, now: datetime) -> datetime | None:
    """The moment from which on overrides count; None if the plan does not heed them."""
    return cutoff(plan.parameters[plan.snooze], now) if plan.snooze else None


def orders_of(rule: Rule, evaluation: Evaluation) -> list[dict[str, Any]]:
    """The orders that a rule is about: those that its conditions look at, else all that the call judges.

    So a card that was overridden when one order was selected is the same card when that order is signed among others.
    """
    known = {id(order): order for order in (*evaluation.chart.drafts, *evaluation.asked.selected)}
    if not known:
        return []
    seen: dict[int, dict[str, Any]] = {}
    for name in {name for condition in rule.conditions for name in condition.names}:
        found = evaluation.known(name)
        for item in found.items if found is not None else ():
            identity = id(raw(item))
            if identity in known:
                seen[identity] = known[identity]
    return list(seen.values()) or list(evaluation.asked.selected)


def content_of(rule: Rule, evaluation: Evaluation) -> str | None:
    """What the orders of a rule say (see chart.orders), None if that cannot be told: then nothing is the same."""
    if not evaluation.chart.drafts and not evaluation.asked.selected:
        return ""
    try:
        return said_by(orders_of(rule, evaluation))
    except (RecursionError, TooMuch):
        return None
