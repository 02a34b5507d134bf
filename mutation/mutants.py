"""All small changes to a plan's content that some case ought to notice. Nothing on disk is touched."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cds_hooks.reasoning.content import Package
from cds_hooks.reasoning.extensions import EXTENSIONS, VARIABLE
from mutation.operands import removals

Path = tuple[str | int, ...]
REMOVED: Final = object()
#: A code that no chart holds: stands in where a set would be left empty and could not be loaded.
_NEVER: Final = {"system": "urn:mutation", "concept": [{"code": "never"}]}
_UNLIMITED: Final = 99


@dataclass(frozen=True)
class Mutant:
    """One change: `path` in the plan (`resource` None) or in one of the package's resources gets `value`."""

    id: str
    kind: str
    change: str
    resource: int | None
    path: Path
    value: Any
    names: frozenset[str]  # rules, facts and value sets (`vs-x`) that are touched first
    needs: str = ""  # the fact or rule that a call must ask for, if it is to answer otherwise


def mutants(package: Package) -> list[Mutant]:
    """All mutants of a package, in the order of the content; ids are readable, unique and stable."""
    found = [*_plan(package.plan), *_value_sets(package), *_activities(package)]
    count: Counter[str] = Counter()
    result = []
    for mutant in found:
        count[mutant.id] += 1
        again = f" #{count[mutant.id]}" if count[mutant.id] > 1 else ""
        result.append(dataclasses.replace(mutant, id=mutant.id + again))
    return result


def apply(package: Package, mutant: Mutant) -> Package:
    """The package with the change; everything that is not on its path is shared, not copied."""
    if mutant.resource is None:
        return dataclasses.replace(package, plan=_changed(package.plan, mutant.path, mutant.value))
    file, resource = package.resources[mutant.resource]
    resources = list(package.resources)
    resources[mutant.resource] = (file, _changed(resource, mutant.path, mutant.value))
    return dataclasses.replace(package, resources=tuple(resources))


