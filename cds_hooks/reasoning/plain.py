"""Nodes that answer the commonest questions about an element without fhirpathpy, for speed; they mean the same.

A test holds that against fhirpathpy itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from fhirpathpy.engine.nodes import TypeInfo

from cds_hooks.reasoning.elements import ancestry, typed, values_of
from cds_hooks.reasoning.functions import raw
from cds_hooks.reasoning.nodes import UNKNOWN, Collection, Environment, Expression, Items, Truth, Verdict
from cds_hooks.reasoning.terminology import ValueSet

_CODED: Final = ("CodeableConcept", "Coding", "Code", "String")


@dataclass(frozen=True, slots=True)
class Member(Truth):
    """`code.memberOf(%`vs-x`)` on a plain path: the most frequent question, answered by set look-ups alone."""

    steps: tuple[str, ...]
    value_set: ValueSet

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        for value in values_of(this, self.steps, _CODED):  # noqa: SIM110 - any() takes twice as long
            if env.contains(self.value_set, value):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Present(Truth):
    """`a.b.exists()` on a plain path; `kinds` are the types of a choice element (`onset` → `onsetDateTime`)."""

    steps: tuple[str, ...]
    kinds: tuple[str, ...]

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        return bool(values_of(this, self.steps, self.kinds))


@dataclass(frozen=True, slots=True)
class Same(Truth):
    """`status = 'completed'`, `%hook != 'x'`: one string compared with another; nothing is unknown."""

    left: Expression
    right: Expression
    equal: bool

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one, two = _string(self.left.collect(env, this)), _string(self.right.collect(env, this))
        return None if one is None or two is None else (one == two) is self.equal


@dataclass(frozen=True, slots=True)
class OneOf(Truth):
    """`status in ('draft' | 'active')`: a string among fixed ones; nothing is unknown."""

    left: Expression
    strings: frozenset[str]

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one = _string(self.left.collect(env, this))
        return None if one is None else one in self.strings


@dataclass(frozen=True, slots=True)
class Path(Items):
    """A plain path from the current item; its values keep their R4 types."""

    steps: tuple[str, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        items = this
        for step in self.steps:
            items = [value for item in items for value in typed(item, step)]
        return Collection(items)


@dataclass(frozen=True, slots=True)
class Text(Items):
    """A plain path to strings, for comparison only."""

    steps: tuple[str, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return Collection(values_of(this, self.steps, ()))


@dataclass(frozen=True, slots=True)
class Matches(Truth):
    """`note.text.matches('…')` with a fixed pattern, found anywhere in the text; of nothing it cannot tell."""

    source: Expression
    pattern: re.Pattern[str]

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        found = self.source.collect(env, this)
        if not found.complete or not found.items:
            return None
        text = _string(found)
        if text is None:
            env.trouble("expression")
            return None
        return self.pattern.search(text) is not None


@dataclass(frozen=True, slots=True)
class OfType(Items):
    """`onset.ofType(dateTime)`: the items of a type, as fhirpathpy tells types, and resources by what they say."""

    source: Expression
    kind: TypeInfo

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        found = self.source.collect(env, this)
        if not found.complete:
            return UNKNOWN
        if not found.items:
            return found
        return Collection([item for item in found.items if self._is_one(item)])

    def _is_one(self, item: Any) -> bool:
        data = raw(item)
        if isinstance(data, dict) and isinstance(name := data.get("resourceType"), str):
            return self.kind.name in ancestry(name)
        kind = TypeInfo.from_value(item)
        return kind is not None and kind.is_(self.kind)


@dataclass(frozen=True, slots=True)
class Concat(Items):
    """`a & b`: strings put together; nothing counts as the empty string."""

    left: Expression
    right: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        words = []
        for found in (self.left.collect(env, this), self.right.collect(env, this)):
            word = _string(found) if found.items else ""
            if not found.complete or word is None:
                return UNKNOWN
            words.append(word)
        return Collection(["".join(words)])


def _string(found: Collection) -> str | None:
    value = raw(found.items[0]) if found.complete and len(found.items) == 1 else None
    return value if isinstance(value, str) else None
