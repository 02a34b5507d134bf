"""A plan, compiled: named facts, gates, rules and suggestions of a FHIR PlanDefinition and its Library.

A rule is an action that carries a topic (`code`). The actions around it are groups: their conditions are gates for
all rules inside, and `selectionBehavior: at-most-one` lets only the first of them speak. Actions inside a rule are
its suggestions, and inside these the changes that they make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cds_hooks.chart.chart import Retrieval
from cds_hooks.reasoning.nodes import Expression
from cds_hooks.reasoning.terminology import Terminology

INDICATORS: Final = {"routine": "info", "urgent": "warning", "asap": "warning", "stat": "critical"}
LEVELS: Final = ("info", "warning", "critical")
#: Danger to life: said each time, whatever was overridden before.
CRITICAL: Final = LEVELS[-1]


@dataclass(frozen=True, slots=True)
class Condition:
    """One applicability condition: an expression, what it asks in plain words, and where it stands."""

    text: str
    expression: Expression
    names: tuple[str, ...]
    description: str
    element: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A named value, computed at most once per call and only when asked for."""

    name: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class DynamicValue:
    """A value put into a resource: `path` (`code`, `orderDetail[+].text`) and the expression that gives it."""

    path: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Change:
    """One action of a suggestion: create from an activity, update of the target drafts, or their removal."""

    kind: str  # create | update | delete
    description: str
    conditions: tuple[Condition, ...]
    target: Condition | None
    activity: Mapping[str, Any] | None
    values: tuple[DynamicValue, ...]
    element: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A button on the card."""

    label: str
    recommended: bool
    conditions: tuple[Condition, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """An action around rules: gates for all of them, perhaps "at most one of these"."""

    id: str
    conditions: tuple[Condition, ...]
    at_most_one: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """When to speak, about what (`topic`, a Coding), how loudly, resting on what."""

    id: str
    topic: Mapping[str, str]
    hooks: frozenset[str]
    groups: tuple[Group, ...]  # outermost first
    conditions: tuple[Condition, ...]
    indicator: str
    evidence: tuple[str, ...]
    suggestions: tuple[Suggestion, ...]
    selection_behavior: str
    suppresses: frozenset[str]  # ids of rules and groups
    title: str
    description: str
    reads: frozenset[str]  # all names that its conditions, suggestions and template rest on
    element: str


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All that is needed to answer calls about one topic of medicine."""

    id: str
    version: str
    title: str
    description: str
    digest: str
    terminology: Terminology
    retrieval: Retrieval
    facts: Mapping[str, Fact]
    parameters: Mapping[str, Any]
    constants: Mapping[str, Any]  # parameters and the URLs of value sets and concept maps
    rules: tuple[Rule, ...]
    override_reasons: tuple[Mapping[str, str], ...]
    card_limit: int
    quiet: Mapping[str, str]  # hook → lowest indicator that is shown there
    inputs_of: Mapping[str, frozenset[str]] = field(default_factory=dict)  # name → inputs it rests on
    label: str = ""  # who speaks: `source.label` of the cards
    off: frozenset[str] = frozenset()  # rules that a site has switched off
    site: str | None = None  # name and content hash of the site's layer
    rules_by_hook: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    snooze: str | None = None  # parameter: how long an overridden rule stays silent; None: it does not
    override_target: str | None = None  # parameter: percentage of overrides that a card should stay below

    @property
    def hooks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(hook for rule in self.rules for hook in sorted(rule.hooks)))

    def rules_on(self, hook: str) -> tuple[Rule, ...]:
        """The rules that a hook triggers, in the plan's order."""
        return self.rules_by_hook.get(hook, ())

    def keys_for(self, hook: str) -> tuple[str, ...]:
        """The prefetch keys that the rules of a hook rest on, in the Library's order."""
        names = {name for rule in self.rules if hook in rule.hooks for name in _reads(rule)}
        inputs = {name for read in names for name in self.inputs_of.get(read, ())}
        types = {selection.type for selection in self.retrieval.selections if selection.name in inputs}
        return tuple(query.key for query in self.retrieval.queries if query.type in types or query.required)


def _reads(rule: Rule) -> Iterator[str]:
    yield from rule.reads
    for group in rule.groups:
        for condition in group.conditions:
            yield from condition.names
