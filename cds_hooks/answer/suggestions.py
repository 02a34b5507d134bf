"""Suggestions to actions: drafts created from activities, orders updated as a whole, orders removed.

An update returns the client's whole draft: same id, unknown elements kept, nothing lost but what it replaces.
A `path` of a dynamic value replaces its root element; `root[+]` appends one entry to a list instead, `root[-]` takes
the entries that the expression gives away from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cds_hooks.chart.reading import as_list, codings, name_of
from cds_hooks.protocol.response import Pruned, prune, pruned
from cds_hooks.reasoning.evaluation import Evaluation
from cds_hooks.reasoning.plan import Change, DynamicValue, Suggestion

_LISTS: Final = frozenset({  # elements of request resources that repeat (R4)
    "basedOn", "bodySite", "category", "contained", "extension", "identifier", "insurance", "locationCode", "note",
    "orderDetail", "performer", "reasonCode", "reasonReference", "relevantHistory", "replaces", "specimen",
    "supportingInfo", "coding", "performerInstruction",
})  # fmt: skip


@dataclass(slots=True)  # not frozen: made in each call, and nobody changes it
class Requested:
    """Who the new orders are for: what a created resource needs from the call."""

    patient_id: str
    user_id: str
    encounter_id: str | None


def actions_of(suggestion: Suggestion, evaluation: Evaluation, requested: Requested) -> list[dict[str, Any]] | None:
    """The actions of a suggestion as CDS Hooks JSON; None when it cannot be offered as meant.

    A change whose own condition is not true is left out. A change that should happen but cannot (no code in the
    order's own system) takes the whole suggestion with it: half an order set would mislead.
    """
    if evaluation.all_of(suggestion.conditions) is not True:
        return None
    actions: list[dict[str, Any]] = []
    for change in suggestion.changes:
        if evaluation.all_of(change.conditions) is not True:
            continue
        found = _changed(change, evaluation, requested, {name for action in actions if (name := _created(action))})
        if not found:
            return None
        actions += found
    return actions or None


def _created(action: Mapping[str, Any]) -> str | None:
    return name_of(action.get("resource"))


def _changed(
    change: Change, evaluation: Evaluation, requested: Requested, taken: set[str]
) -> list[dict[str, Any]]:
    if change.target is None:
        resource = _create(change, evaluation, requested, taken)
        return [{"type": "create", "description": change.description, "resource": resource}] if resource else []
    targets = evaluation.items(change.target, []) or []
    if change.kind == "delete":
        return [{"type": "delete", "description": change.description, "resourceId": name}
                for target in targets if (name := name_of(target))]  # fmt: skip
    updated = [_update(change, evaluation, target) for target in targets if name_of(target)]
    if any(resource is None for resource in updated):
        return []
    return [{"type": "update", "description": change.description, "resource": resource} for resource in updated]


def _create(change: Change, evaluation: Evaluation, requested: Requested, taken: set[str]) -> dict[str, Any] | None:
    activity = change.activity or {}
    kind = activity["kind"]
    resource: dict[str, Any] = {
        "resourceType": kind, "id": _free_id(kind, activity["id"], evaluation, taken), "status": "draft",
        "intent": activity.get("intent", "order"), "subject": {"reference": f"Patient/{requested.patient_id}"},
        "requester": {"reference": requested.user_id},
    }  # fmt: skip
    if requested.encounter_id:
        resource["encounter"] = {"reference": f"Encounter/{requested.encounter_id}"}
    if "code" in activity:
        resource["code"] = prune(_in_order_system(activity["code"], evaluation))
    if not _apply(change.values, evaluation, resource, []):
        return None
    return Pruned(resource)  # as all that was put in


def _free_id(kind: str, identity: str, evaluation: Evaluation, taken: set[str]) -> str:
    """The activity's id, made different from every draft's: the same request gives the same ids."""
    used = {name_of(draft) for draft in evaluation.chart.drafts} | taken
    name, number = identity, 2
    while f"{kind}/{name}" in used:
        name, number = f"{identity}-{number}", number + 1
    return name


def _in_order_system(concept: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """The activity's code in the code system that the selected orders use; else its first, preferred coding."""
    offered = concept.get("coding", [])
    name = evaluation.terminology.system
    used = [name(system) for order in evaluation.asked.selected for system, _ in codings(order.get("code"))]
    chosen = next((coding for system in used for coding in offered if name(coding.get("system")) == system), None)
    return {**concept, "coding": [chosen or offered[0]]} if offered else dict(concept)


def _update(change: Change, evaluation: Evaluation, target: dict[str, Any]) -> dict[str, Any] | None:
    resource = pruned(target)  # a copy
    return resource if _apply(change.values, evaluation, resource, [target]) else None


def _apply(
    values: Sequence[DynamicValue], evaluation: Evaluation, resource: dict[str, Any], this: list[Any]
) -> bool:
    """Put the dynamic values into the resource. False when a replaced element would stay without a value."""
    fresh: dict[str, Any] = {}  # root or root[+] → the new entry that later values fill further
    for value in values:
        root, _, rest = value.path.partition(".")
        found = evaluation.items(value.condition, this) or ()
        items = [item for item in map(prune, found) if item is not None]
        if not items:
            if root.endswith(("[+]", "[-]")) or rest or not this:
                continue
            return False
        _put(resource, fresh, root, rest, items)
    return True


def _put(resource: dict[str, Any], fresh: dict[str, Any], root: str, rest: str, items: list[Any]) -> None:
    name, append = root.removesuffix("[+]"), root.endswith("[+]")
    if root.endswith("[-]"):
        name = root.removesuffix("[-]")
        resource[name] = [item for item in as_list(resource.get(name)) if item not in items]
        if not resource[name]:
            del resource[name]
        return
    repeats = name in _LISTS
    if not rest:
        if append:
            known = as_list(resource.get(name))
            resource[name] = known + [item for item in items if item not in known]
        else:
            resource[name] = list(items) if repeats else items[0]
        return
    *steps, last = rest.split(".")
    if append and len(items) > 1 and not steps and last not in _LISTS:  # one entry per value: several references
        resource[name] = as_list(resource.get(name)) + [{last: item} for item in items]
        return
    if root not in fresh:
        fresh[root] = {}
        known = as_list(resource.get(name)) if append else []
        resource[name] = [*known, fresh[root]] if repeats else fresh[root]
    node = fresh[root]
    for step in steps:
        node = node.setdefault(step, {})
    node[last] = list(items) if last in _LISTS else items[0]
