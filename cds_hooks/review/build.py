"""The whole page of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from cds_hooks.loading import Loaded
from cds_hooks.review.codes import Codes, speaker
from cds_hooks.review.examples import Played, moment, play
from cds_hooks.review.page import Family, Gate, Named, Review, Rule
from cds_hooks.review.reach import Reach, named_rules
from cds_hooks.review.register import Register
from cds_hooks.review.rules import Around, rule_shown
from cds_hooks.review.words import INDICATORS, flat, hook


def review(loaded: Loaded, generated: date, played: Sequence[Played] | None = None) -> Review:
    """All that a reviewer is shown of a plan. Depends on nothing but the content and the day it is made.

    `played` are the plan's cases, played at its `moment`, if that has been done before.
    """
    plan, raw = loaded.plan, loaded.package.plan
    now, reach, register, say = moment(loaded), Reach(loaded), Register(loaded), speaker(loaded)
    groups = dict(_group_titles(raw.get("action", ())))
    played = play(loaded, now) if played is None else played
    around = Around(plan, named_rules(plan), groups, reach, register, played, say)
    rules = [rule_shown(rule, around) for rule in plan.rules]
    codes = Codes(loaded, reach, say, _used_by(rules, around.named))
    by_part = {part: tuple(register.of(part)) for part in ("claims", "evidence", "choices")}
    return Review(
        plan=plan.id, title=flat(plan.title), description=plan.description, version=plan.version,
        status=str(raw.get("status", "")), digest=plan.digest, site=plan.site or "", generated=generated,
        played=now.strftime("%Y-%m-%d %H:%M UTC"), card_limit=plan.card_limit,
        quiet=tuple((hook(name), INDICATORS[level].split(":")[0]) for name, level in plan.quiet.items()),
        override_reasons=tuple(reason.get("display", reason["code"]) for reason in plan.override_reasons),
        families=tuple(_families(rules, loaded, groups)), gates=tuple(_gates(around)),
        parameters=tuple(codes.parameters()), facts=tuple(reach.facts()), inputs=tuple(reach.inputs()),
        value_sets=tuple(codes.value_sets()), orders=tuple(codes.orders()), replacements=tuple(codes.replacements()),
        tensions=tuple(register.tensions.values()),
        unused_claims=tuple(entry for entry in by_part["claims"] if not entry.cited_by),
        used_claims=tuple(entry for entry in by_part["claims"] if entry.cited_by),
        choices=by_part["choices"], evidence=tuple(entry for entry in by_part["evidence"] if entry.verified),
        unverified=tuple(entry for entry in by_part["evidence"] if not entry.verified),
        sources=tuple(register.sources()), gaps=register.gaps,
    )  # fmt: skip


def _group_titles(actions: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for action in actions:
        if "code" not in action:
            yield action["id"], flat(action.get("title", action["id"]))
            yield from _group_titles(action.get("action", ()))


def _families(rules: Sequence[Rule], loaded: Loaded, titles: Mapping[str, str]) -> Iterator[Family]:
    groups = {rule.id: rule.groups for rule in loaded.plan.rules}
    names = dict.fromkeys(rule.topic.split("-")[0] for rule in rules)
    for name in names:
        members = tuple(rule for rule in rules if rule.topic.split("-")[0] == name)
        inner = dict.fromkeys(titles[groups[rule.id][-1].id] for rule in members if groups[rule.id])
        yield Family(name, tuple(inner), members)


def _gates(around: Around) -> Iterator[Gate]:
    groups = {group.id: group for rule in around.plan.rules for group in rule.groups if group.conditions}
    for group in groups.values():
        behind = sum(group in rule.groups for rule in around.plan.rules)
        yield Gate(group.id, around.groups.get(group.id, group.id), around.reach.questions(group.conditions), behind)


def _used_by(rules: Sequence[Rule], named: Mapping[str, Named]) -> dict[str, list[Named]]:
    used: dict[str, list[Named]] = {}
    for rule in rules:
        for one in (*rule.value_sets, *rule.more_value_sets):
            used.setdefault(one.id, []).append(named[rule.id])
    return used
