"""From raw content to a compiled Plan. Whatever is wrong is a ContentError with file, element and reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cds_hooks.chart.chart import Retrieval, Selection
from cds_hooks.chart.dates import is_duration
from cds_hooks.chart.search import SEARCHABLE, Query
from cds_hooks.errors import ContentError
from cds_hooks.reasoning import steps
from cds_hooks.reasoning.content import Package
from cds_hooks.reasoning.extensions import EXTENSIONS, VARIABLE, extension_values, parts_of
from cds_hooks.reasoning.fhirpath import Compiler, ExpressionError, names_in, parse
from cds_hooks.reasoning.plan import (
    INDICATORS,
    Change,
    Condition,
    DynamicValue,
    Fact,
    Group,
    Plan,
    Rule,
    Suggestion,
)  # fmt: skip
from cds_hooks.reasoning.silencing import circle_in
from cds_hooks.reasoning.terminology import Terminology

#: Names that every call has, with the types they may hold.
CALL_INPUTS: Final = {"selected": steps.ORDERS, "drafts": steps.ORDERS}
CALL_CONSTANTS: Final = {"hook": "string", "user": "string", "now": "dateTime", "today": "date"}
_ACTION_TYPES: Final = {"create": "create", "update": "update", "remove": "delete"}
#: What an activity may create: other requests have no `code`, `subject` or `requester` of the same shape.
_CREATED: Final = frozenset({"ServiceRequest"})


def compile_plan(package: Package, template_names: Mapping[str, frozenset[str]]) -> Plan:
    """Compile a package; `template_names` are the facts that each rule's card template reads, by topic code."""
    return _Compilation(package, template_names).plan()


