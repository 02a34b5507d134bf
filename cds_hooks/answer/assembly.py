"""From findings to cards: suppression, at most one of a group, quiet hooks, the cap; then text and suggestions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from cds_hooks.answer.facts import Facts
from cds_hooks.answer.suggestions import Requested, actions_of
from cds_hooks.answer.templates import Cards, Words, clock
from cds_hooks.chart.reading import name_of
from cds_hooks.protocol.identity import new_uuid
from cds_hooks.protocol.response import Card, Coding, Source, Suggestion
from cds_hooks.reasoning.evaluation import Evaluation, Finding
from cds_hooks.reasoning.plan import CRITICAL, LEVELS, Plan, Rule
from cds_hooks.reasoning.silencing import shares_place, suppresses


@dataclass(slots=True)
class Decision:
    """Which rules speak, in order, and why each other one that fired does not."""

    spoken: list[Rule] = field(default_factory=list)
    silenced: dict[str, str] = field(default_factory=dict)  # rule id → reason in plain words
    snoozed: list[Rule] = field(default_factory=list)  # the silenced that would speak, had nobody overridden them


#: Which of these rules rest after an override: rule id → reason in plain words.
Resting = Callable[[Sequence[Rule]], Mapping[str, str]]


def decide(plan: Plan, findings: Sequence[Finding], hook: str, resting: Resting | None = None) -> Decision:
    """Apply the plan's rules about rules. The plan's order is the order of cards.

    A rule that rests says nothing, but still silences what it would silence if it spoke: the stronger message was
    given and turned down, which is no reason to come with the weaker one. Only a critical rule speaks all the same.
    """
    decision = Decision()
    heard = [finding.rule for finding in findings if finding.verdict]
    if not heard:
        return decision
    for rule in heard:  # what is not shown silences nobody
        reason = _unwanted(plan, rule, hook)
        if reason:
            decision.silenced[rule.id] = reason
    heard = [rule for rule in heard if rule.id not in decision.silenced]
    asleep = resting(heard) if resting is not None and heard else {}
    quarrel = _Quarrel(heard, asleep)
    for rule in heard:
        by = quarrel.silencer(rule)
        if by is not None:
            decision.silenced[rule.id] = by
        elif rule.id in asleep:
            decision.silenced[rule.id] = asleep[rule.id]
            decision.snoozed.append(rule)
        else:
            decision.spoken.append(rule)
    for rule in _quietest(decision.spoken, len(decision.spoken) - plan.card_limit):
        decision.silenced[rule.id] = f"beyond the limit of {plan.card_limit} cards"
    decision.spoken = [rule for rule in decision.spoken if rule.id not in decision.silenced]
    return decision


def _quietest(spoken: Sequence[Rule], surplus: int) -> Sequence[Rule]:
    """The rules that fall to the limit: the lowest indicators, of these the last. A critical card falls last."""
    if surplus <= 0:
        return ()
    loudest_first = sorted(spoken, key=lambda rule: -LEVELS.index(rule.indicator))  # stable: the plan's order
    return loudest_first[-surplus:]


def _unwanted(plan: Plan, rule: Rule, hook: str) -> str | None:
    if rule.id in plan.off:
        return "switched off by the site"
    floor = plan.quiet.get(hook)
    if floor is not None and LEVELS.index(rule.indicator) < LEVELS.index(floor):
        return f"{rule.indicator} is not shown on {hook}"
    return None


class _Quarrel:
    """Who silences whom among the rules that were heard."""

    def __init__(self, heard: Sequence[Rule], asleep: Mapping[str, str]) -> None:
        self._heard: Final = heard
        self._asleep: Final = asleep
        self._place: Final = {rule.id: place for place, rule in enumerate(heard)}
        self._known: Final[dict[str, str | None]] = {}

    def silencer(self, rule: Rule) -> str | None:
        """Why the rule stays silent: another one suppresses it, or comes first where only one may speak.

        Only a rule that is not silenced itself can silence another. In a circle the rule asked first speaks.
        """
        if rule.id not in self._known:
            self._known[rule.id] = None
            self._known[rule.id] = next(
                (reason for other in self._heard if other is not rule
                 and (reason := self._conflict(rule, other)) and self.silencer(other) is None),
                None,
            )  # fmt: skip
        return self._known[rule.id]

    def _conflict(self, rule: Rule, other: Rule) -> str | None:
        if other.id in self._asleep and rule.indicator == CRITICAL:
            return None
        silent = ", which is snoozed" if other.id in self._asleep else ""
        if suppresses(other, rule):
            return f"suppressed by {other.id}{silent}"
        earlier = self._place[other.id] < self._place[rule.id]
        if earlier and shares_place(other, rule):
            return f"{other.id} speaks for the same group" if not silent else f"{other.id}{silent}, has the same group"
        return None


def build(
    rule: Rule, evaluation: Evaluation, cards: Cards, requested: Requested, label: str
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
            suggestions.append({"label": suggestion.label, "uuid": new_uuid(), "actions": actions,
                                **({"isRecommended": True} if suggestion.recommended else {})})  # fmt: skip
    return Card.model_validate({
        "uuid": new_uuid(), "summary": summary, "detail": detail, "indicator": rule.indicator,
        "source": _source(label, *(rule.topic.get(key) for key in ("system", "code", "display"))),
        "overrideReasons": _reasons(evaluation.plan),
        **({"suggestions": suggestions, "selectionBehavior": rule.selection_behavior} if suggestions else {}),
    })  # fmt: skip


def settled(cards: Sequence[Card]) -> list[Card]:
    """The cards with at most one recommended suggestion for each draft: that of the card that comes first.

    An update carries the whole draft as it was. A client that applied two of them for one draft would lose the first,
    so what comes later is still offered, but no longer ticked in advance.
    """
    taken: set[str] = set()
    return [_settled(card, taken) for card in cards]


def _settled(card: Card, taken: set[str]) -> Card:
    if not any(one.isRecommended for one in card.suggestions or ()):
        return card
    suggestions, late = [], False
    for one in card.suggestions or ():
        changed = _changed_drafts(one) if one.isRecommended else set()
        if changed & taken:
            one, late = one.model_copy(update={"isRecommended": None}), True
        else:
            taken |= changed
        suggestions.append(one)
    return card.model_copy(update={"suggestions": tuple(suggestions)}) if late else card


def _changed_drafts(suggestion: Suggestion) -> set[str]:
    named = (action.resourceId or name_of(action.resource) for action in suggestion.actions or ()
             if action.type != "create")  # fmt: skip
    return {name for name in named if name}


@lru_cache(maxsize=1000)
def _source(label: str, system: str, code: str, display: str | None) -> Source:
    """The same for every card of a topic, so built and checked once."""
    return Source(label=label, topic=Coding(system=system, code=code, display=display))


@lru_cache(maxsize=100)
def _reasons(plan: Plan) -> tuple[Coding, ...] | None:
    return tuple(Coding.model_validate(dict(reason)) for reason in plan.override_reasons) or None
