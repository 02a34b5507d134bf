"""The product's own FHIR extensions: which there are, where each may stand and what it holds.

A misspelt extension is still valid FHIR and would be passed over in silence: a `requird` that requires nothing. So
every extension under our base that is not in the table, stands elsewhere or holds something else is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cds_hooks.errors import ContentError

EXTENSIONS: Final = "https://cds-hooks.example.org/fhir/StructureDefinition/"
VARIABLE: Final = "http://hl7.org/fhir/StructureDefinition/variable"

#: name → (the elements that may carry it, its value: a key, or the key of each part; `value` stands for any type)
_KNOWN: Final[Mapping[str, tuple[tuple[str, ...], str | Mapping[str, str]]]] = {
    "parameter": (("PlanDefinition",), {"name": "valueString", "value": "value", "description": "valueString"}),
    "card-limit": (("PlanDefinition",), "valueInteger"),
    "snooze": (("PlanDefinition",), "valueString"),
    "override-target": (("PlanDefinition",), "valueString"),
    "quiet": (("PlanDefinition",), {"hook": "valueString", "below": "valueCode"}),
    "override-reason": (("PlanDefinition",), "valueCoding"),
    "suppresses": (("PlanDefinition.action",), "valueString"),
    "target": (("PlanDefinition.action",), "valueExpression"),
    "required": (("Library.dataRequirement",), "valueBoolean"),
    "text-pattern": (("ValueSet",), "valueString"),
    "verified-in": (("ValueSet.compose.include", "ValueSet.compose.include.concept"), "valueString"),
    "ignored-characters": (("CodeSystem",), "valueString"),
    "hierarchy-by-prefix": (("CodeSystem",), "valueBoolean"),
    "alias": (("CodeSystem",), "valueUri"),
    "refining-attribute": (("CodeSystem",), "valueCode"),
}


def extension_values(element: Mapping[str, Any], name: str) -> Iterator[Any]:
    """The values of our own extension `name` on an element."""
    for extension in element.get("extension", ()):
        if extension.get("url") == EXTENSIONS + name:
            yield next((value for key, value in extension.items() if key.startswith("value")), None)


def parts_of(extension: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an extension made of parts, by name of the part."""
    return {part["url"]: next(value for key, value in part.items() if key.startswith("value"))
            for part in extension["extension"]}  # fmt: skip


def check_extensions(file: str, resource: Mapping[str, Any]) -> None:
    """Raise ContentError for the first extension of a resource that is not in the table; see the module."""
    for host, where, extension in _found(resource, str(resource["resourceType"]), str(resource.get("id", ""))):
        url = str(extension.get("url", ""))
        if url == VARIABLE:
            _check_variable(file, where, extension)
        elif url.startswith(EXTENSIONS):
            _check(file, host, where, url.removeprefix(EXTENSIONS), extension)


def _found(element: Mapping[str, Any], host: str, where: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for number, extension in enumerate(element.get("extension", ())):
        yield host, f"{where}.extension[{number}]", extension
    for key, value in element.items():
        inner = host if host.endswith(f".{key}") else f"{host}.{key}"  # an action in an action is an action
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            if key != "extension" and isinstance(item, dict):
                yield from _found(item, inner, f"{where}.{key}[{item.get('id', number)}]")


def _check(file: str, host: str, where: str, name: str, extension: Mapping[str, Any]) -> None:
    if name not in _KNOWN:
        raise ContentError(file, where, f"there is no extension {name!r}; known are {', '.join(sorted(_KNOWN))}")
    hosts, shape = _KNOWN[name]
    if host not in hosts:
        raise ContentError(file, where, f"{name} belongs to {' or '.join(hosts)}, not to {host}")
    if isinstance(shape, str):
        if shape not in extension:
            raise ContentError(file, where, f"{name} needs a {shape}")
        return
    parts = {part.get("url"): part for part in extension.get("extension", ())}
    if set(parts) != set(shape) or len(parts) != len(extension["extension"]):
        raise ContentError(file, where, f"{name} has the parts {', '.join(shape)}, each once")
    for part, key in shape.items():
        if not any(name_of.startswith(key) for name_of in parts[part]):
            raise ContentError(file, where, f"the part {part} of {name} needs a {key}{'[x]' * (key == 'value')}")


def _check_variable(file: str, where: str, extension: Mapping[str, Any]) -> None:
    expression = extension.get("valueExpression", {})
    if not expression.get("name") or not expression.get("expression"):
        raise ContentError(file, where, "a variable needs a valueExpression with name and expression")
