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
    """Ids of rules each of which silences the next, and the last the first; None if there is no such circle.

    All of them would claim to come first, and it would be their order that decides. Only rules of one hook can meet.
    """
    for hook in sorted({hook for rule in rules for hook in rule.hooks}):
        here = [rule for rule in rules if hook in rule.hooks]
        found = _circle({rule.id: [other.id for place, other in enumerate(here) if _silences(rule, other, place > at)]
                         for at, rule in enumerate(here)})  # fmt: skip
        if found:
            return found
    return None


def _silences(rule: Rule, other: Rule, later: bool) -> bool:
    return rule is not other and (suppresses(rule, other) or (later and shares_place(rule, other)))


def _circle(leads: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Names that lead from one to the next and back to the first."""
    left = dict(leads)
    while ends := [name for name, after in left.items() if not any(other in left for other in after)]:
        for name in ends:  # no circle goes through what leads nowhere
            del left[name]
    if not left:
        return None
    path = [next(iter(left))]  # each name that is left leads to one that is left
    while True:
        name = next(other for other in left[path[-1]] if other in left)
        if name in path:
            return path[path.index(name) :]
        path.append(name)
