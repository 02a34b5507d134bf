"""What a fact says when nothing that it rests on is there: always the same, so it is found out once for each plan.

Most charts have no records of most kinds, so many facts of a call are of this sort. A fact that looks at the call
itself (its time, user, hook or orders) is left out: such a look ends the attempt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Never

from cds_hooks.reasoning.nodes import NOTHING, Collection
from cds_hooks.reasoning.plan import Plan
from cds_hooks.reasoning.terminology import Terminology, ValueSet

_OF_THE_CALL: Final = frozenset({"hook", "user", "now", "today", "selected", "drafts"})


class _Looked(BaseException):  # not an Exception: those are taken for odd data, and become "cannot tell"
    """The fact looked at the call."""


class _Constants(Mapping[str, Any]):
    """The constants of the plan; those of the call may not be read."""

    def __init__(self, plan: Plan) -> None:
        self._known: Final = plan.constants

    def __getitem__(self, name: str) -> Any:
        if name in _OF_THE_CALL:
            raise _Looked
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        raise _Looked

    def __len__(self) -> int:
        raise _Looked


class _Nowhere:
    """An evaluation of a plan over no data at all, that knows nothing of the call."""

    container: Any = None

    def __init__(self, plan: Plan) -> None:
        self._plan: Final = plan
        self._values: dict[str, Collection] = {}
        self.constants: Final[Mapping[str, Any]] = _Constants(plan)
        self.terminology: Final[Terminology] = plan.terminology

    @property
    def now(self) -> Never:
        raise _Looked

    def value(self, name: str) -> Collection:
        if name in _OF_THE_CALL:
            raise _Looked
        if name not in self._values:
            fact = self._plan.facts.get(name)
            self._values[name] = fact.condition.expression.collect(self, []) if fact else NOTHING
        return self._values[name]

    def contains(self, value_set: ValueSet, value: Any) -> bool:
        return self.terminology.match(value_set, value) is not None

    def trouble(self, kind: str) -> Never:
        raise _Looked

    def watch_time(self) -> None:
        pass

    def resolve(self, reference: Any, container: Any) -> Never:
        raise _Looked


@lru_cache(maxsize=1000)
def over_nothing(plan: Plan) -> Mapping[str, tuple[Collection, frozenset[str]]]:
    """Fact → (its value if there is no resource of these types, the types)."""
    nowhere, found = _Nowhere(plan), {}
    for name in plan.facts:
        inputs = plan.inputs_of.get(name, frozenset())
        try:
            found[name] = nowhere.value(name), frozenset(plan.retrieval.type_of[key] for key in inputs)
        except _Looked:
            continue
    return found


@lru_cache(maxsize=1000)
def known_without(plan: Plan, there: frozenset[str]) -> Mapping[str, Collection]:
    """The facts that rest on none of the types that are there, with their values. Charts are much alike in this."""
    return {name: value for name, (value, kinds) in over_nothing(plan).items() if kinds.isdisjoint(there)}