def _changed(node: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    copied: Any = list(node) if isinstance(node, list) else dict(node)
    if len(path) == 1 and value is REMOVED:
        del copied[path[0]]
    else:
        copied[path[0]] = _changed(node[path[0]], path[1:], value)
    return copied


# ---- the plan


def _plan(plan: Mapping[str, Any]) -> Iterator[Mutant]:
    for number, extension in enumerate(plan.get("extension", ())):
        path: Path = ("extension", number)
        if extension["url"] == VARIABLE:
            variable = extension["valueExpression"]
            yield from _needing(variable["name"], _fact(variable, (*path, "valueExpression")))
        elif extension["url"] == EXTENSIONS + "parameter":
            yield from _parameter(extension, path)
        elif extension["url"] == EXTENSIONS + "card-limit":
            change = f"{extension['valueInteger']} → {_UNLIMITED}"
            yield _of_plan("plan.yaml card-limit raised", "precedence", change, (*path, "valueInteger"), _UNLIMITED)
        elif extension["url"] == EXTENSIONS + "quiet":
            hook = next(part["valueString"] for part in extension["extension"] if part["url"] == "hook")
            yield _of_plan(f"plan.yaml quiet {hook} removed", "precedence", hook, path, REMOVED)
    yield from _actions(plan.get("action", ()), ("action",))


def _of_plan(name: str, kind: str, change: str, path: Path, value: Any, *names: str) -> Mutant:
    return Mutant(name, kind, " ".join(change.split()), None, path, value, frozenset(names))


def _needing(name: str, found: Iterator[Mutant]) -> Iterator[Mutant]:
    for mutant in found:
        yield dataclasses.replace(mutant, needs=name)


def _fact(variable: Mapping[str, Any], path: Path) -> Iterator[Mutant]:
    name, text = variable["name"], variable["expression"]
    yield _of_plan(f"plan.yaml fact {name} emptied", "fact", f"instead of: {text}", (*path, "expression"), "{}", name)
    yield from _operands(f"plan.yaml fact {name}", text, (*path, "expression"), name)


def _operands(where: str, text: str, path: Path, *names: str) -> Iterator[Mutant]:
    for found in removals(text):
        kind = f"operand of {'and' if found.path.rpartition('.')[2].startswith('and') else 'or'}"
        yield _of_plan(f"{where} {found.path} removed", kind, f"without: {found.operand}", path, found.left, *names)


def _parameter(extension: Mapping[str, Any], path: Path) -> Iterator[Mutant]:
    parts = {part["url"]: (number, part) for number, part in enumerate(extension["extension"])}
    name = parts["name"][1]["valueString"]
    number, part = parts["value"]
    where, inner = f"plan.yaml parameter {name}", (*path, "extension", number)
    if "valueDuration" in part:
        value = part["valueDuration"]["value"]
        for word, changed in (("doubled", value * 2), ("halved", value // 2)):
            change = f"{value} → {changed} {part['valueDuration']['unit']}"
            target: Path = (*inner, "valueDuration", "value")
            yield _of_plan(f"{where} {word}", "parameter", change, target, changed, name)
    elif "valueBoolean" in part:
        flipped = not part["valueBoolean"]
        yield _of_plan(f"{where} flipped", "parameter", f"→ {flipped}", (*inner, "valueBoolean"), flipped, name)
    elif "valueInteger" in part:
        value = part["valueInteger"]
        for word, changed in (("raised by half", value + value // 2), ("cut by half", value - value // 2)):
            yield _of_plan(
                f"{where} {word}", "parameter", f"{value} → {changed}", (*inner, "valueInteger"), changed, name
            )


def _actions(actions: Sequence[Mapping[str, Any]], path: Path) -> Iterator[Mutant]:
    for number, action in enumerate(actions):
        here: Path = (*path, number)
        if "code" in action:
            yield from _needing(action["id"], _rule(action, here))
            continue
        where = f"plan.yaml gate {action['id']}"
        yield from _conditions(where, "gate condition", action, here)
        if action.get("selectionBehavior") == "at-most-one":
            name = f"plan.yaml group {action['id']} at-most-one removed"
            yield _of_plan(name, "precedence", "all of the group may speak", (*here, "selectionBehavior"), REMOVED)
        yield from _actions(action.get("action", ()), (*here, "action"))


def _conditions(where: str, kind: str, action: Mapping[str, Any], path: Path, *names: str) -> Iterator[Mutant]:
    for number, condition in enumerate(action.get("condition", ())):
        text = condition["expression"]["expression"]
        target: Path = (*path, "condition", number, "expression", "expression")
        name = f"{where} condition[{number + 1}]"
        yield _of_plan(f"{name} removed", kind, f"without: {text}", target, "true", *names)
        yield _of_plan(f"{name} negated", kind, f"({text}).not()", target, f"({text}).not()", *names)
        yield from _operands(name, text, target, *names)


def _rule(action: Mapping[str, Any], path: Path) -> Iterator[Mutant]:
    rule = action["id"]
    where = f"plan.yaml rule {rule}"
    yield from _conditions(where, "rule condition", action, path, rule)
    loudness = "urgent" if action["priority"] == "routine" else "routine"
    change = f"{action['priority']} → {loudness}"
    yield _of_plan(f"{where} priority changed", "priority", change, (*path, "priority"), loudness, rule)
    triggers = action["trigger"]
    for number, trigger in enumerate(triggers if len(triggers) > 1 else ()):  # a rule needs one
        name = f"{where} trigger {trigger['name']} removed"
        yield _of_plan(name, "trigger", trigger["name"], (*path, "trigger", number), REMOVED, rule)
    for number, extension in enumerate(action.get("extension", ())):
        if extension["url"] == EXTENSIONS + "suppresses":
            name = f"{where} suppresses {extension['valueString']} removed"
            yield _of_plan(name, "precedence", extension["valueString"], (*path, "extension", number), REMOVED, rule)
    for number, suggestion in enumerate(action.get("action", ())):
        here: Path = (*path, "action", number)
        yield from _suggestion(f"{where} suggestion[{number + 1}]", suggestion, here, rule)


def _suggestion(where: str, suggestion: Mapping[str, Any], path: Path, rule: str) -> Iterator[Mutant]:
    yield from _conditions(where, "suggestion condition", suggestion, path, rule)
    changes = suggestion.get("action", ())
    if len(changes) == 1:  # a suggestion without any action cannot be loaded
        yield _of_plan(f"{where} removed", "suggestion", suggestion["title"], path, REMOVED, rule)
    for number, change in enumerate(changes):
        here: Path = (*path, "action", number)
        name = f"{where} action[{number + 1}]"
        if len(changes) > 1:
            yield _of_plan(f"{name} removed", "suggestion", change["title"], here, REMOVED, rule)
        yield from _conditions(name, "suggestion condition", change, here, rule)
        for position, value in enumerate(change.get("dynamicValue", ())):
            text = f"{value['path']} = {value['expression']['expression']}"
            target: Path = (*here, "dynamicValue", position)
            yield _of_plan(f"{name} value {value['path']} removed", "suggested value", text, target, REMOVED, rule)


# ---- value sets, concept maps, activities


def _value_sets(package: Package) -> Iterator[Mutant]:
    for number, (file, resource) in enumerate(package.resources):
        if resource["resourceType"] == "ValueSet":
            for name, kind, change, path, value in _value_set(resource):
                where = f"{file} {resource['id']} {name}"
                yield Mutant(where, kind, change, number, path, value, frozenset({f"vs-{resource['id']}"}))


def _value_set(resource: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Path, Any]]:
    patterns = [number for number, extension in enumerate(resource.get("extension", ()))
                if extension["url"] == EXTENSIONS + "text-pattern"]  # fmt: skip
    includes = resource.get("compose", {}).get("include", ())
    alone = len(patterns) + len(includes) == 1
    for number in patterns:
        text = resource["extension"][number]["valueString"]
        path: Path = ("extension", number)
        target, value = ((*path, "valueString"), "(?!)") if alone else (path, REMOVED)
        yield "text pattern removed", "text pattern", text, target, value
    for number, include in enumerate(includes):
        path = ("compose", "include", number)
        yield from _include(include, path, _NEVER if alone else REMOVED)


def _include(include: Mapping[str, Any], path: Path, instead: Any) -> Iterator[tuple[str, str, str, Path, Any]]:
    system = _short(include.get("system", ""))
    if "valueSet" in include:
        member = _short(include["valueSet"][0])
        yield f"member {member} removed", "member set", member, path, instead
    if "concept" in include:
        codes = ", ".join(concept["code"] for concept in include["concept"])
        yield f"codes {system} removed", "code group", codes, path, instead
    for condition in include.get("filter", ()):
        value = condition["value"]
        yield f"filter {system} {value} removed", "code filter", f"is-a {value}", path, instead


def _activities(package: Package) -> Iterator[Mutant]:
    for number, (file, resource) in enumerate(package.resources):
        where = f"{file} {resource['id']}"
        if resource["resourceType"] == "ConceptMap":
            for position, group in enumerate(resource["group"]):
                name = f"{where} group {_short(group['source'])} removed"
                path: Path = ("group", position)
                yield Mutant(name, "code map", group["source"], number, path, REMOVED, frozenset())
        if resource["resourceType"] == "ActivityDefinition":
            yield from _activity(where, number, resource)


def _activity(where: str, number: int, resource: Mapping[str, Any]) -> Iterator[Mutant]:
    offered = resource["code"]["coding"]
    for position, coding in enumerate(offered if len(offered) > 1 else ()):
        name = f"{where} code {_short(coding['system'])} removed"
        path: Path = ("code", "coding", position)
        yield Mutant(name, "activity code", coding["code"], number, path, REMOVED, frozenset())
    for position, value in enumerate(resource.get("dynamicValue", ())):
        name = f"{where} value {value['path']} removed"
        text = f"{value['path']} = {value['expression']['expression']}"
        yield Mutant(name, "suggested value", text, number, ("dynamicValue", position), REMOVED, frozenset())


def _short(system: str) -> str:
    return system.rpartition("/")[2]
