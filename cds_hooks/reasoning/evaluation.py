"""One call's reasoning: facts on demand, gates, rules. The trace is what this object remembers afterwards."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from cds_hooks.chart.chart import Chart
from cds_hooks.errors import Rejected
from cds_hooks.reasoning.functions import Unknowable, raw
from cds_hooks.reasoning.nodes import NOTHING, Collection, Verdict, verdict_of
from cds_hooks.reasoning.nothing import known_without
from cds_hooks.reasoning.plan import Condition, Group, Plan, Rule
from cds_hooks.reasoning.terminology import Concept, Terminology, ValueSet

#: Resources in a call. Above that the caller should ask for less rather than try again.
_LARGE: Final = 2000


@dataclass(slots=True)  # not frozen: made in each call, and nobody changes it
class Asked:
    """What the hook call itself says: who asks, at which moment, with which orders."""

    hook: str
    user: str
    selected: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a rule: its verdict and, if a gate kept it from being asked, which one."""

    rule: Rule
    verdict: Verdict
    gate: str | None = None


class _Constants(Mapping[str, Any]):
    """The constants of a plan, and those of the call, each made when it is asked for: seldom."""

    _OF_THE_CALL: Final[Mapping[str, Callable[[Asked, datetime], str]]] = {
        "hook": lambda asked, now: asked.hook,
        "user": lambda asked, now: asked.user,
        "now": lambda asked, now: now.isoformat(timespec="seconds"),
        "today": lambda asked, now: now.date().isoformat(),
    }

    def __init__(self, known: Mapping[str, Any], asked: Asked, now: datetime) -> None:
        self._known: Final = known
        self._call: Final = asked, now

    def __getitem__(self, name: str) -> Any:
        make = self._OF_THE_CALL.get(name)
        return make(*self._call) if make else self._known[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._known
        yield from self._OF_THE_CALL

    def __len__(self) -> int:
        return len(self._known) + len(self._OF_THE_CALL)


class Evaluation:
    """Evaluates a plan over a chart. Each fact is computed once, when first read; nothing else is touched."""

    def __init__(
        self, plan: Plan, chart: Chart, asked: Asked, now: datetime, until: float = math.inf, *, whole: bool = False
    ) -> None:
        """`until` is when the answer has to be ready, as a reading of time.monotonic().

        `whole` computes every fact that is read, for a trace that shows them all; otherwise a fact for which there are
        no data is known beforehand.
        """
        self.plan: Final = plan
        self.chart: Final = chart
        self.asked: Final = asked
        self.now: Final = now
        self.problems: Final[defaultdict[str, int]] = defaultdict(int)
        self.terminology: Final[Terminology] = plan.terminology
        self.by_words: Final[set[str]] = set()
        self.container: Any = None
        self._until: Final = until
        self._constants: Mapping[str, Any] | None = None
        self._values: dict[str, Collection] = {
            "selected": Collection(list(asked.selected)),
            "drafts": Collection(list(chart.drafts)),
        }
        self._gates: dict[str, Verdict] = {}
        self._concepts: dict[int, Concept] = {}
        #: The facts that are known beforehand; None as long as nobody asked.
        self._beforehand: Mapping[str, Collection] | None = {} if whole else None

    # ---- what expressions and their functions ask for

    @property
    def constants(self) -> Mapping[str, Any]:
        """Parameters and URLs of the plan, and what the call says."""
        if self._constants is None:
            self._constants = _Constants(self.plan.constants, self.asked, self.now)
        return self._constants

    def value(self, name: str) -> Collection:
        """A named input or fact as a collection that knows whether it is whole."""
        known = self._values.get(name)
        if known is not None:
            return known
        fact = self.plan.facts.get(name)
        if fact is not None:
            if self._beforehand is None:
                self._beforehand = known_without(self.plan, self.chart.kinds())
            found = self._beforehand.get(name)
            if found is None:
                self.watch_time()
                found = fact.condition.expression.collect(self, [])
        else:
            given = self.chart.input(name)
            if given is None:
                raise KeyError(name)  # the compiler lets no unknown name through
            whole = given.complete
            found = Collection(given.items, whole, given.maybe) if given.items or not whole else NOTHING
        self._values[name] = found
        return found

    def contains(self, value_set: ValueSet, value: Any) -> bool:
        """Whether a concept or string is in the set. A match by words is weaker than one by code: it is noted."""
        concept = self._concepts.get(id(value))
        if concept is None:
            self._concepts[id(value)] = concept = self.terminology.concept(value)  # holds the value: its id stays its
        how = self.terminology.how(value_set, concept)
        if how == "words":
            self.by_words.add(value_set.id)
        return how is not None

    def trouble(self, kind: str) -> None:
        """Count a swallowed problem."""
        self.problems[kind] += 1

    def watch_time(self) -> None:
        """Raise Rejected once the time of the call is up: 413 if its chart is very large, else 503."""
        if time.monotonic() > self._until:
            if self.chart.size() > _LARGE:
                text = "The data of this call are too many to be judged in the time that a call has."
                raise Rejected(text, status=413, code="too-costly")
            raise Rejected("The call took longer than a call may take.", status=503, code="timeout")

    def resolve(self, reference: Any, container: Any) -> dict[str, Any]:
        """The referenced resource; raises Unknowable when it cannot be had."""
        resource = self.chart.resolve(reference, container)
        if resource is None:
            raise Unknowable
        return resource

    # ---- verdicts

    def verdict(self, name: str) -> Verdict:
        """The truth of a fact: for a boolean its value, for a collection whether it holds one thing."""
        return verdict_of(self.value(name))

    def known(self, name: str) -> Collection | None:
        """The value of a name if it was read during this evaluation."""
        return self._values.get(name)

    def items(self, condition: Condition, this: list[Any]) -> list[Any] | None:
        """The plain JSON values of an expression, None when they cannot be told."""
        found = condition.expression.collect(self, this)
        return [raw(item) for item in found.items] if found.complete else None

    def all_of(self, conditions: Sequence[Condition]) -> Verdict:
        """Kleene's `and` over conditions; stops at the first that is false."""
        verdict: Verdict = True
        for condition in conditions:
            one = condition.expression.judge(self, [])
            if one is False:
                return False
            if one is None:
                verdict = None
        return verdict

    def gate(self, group: Group) -> Verdict:
        """The verdict of a group's conditions, computed once."""
        if group.id not in self._gates:
            self._gates[group.id] = self.all_of(group.conditions)
        return self._gates[group.id]

    def findings(self) -> Sequence[Finding]:
        """All rules of this hook in the plan's order, each with its verdict. A closed gate leaves its rules unasked."""
        rules = self.plan.rules_on(self.asked.hook)
        root = rules[0].groups[0] if rules and rules[0].groups else None
        if root is not None and self.gate(root) is False:
            shut = _shut(self.plan, self.asked.hook, root.id)
            if shut is not None:
                return shut
        return [self._finding(rule) for rule in rules]

    def _finding(self, rule: Rule) -> Finding:
        open_gate: Verdict = True
        for group in rule.groups:
            verdict = self.gate(group)
            if verdict is False:
                return Finding(rule, False, group.id)
            if verdict is None:
                open_gate = None
        verdict = self.all_of(rule.conditions)
        return Finding(rule, verdict if open_gate or verdict is False else None)


@lru_cache(maxsize=1000)
def _shut(plan: Plan, hook: str, group: str) -> tuple[Finding, ...] | None:
    """The findings when a group around all rules of the hook is closed: the overwhelming case, so made once."""
    rules = plan.rules_on(hook)
    if any(not rule.groups or rule.groups[0].id != group for rule in rules):
        return None
    return tuple(Finding(rule, False, group) for rule in rules)
