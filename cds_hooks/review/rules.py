"""One rule with everything around it: conditions, gates, suppression, evidence, cases, card and suggestions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from cds_hooks.reasoning import plan as compiled
from cds_hooks.reasoning.plan import LEVELS, Plan
from cds_hooks.review.examples import Played, effects
from cds_hooks.review.page import CaseLine, Change, Example, Named, Rule, Suggestion
from cds_hooks.review.reach import Reach, names_of
from cds_hooks.review.register import Register
from cds_hooks.review.words import CHANGES, INDICATORS, Speaker, flat, hook


@dataclass(frozen=True, slots=True)
class Around:
    """What all rules of a plan share."""

    plan: Plan
    named: Mapping[str, Named]
    groups: Mapping[str, str]  # group id → title
    reach: Reach
    register: Register
    played: Sequence[Played]
    say: Speaker


def rule_shown(rule: compiled.Rule, around: Around) -> Rule:
    """A rule as the page shows it."""
    plan, reach, register = around.plan, around.reach, around.register
    own, topic = reach.value_sets(names_of(rule)), rule.topic["code"]
    cases = [one for one in around.played if rule.id in one.case.about]
    cases.sort(key=lambda one: not _own(one, rule))
    firing = [one for one in cases if rule.id in one.cards]
    return Rule(
        id=rule.id, topic=topic, title=flat(rule.title), description=flat(rule.description),
        place=plan.rules.index(rule) + 1, hooks=tuple(hook(name) for name in plan.hooks if name in rule.hooks),
        indicator=INDICATORS[rule.indicator], level=rule.indicator, off=rule.id in plan.off,
        muted=tuple(hook(name) for name in sorted(rule.hooks) if _muted(plan, rule, name)),
        gates=tuple(Named("gate", group.id, around.groups.get(group.id, group.id))
                    for group in rule.groups if group.conditions),
        one_of=_rivals(rule, around),
        suppresses=tuple(around.named[other.id] for other in plan.rules if _silences(rule, other)),
        suppressed_by=tuple(around.named[other.id] for other in plan.rules if _silences(other, rule)),
        conditions=reach.questions(rule.conditions),
        firing=_lines(rule, cases, "firing", around), silent=_lines(rule, cases, "silent", around),
        undecided=_lines(rule, cases, "missing", around),
        evidence=register.cited(rule.evidence), background=register.background(topic, rule.evidence),
        parameters=reach.parameters(rule.reads), value_sets=own,
        more_value_sets=tuple(one for one in reach.value_sets(rule.reads) if one not in own),
        example=_example(rule, firing[0], around) if firing else None,
        suggestions=tuple(_suggestion(one, rule, firing, around) for one in rule.suggestions),
    )  # fmt: skip


def _muted(plan: Plan, rule: compiled.Rule, name: str) -> bool:
    return name in plan.quiet and LEVELS.index(rule.indicator) < LEVELS.index(plan.quiet[name])


def _silences(rule: compiled.Rule, other: compiled.Rule) -> bool:
    return rule is not other and bool(rule.suppresses & {other.id, *(group.id for group in other.groups)})


def _rivals(rule: compiled.Rule, around: Around) -> tuple[Named, ...]:
    """The rules of the same at-most-one groups, this one among them, in the plan's order."""
    single = {group.id for group in rule.groups if group.at_most_one}
    return tuple(around.named[other.id] for other in around.plan.rules
                 if single & {group.id for group in other.groups})  # fmt: skip


# ---- cases


def _own(one: Played, rule: compiled.Rule) -> bool:
    """Whether a case comes from the file that is named like the family of the rule's topic."""
    return PurePath(one.case.file).stem == rule.topic["code"].split("-")[0]


def _lines(rule: compiled.Rule, cases: Sequence[Played], kind: str, around: Around) -> tuple[CaseLine, ...]:
    lines = Counter(_line(rule, one, around) for one in cases if one.result.kind(rule.id) == kind)
    return tuple(dataclasses.replace(line, times=times) for line, times in lines.items())


def _line(rule: compiled.Rule, one: Played, around: Around) -> CaseLine:
    others = (other for other in one.result.spoken if other != rule.id)
    instead = tuple(around.named[other] for other in others)
    return CaseLine(flat(one.title), _own(one, rule), hook(one.case.body["hook"]), 1, instead)


def _example(rule: compiled.Rule, one: Played, around: Around) -> Example:
    card = one.cards[rule.id]
    patient = next((item for item in one.chart if item.get("resourceType") == "Patient"), {})
    others = [item for item in one.chart if item.get("resourceType") not in ("Patient", "Encounter")]
    line = _line(rule, one, around)
    return Example(
        title=line.title, when=line.when, patient=_person(patient), chart=around.say.listed(others),
        orders=around.say.listed(one.drafts), label=card["source"]["label"], summary=card["summary"],
        detail=card.get("detail", ""), buttons=tuple(item["label"] for item in card.get("suggestions", ())),
        beside=line.instead,
    )  # fmt: skip


def _person(patient: Mapping[str, Any]) -> str:
    parts = (patient.get("gender"), f"born {patient['birthDate']}" if "birthDate" in patient else "birth date unknown")
    return ", ".join(str(part) for part in parts if part)


# ---- suggestions


def _suggestion(
    suggestion: compiled.Suggestion, rule: compiled.Rule, firing: Sequence[Played], around: Around
) -> Suggestion:
    changes = tuple(_change(change, suggestion, rule, firing, around) for change in suggestion.changes)
    conditions = around.reach.questions(suggestion.conditions)
    return Suggestion(flat(suggestion.label), suggestion.recommended, conditions, changes)


def _change(
    change: compiled.Change, suggestion: compiled.Suggestion, rule: compiled.Rule, firing: Sequence[Played],
    around: Around,
) -> Change:  # fmt: skip
    """A change with its effects in the first firing case that shows it."""
    seen = ((one, found) for one in firing if (found := list(_actions(one.cards[rule.id], suggestion, change))))
    kind, text = CHANGES[change.kind], flat(change.description)
    conditions = around.reach.questions(change.conditions)
    first = next(seen, None)
    if first is None:
        return Change(kind, text, conditions, "", ())
    one, actions = first
    say = around.say.knowing([*one.chart, *one.drafts])
    return Change(kind, text, conditions, flat(one.title), tuple(effects(action, one, say) for action in actions))


def _actions(
    card: Mapping[str, Any], suggestion: compiled.Suggestion, change: compiled.Change
) -> Iterator[Mapping[str, Any]]:
    for offered in card.get("suggestions", ()):
        if offered["label"] == suggestion.label:
            for action in offered["actions"]:
                if action["type"] == change.kind and action["description"] == change.description:
                    yield action
