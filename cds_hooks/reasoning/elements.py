"""The values of elements, read from FHIR JSON by their name in FHIRPath: `onset` stands there as `onsetDateTime`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fhirpathpy.engine.nodes import ResourceNode
from fhirpathpy.models import models

from cds_hooks.reasoning.functions import raw

R4: Final = models["r4"]
_CHOICES: Final[Mapping[str, list[str]]] = R4["choiceTypePaths"]
_ELSEWHERE: Final[Mapping[str, str]] = R4["pathsDefinedElsewhere"]
_TYPES: Final[Mapping[str, str]] = R4["path2Type"]


def values_of(this: list[Any], steps: tuple[str, ...], kinds: tuple[str, ...]) -> list[Any]:
    """The values of a plain path, as JSON."""
    values = [raw(item) for item in this]
    for step in steps:
        if len(values) == 1:
            values = element_of(values[0], step, kinds) if isinstance(values[0], dict) else []
        else:
            values = [value for item in values if isinstance(item, dict) for value in element_of(item, step, kinds)]
    return values


def element_of(item: dict[str, Any], step: str, kinds: tuple[str, ...]) -> list[Any]:
    """An element's values as a list; `kinds` are the types to try for a choice element."""
    value = item.get(step)
    if value is None and kinds:
        value = next((item[step + kind] for kind in kinds if step + kind in item), None)
    if isinstance(value, list):
        return [one for one in value if one is not None]
    return [] if value is None else [value]


def typed(item: Any, element: str) -> list[Any]:
    """The values of an element, each with its R4 type, as fhirpathpy would give them."""
    data = raw(item)
    if not isinstance(data, dict):
        return []
    owner = data.get("resourceType") or (item.path if isinstance(item, ResourceNode) else None)
    path = f"{owner}.{element}"
    path = _ELSEWHERE.get(path, path)
    kinds = _CHOICES.get(path)
    if kinds is None:
        value = data.get(element)
    else:  # `onset` stands in JSON as `onsetDateTime`
        chosen = next((kind for kind in kinds if data.get(element + kind) is not None), "")
        value = data.get(element + chosen) if chosen else None
        path += chosen
    if value is None:
        return []
    kind = _TYPES.get(path, path)
    if isinstance(value, list):
        return [ResourceNode.create_node(one, kind) for one in value if one is not None]
    return [ResourceNode.create_node(value, kind)]


def ancestry(kind: str) -> list[str]:
    """A type of R4 and those it derives from: Observation, DomainResource, Resource."""
    found = [kind]
    while (above := R4["type2Parent"].get(found[-1])) and above not in found:
        found.append(above)
    return found
