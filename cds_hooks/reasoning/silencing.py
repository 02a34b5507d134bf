"""Which rules keep others silent when they fire in the same call: by name, by group, or as the first of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cds_hooks.reasoning.plan import Rule


def suppresses(other: Rule, rule: Rule) -> bool:
    """Whether the other one names the rule, or a group around it, as what it suppresses."""
    return rule.id in other.suppresses or any(group.id in other.suppresses for group in rule.groups)


def shares_place(other: Rule, rule: Rule) -> bool:
    """Whether both are in a group of which only one may speak."""
    own = {group.id for group in rule.groups}
    return any(group.at_most_one and group.id in own for group in other.groups)


def circle_in(rules: Sequence[Rule]) -> list[str] | None:
    """Ids of rules each of which silences the next, and the last the first: then it is chance who speaks.

    None if there is no such circle. Only rules that share a hook can meet.
    """
    return _circle({rule.id: [other.id for place, other in enumerate(rules) if _silences(rule, other, place > at)]
                    for at, rule in enumerate(rules)})  # fmt: skip


def _silences(rule: Rule, other: Rule, later: bool) -> bool:
    if rule is other or not set(rule.hooks) & set(other.hooks):
        return False
    return suppresses(rule, other) or (later and shares_place(rule, other))


def _circle(leads: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Names that lead from one to the next and back to the first."""
    done: set[str] = set()

    def below(path: list[str]) -> list[str] | None:
        for name in leads[path[-1]]:
            if name in path:
                return path[path.index(name) :]
            if name not in done and (found := below([*path, name])):
                return found
        done.add(path[-1])
        return None

    return next((found for name in leads if name not in done and (found := below([name]))), None)