class _Compilation:
    def __init__(self, package: Package, template_names: Mapping[str, frozenset[str]]) -> None:
        self.package = package
        self.template_names = template_names
        kinds = ("CodeSystem", "ValueSet", "ConceptMap")
        self.terminology = Terminology(pair for kind in kinds for pair in package.of_type(kind))
        self.activities = {pair[1]["url"]: pair for pair in package.of_type("ActivityDefinition")}
        self.queries, self.selections = self._library()
        self.parameters, self.parameter_types = self._parameters()
        self.constants = self._constants()
        self.types: dict[str, steps.Types] = {
            **{name: frozenset({selection.type}) for name, selection in
               ((selection.name, selection) for selection in self.selections)},
            **CALL_INPUTS,
            **{name: frozenset({kind}) for name, kind in CALL_CONSTANTS.items()},
            **self.parameter_types,
            **dict.fromkeys(self.constants.keys() - self.parameters.keys(), frozenset({"string"})),
        }  # fmt: skip
        inputs = {selection.name for selection in self.selections}
        self.inputs_of: dict[str, frozenset[str]] = {name: frozenset({name}) for name in inputs}
        fact_names = [variable["name"] for variable in self._variables()]
        sets = {f"vs-{value_set.id}": value_set for value_set in self.terminology.value_sets.values()}
        self.compiler = Compiler(frozenset({*inputs, *CALL_INPUTS, *fact_names}), sets)

    def plan(self) -> Plan:
        source = self.package.plan
        facts = self._facts()
        rules = tuple(self._rules())
        if not rules:
            raise ContentError("plan.yaml", "action", "the plan has no rule (an action with a code)")
        self._check_suppression(rules)
        retrieval = Retrieval(self.queries, self.selections, self.terminology.key)
        return Plan(
            id=source["id"], version=source.get("version", "0"), title=source.get("title", source["id"]),
            description=" ".join(source.get("description", "").split()), digest=self.package.digest,
            terminology=self.terminology, retrieval=retrieval, facts=facts, parameters=self.parameters,
            constants=self.constants, rules=rules,
            override_reasons=tuple(extension_values(source, "override-reason")),
            card_limit=self._card_limit(len(rules)),
            snooze=self._named("snooze", "a duration", is_duration),
            override_target=self._named("override-target", "a whole number from 1 to 100", _is_percentage),
            quiet=dict(self._quiet()), inputs_of=self.inputs_of, label=source.get("title", source["id"]),
            rules_by_hook={hook: tuple(rule for rule in rules if hook in rule.hooks)
                           for hook in {hook for rule in rules for hook in rule.hooks}},
        )  # fmt: skip

    # ---- what to ask for

    def _library(self) -> tuple[list[Query], list[Selection]]:
        queries: list[Query] = []
        selections: list[Selection] = []
        for number, requirement in enumerate(self.package.library.get("dataRequirement", ())):
            where, kind = f"dataRequirement[{number}]", requirement["type"]
            name = requirement.get("id")
            if not name or name in CALL_INPUTS or name in CALL_CONSTANTS:
                raise ContentError("library.yaml", where, "needs an id of its own: its name in expressions")
            if kind not in SEARCHABLE:
                raise ContentError("library.yaml", where, f"no search is known for {kind}")
            filters = requirement.get("codeFilter", [])
            paths = [item for item in filters if "path" in item]
            if "limit" in requirement or kind in ("Patient", "Encounter"):
                queries.append(self._query(where, name, requirement, filters))
            selections.append(self._selection(where, name, kind, paths))
        names = [selection.name for selection in selections]
        asked = [query.type for query in queries]
        for number, selection in enumerate(selections):
            where = f"dataRequirement[{number}]"
            if names.count(selection.name) > 1:
                raise ContentError("library.yaml", where, f"the name {selection.name} is used twice")
            if asked.count(selection.type) != 1:
                reason = f"{selection.type} needs exactly one entry with a limit: what to ask for"
                raise ContentError("library.yaml", where, reason)
        return queries, selections

    def _query(self, where: str, name: str, requirement: dict[str, Any], filters: list[dict[str, Any]]) -> Query:
        tokens = []
        for item in filters:
            if "searchParam" in item:
                value_set = self._value_set("library.yaml", where, item["valueSet"]) if "valueSet" in item else None
                codes = item.get("code", ())
                if not value_set and not all(coding.get("system") and coding.get("code") for coding in codes):
                    raise ContentError("library.yaml", where, "a code needs a system and a code")
                keys = sorted((s or "", c) for s, c in value_set.keys) if value_set else [
                    (coding["system"], coding["code"]) for coding in codes]  # fmt: skip
                tokens.append((item["searchParam"], tuple(f"{system}|{code}" for system, code in keys)))
        required = any(extension_values(requirement, "required"))
        return Query(name, requirement["type"], requirement.get("limit"), required, tuple(tokens))

    def _selection(self, where: str, name: str, kind: str, paths: list[dict[str, Any]]) -> Selection:
        if not paths:
            return Selection(name, kind)
        if len(paths) > 1 or "valueSet" not in paths[0]:
            raise ContentError("library.yaml", where, "one codeFilter with path and valueSet at most")
        value_set = self._value_set("library.yaml", where, paths[0]["valueSet"])
        path = paths[0]["path"]
        if steps.after(frozenset({kind}), path.split(".")[0]) is None:
            raise ContentError("library.yaml", where, f"{kind} has no element {path}")
        reads = value_set.found_in if value_set.pattern else None
        return Selection(name, kind, path, value_set.keys, value_set.prefixes, reads)

    def _value_set(self, file: str, where: str, url: str) -> Any:
        if url not in self.terminology.value_sets:
            raise ContentError(file, where, f"unknown value set {url}")
        return self.terminology.value_sets[url]

    # ---- names

    def _variables(self) -> Iterator[dict[str, Any]]:
        for extension in self.package.plan.get("extension", ()):
            if extension.get("url") == VARIABLE:
                yield extension["valueExpression"]

    def _parameters(self) -> tuple[dict[str, Any], dict[str, steps.Types]]:
        values: dict[str, Any] = {}
        types: dict[str, steps.Types] = {}
        for extension in self.package.plan.get("extension", ()):
            if extension.get("url") != EXTENSIONS + "parameter":
                continue
            parts = {part["url"]: part for part in extension["extension"]}
            name = parts["name"]["valueString"]
            key, value = next((key, value) for key, value in parts["value"].items() if key.startswith("value"))
            if key == "valueDuration" and not is_duration(value):
                raise ContentError("plan.yaml", f"parameter {name}", "a duration has a whole number and a unit of time")
            if name in values:
                raise ContentError("plan.yaml", f"parameter {name}", "defined twice")
            values[name] = value
            types[name] = frozenset({steps.type_of_key(key)})
        return values, types

    def _constants(self) -> dict[str, Any]:
        urls = {f"vs-{url.rsplit('/', 1)[-1]}": url for url in self.terminology.value_sets}
        maps = {f"cm-{url.rsplit('/', 1)[-1]}": url for url in self.terminology.concept_maps}
        return {**urls, **maps, **self.parameters}

    def _facts(self) -> dict[str, Fact]:
        facts: dict[str, Fact] = {}
        for number, variable in enumerate(self._variables()):
            name, where = variable["name"], f"extension[variable {number}: {variable['name']}]"
            if name in self.types:
                raise ContentError("plan.yaml", where, "the name is taken")
            condition = self._condition("plan.yaml", where, variable, frozenset())
            self.types[name] = steps.infer(parse(variable["expression"]), self.types, frozenset())
            self.inputs_of[name] = self._inputs(condition.names)
            facts[name] = Fact(name, condition)
        return facts

    def _inputs(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset(found for name in names for found in self.inputs_of.get(name, ()))

    def _condition(self, file: str, where: str, expression: Mapping[str, Any], this: steps.Types) -> Condition:
        text = expression.get("expression", "")
        if expression.get("language") != "text/fhirpath":
            raise ContentError(file, where, "only text/fhirpath is understood")
        try:
            tree = parse(text)
            unknown = [name for name in names_in(tree) if name not in self.types]
            if unknown:
                raise ExpressionError(f"unknown name %{unknown[0]}")
            steps.check(tree, self.types, this)
            compiled = self.compiler.compile(text)
        except ExpressionError as error:
            raise ContentError(file, where, f"{error} in «{' '.join(text.split())}»") from None
        return Condition(text, compiled, names_in(tree), expression.get("description", ""), where)

    # ---- rules

    def _rules(self) -> Iterator[Rule]:
        ids: set[str] = set()
        for rule in self._descend(self.package.plan.get("action", ()), "action", ()):
            if rule.id in ids:
                raise ContentError("plan.yaml", rule.element, f"the id {rule.id} is used twice")
            ids.add(rule.id)
            yield rule

    def _descend(self, actions: Sequence[dict[str, Any]], where: str, groups: tuple[Group, ...]) -> Iterator[Rule]:
        for number, action in enumerate(actions):
            if "id" not in action:
                raise ContentError("plan.yaml", f"{where}[{number}]", "an action needs an id")
            element = f"{where}[{action['id']}]"
            if "code" in action:
                yield self._rule(action, element, groups)
                continue
            one = action.get("selectionBehavior") == "at-most-one"
            group = Group(action["id"], self._conditions(action, element), one)
            yield from self._descend(action.get("action", ()), f"{element}.action", (*groups, group))

    def _conditions(
        self, action: Mapping[str, Any], element: str, this: steps.Types = frozenset(), file: str = "plan.yaml"
    ) -> tuple[Condition, ...]:
        return tuple(
            self._condition(file, f"{element}.condition[{number}]", condition.get("expression", {}), this)
            for number, condition in enumerate(action.get("condition", ()))
        )

    def _rule(self, action: dict[str, Any], element: str, groups: tuple[Group, ...]) -> Rule:
        topic: dict[str, Any] = next((coding for concept in action["code"] for coding in concept.get("coding", ())), {})
        if not topic.get("system") or not topic.get("code"):
            raise ContentError("plan.yaml", f"{element}.code", "a rule needs a topic: a coding with system and code")
        if action.get("priority") not in INDICATORS:
            raise ContentError("plan.yaml", f"{element}.priority", f"one of {', '.join(INDICATORS)} is needed")
        hooks = frozenset(trigger.get("name", "") for trigger in action.get("trigger", ()))
        conditions = self._conditions(action, element)
        if not hooks or not conditions:
            raise ContentError("plan.yaml", element, "a rule needs a trigger and a condition")
        evidence = tuple(item.get("label", "") for item in action.get("documentation", ()))
        if not evidence:
            raise ContentError("plan.yaml", f"{element}.documentation", "a rule needs evidence")
        suggestions = tuple(
            self._suggestion(inner, f"{element}.action[{inner.get('id', number)}]")
            for number, inner in enumerate(action.get("action", ()))
        )
        names = {name for condition in conditions for name in condition.names}
        names |= {name for suggestion in suggestions for name in _names_of(suggestion)}
        names |= self.template_names.get(topic["code"], frozenset())
        behavior = "any" if action.get("selectionBehavior") == "any" else "at-most-one"
        return Rule(
            id=action["id"], topic=topic, hooks=hooks, groups=groups, conditions=conditions,
            indicator=INDICATORS[action["priority"]], evidence=evidence, suggestions=suggestions,
            selection_behavior=behavior, suppresses=frozenset(extension_values(action, "suppresses")),
            title=action.get("title", ""), description=action.get("description", ""),
            reads=frozenset(names), element=element,
        )  # fmt: skip

    def _suggestion(self, action: dict[str, Any], element: str) -> Suggestion:
        if not action.get("title"):
            raise ContentError("plan.yaml", f"{element}.title", "a suggestion needs a title: the label of its button")
        changes = tuple(
            self._change(inner, f"{element}.action[{number}]") for number, inner in enumerate(action.get("action", ()))
        )
        if not changes:
            raise ContentError("plan.yaml", element, "a suggestion needs at least one action")
        return Suggestion(
            action["title"], action.get("precheckBehavior") == "yes", self._conditions(action, element), changes
        )

    def _change(self, action: dict[str, Any], element: str) -> Change:
        code = next((coding["code"] for coding in action.get("type", {}).get("coding", ())), None)
        if code not in _ACTION_TYPES:
            raise ContentError("plan.yaml", f"{element}.type", f"one of {', '.join(_ACTION_TYPES)} is needed")
        if not action.get("title"):
            raise ContentError("plan.yaml", f"{element}.title", "an action needs a title: what the user reads")
        kind = _ACTION_TYPES[code]
        target_source = next(extension_values(action, "target"), None)
        if (kind == "create") == (target_source is not None):
            raise ContentError("plan.yaml", element, "update and remove need a target, create has none")
        target = self._condition("plan.yaml", f"{element}.target", target_source, steps.ANY) if target_source else None
        this = steps.infer(parse(target.text), self.types, steps.ANY) if target else steps.ANY
        activity: dict[str, Any] | None = None
        values: tuple[DynamicValue, ...] = ()
        if "definitionCanonical" in action:
            activity, values = self._activity(element, action["definitionCanonical"], this)
        elif kind == "create":
            raise ContentError("plan.yaml", element, "create needs a definitionCanonical")
        own = self._values("plan.yaml", element, action.get("dynamicValue", ()), this, activity)
        conditions = self._conditions(action, element)
        return Change(kind, action["title"], conditions, target, activity, (*values, *own), element)

    def _activity(
        self, element: str, url: str, this: steps.Types
    ) -> tuple[dict[str, Any], tuple[DynamicValue, ...]]:
        if url not in self.activities:
            raise ContentError("plan.yaml", element, f"unknown activity {url}")
        file, activity = self.activities[url]
        if activity.get("kind") not in _CREATED:
            raise ContentError(file, f"{activity['id']}.kind", f"one of {', '.join(sorted(_CREATED))} is needed")
        return activity, self._values(file, activity["id"], activity.get("dynamicValue", ()), this, activity)

    def _values(
        self, file: str, element: str, values: Sequence[Mapping[str, Any]], this: steps.Types, activity: Any
    ) -> tuple[DynamicValue, ...]:
        found = []
        for number, value in enumerate(values):
            where = f"{element}.dynamicValue[{number}]"
            if not value.get("path") or "expression" not in value:
                raise ContentError(file, where, "a dynamic value needs a path and an expression")
            kinds = this or frozenset({activity["kind"] if activity else "ServiceRequest"})
            if "[-]" in value["path"] and not value["path"].endswith("[-]"):
                raise ContentError(file, where, "[-] ends a path: whole entries are taken away")
            root = value["path"].replace("[+]", "").replace("[-]", "").split(".")[0]
            if steps.after(kinds, root) is None:
                raise ContentError(file, where, f"no element {root} in {', '.join(sorted(kinds))}")
            found.append(DynamicValue(value["path"], self._condition(file, where, value["expression"], this)))
        return tuple(found)

    def _check_suppression(self, rules: Sequence[Rule]) -> None:
        known = {rule.id for rule in rules} | {group.id for rule in rules for group in rule.groups}
        for rule in rules:
            for name in sorted(rule.suppresses - known):
                raise ContentError("plan.yaml", rule.element, f"suppresses the unknown rule or group {name}")
        circle = circle_in(rules)
        if circle:
            reason = f"rules that silence each other in a circle: {', '.join(circle)}"
            raise ContentError("plan.yaml", next(rule.element for rule in rules if rule.id == circle[0]), reason)

    def _quiet(self) -> Iterator[tuple[str, str]]:
        for extension in self.package.plan.get("extension", ()):
            if extension.get("url") == EXTENSIONS + "quiet":
                parts = parts_of(extension)
                if parts["below"] not in INDICATORS:
                    raise ContentError("plan.yaml", "quiet.below", f"one of {', '.join(INDICATORS)} is needed")
                yield parts["hook"], INDICATORS[parts["below"]]

    def _named(self, name: str, kind: str, fits: Callable[[Any], bool]) -> str | None:
        """The parameter that an extension of the plan names, None without the extension."""
        found = list(extension_values(self.package.plan, name))
        if len(found) > 1:
            raise ContentError("plan.yaml", name, "once at most")
        if not found:
            return None
        if not fits(self.parameters.get(found[0])):
            raise ContentError("plan.yaml", name, f"must name a parameter that is {kind}")
        return str(found[0])

    def _card_limit(self, without: int) -> int:
        found = list(extension_values(self.package.plan, "card-limit"))
        if len(found) > 1 or not all(isinstance(limit, int) and limit >= 1 for limit in found):
            raise ContentError("plan.yaml", "card-limit", "one whole number from 1")
        return found[0] if found else without


def _is_percentage(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100


def _names_of(suggestion: Suggestion) -> Iterator[str]:
    conditions = list(suggestion.conditions)
    for change in suggestion.changes:
        conditions += [*change.conditions, *([change.target] if change.target else [])]
        conditions += [value.condition for value in change.values]
    for condition in conditions:
        yield from condition.names


def with_parameters(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """The plan with some parameters set otherwise; raises ContentError for a name that it does not have."""
    for name, value in sorted(changes.items()):
        where, known = f"parameter {name}", plan.parameters.get(name)
        if name not in plan.parameters:
            raise ContentError("plan.yaml", where, "the plan has no such parameter")
        if type(value) is not type(known) or (is_duration(known) and not is_duration(value)):
            raise ContentError("plan.yaml", where, f"must be of the same kind as {known!r}")
    parameters = {**plan.parameters, **changes}
    return dataclasses.replace(plan, parameters=parameters, constants={**plan.constants, **changes})
