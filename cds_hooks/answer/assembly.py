"""From findings to cards: suppression, at most one of a group, quiet hooks, the cap; then text and suggestions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from cds_hooks.answer.suggestions import Requested, actions_of
from cds_hooks.answer.templates import Cards, Words, clock
from cds_hooks.protocol.response import Card, Coding, Source
from cds_hooks.reasoning.evaluation import Evaluation, Finding
from cds_hooks.reasoning.functions import raw
from cds_hooks.reasoning.plan import LEVELS, Plan, Rule


@dataclass(slots=True)
class Decision:
    """Which rules speak, in order, and why each other one that fired does not."""

    spoken: list[Rule] = field(default_factory=list)
    silenced: dict[str, str] = field(default_factory=dict)  # rule id → reason in plain words


def decide(plan: Plan, findings: Sequence[Finding], hook: str) -> Decision:
    """Apply the plan's rules about rules. The plan's order is the order of cards."""
    decision = Decision()
    fired = [finding.rule for finding in findings if finding.verdict]
    if not fired:
        return decision
    decision.silenced.update({rule.id: "switched off by the site" for rule in fired if rule.id in plan.off})
    fired = [rule for rule in fired if rule.id not in plan.off]
    for rule in fired:
        reason = _silenced(rule, decision.spoken)
        if reason is None:
            decision.spoken.append(rule)
        else:
            decision.silenced[rule.id] = reason
    _withdraw(decision)
    _quieten(plan, decision, hook)
    for rule in decision.spoken[plan.card_limit :]:
        decision.silenced[rule.id] = f"beyond the limit of {plan.card_limit} cards"
    del decision.spoken[plan.card_limit :]
    return decision


def _silenced(rule: Rule, spoken: Sequence[Rule]) -> str | None:
    groups = {group.id: group for group in rule.groups}
    for other in spoken:
        if other.suppresses & {rule.id, *groups}:
            return f"suppressed by {other.id}"
        if any(group.at_most_one and group.id in groups for group in other.groups):
            return f"{other.id} speaks for the same group"
    return None


def _withdraw(decision: Decision) -> None:
    """A rule may also suppress one that stands before it in the plan."""
    for rule in list(decision.spoken):
        above = {rule.id, *(group.id for group in rule.groups)}
        other = next((one for one in decision.spoken if one is not rule and one.suppresses & above), None)
        if other is not None:
            decision.spoken.remove(rule)
            decision.silenced[rule.id] = f"suppressed by {other.id}"


def _quieten(plan: Plan, decision: Decision, hook: str) -> None:
    floor = plan.quiet.get(hook)
    if floor is None:
        return
    for rule in list(decision.spoken):
        if LEVELS.index(rule.indicator) < LEVELS.index(floor):
            decision.spoken.remove(rule)
            decision.silenced[rule.id] = f"{rule.indicator} is not shown on {hook}"


class Facts:
    """What templates see as `f`: a fact is a truth value (None: unknown), or a list of resources and values."""

    __slots__ = ("_evaluation",)

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation: Final = evaluation

    def __getattr__(self, name: str) -> Any:
        plan = self._evaluation.plan
        if name in plan.parameters:
            return plan.parameters[name]
        found = self._evaluation.value(name)
        if not found.complete and not found.items:
            return None
        items = [raw(item) for item in found.items]
        if len(items) == 1 and isinstance(items[0], bool):
            return items[0] if found.complete else None
        return items


def build(
    rule: Rule, evaluation: Evaluation, cards: Cards, requested: Requested, label: str, today_uuid: Any = uuid.uuid4
) -> Card:
    """The card of a rule. Raises ContentError or ValidationError when content does not fit: caught by lint and test."""
    context: Mapping[str, Any] = {
        "f": Facts(evaluation), "rule": rule.id, "service": Words(label), **clock(evaluation.now.date()),
    }  # fmt: skip
    summary, detail = cards.render(rule.topic["code"], context)
    suggestions = []
    for suggestion in rule.suggestions:
        actions = actions_of(suggestion, evaluation, requested)
        if actions:
            suggestions.append({"label": suggestion.label, "uuid": str(today_uuid()), "actions": actions,
                                **({"isRecommended": True} if suggestion.recommended else {})})  # fmt: skip
    return Card.model_validate({
        "uuid": str(today_uuid()), "summary": summary, "detail": detail, "indicator": rule.indicator,
        "source": _source(label, *(rule.topic.get(key) for key in ("system", "code", "display"))),
        "overrideReasons": _reasons(*(tuple(reason.items()) for reason in evaluation.plan.override_reasons)),
        **({"suggestions": suggestions, "selectionBehavior": rule.selection_behavior} if suggestions else {}),
    })  # fmt: skip


@lru_cache(maxsize=1000)
def _source(label: str, system: str, code: str, display: str | None) -> Source:
    """The same for every card of a topic, so built and checked once."""
    return Source(label=label, topic=Coding(system=system, code=code, display=display))


@lru_cache(maxsize=100)
def _reasons(*reasons: tuple[tuple[str, str], ...]) -> tuple[Coding, ...] | None:
    return tuple(Coding.model_validate(dict(reason)) for reason in reasons) or None
