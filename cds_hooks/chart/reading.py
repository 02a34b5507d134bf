"""Tolerant reading of FHIR JSON as real servers and clients send it: nothing here ever raises on odd data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

#: Where a resource says when it happened: the FiveWs.done[x] mapping of FHIR R4, then what comes nearest to it.
_DONE: Final = {
    "Condition": ("onsetDateTime", "onsetPeriod", "recordedDate"),
    "DiagnosticReport": ("effectiveDateTime", "effectivePeriod", "issued"),
    "ImagingStudy": ("started",),
    "MedicationAdministration": ("effectiveDateTime", "effectivePeriod"),
    "MedicationRequest": ("authoredOn",),
    "Observation": ("effectiveDateTime", "effectivePeriod", "effectiveInstant", "issued"),
    "Procedure": ("performedDateTime", "performedPeriod"),
    "ServiceRequest": ("occurrenceDateTime", "occurrencePeriod", "authoredOn"),
}


def as_list(value: Any) -> list[Any]:
    """A list as it is, nothing as [], anything else as its only item (an object where a list is due)."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def codings(concept: Any) -> list[tuple[str | None, str]]:
    """(system, code) of each usable coding of a CodeableConcept or Coding."""
    if not isinstance(concept, dict):
        return []
    found: list[tuple[str | None, str]] = []
    for coding in as_list(concept.get("coding", concept)):
        if isinstance(coding, dict) and isinstance(code := coding.get("code"), str):
            system = coding.get("system")
            found.append((system if isinstance(system, str) else None, code))
    return found


def texts(concept: Any) -> Iterator[str]:
    """The words of a concept: its text, then the displays of its codings; a plain string is its own text."""
    if isinstance(concept, str):
        yield concept
    elif isinstance(concept, dict):
        listed = concept.get("coding")
        for item in (concept, *listed) if isinstance(listed, list) else (concept, listed):
            if isinstance(item, dict):
                if isinstance(word := item.get("text"), str) and word.strip():
                    yield word
                if isinstance(word := item.get("display"), str) and word.strip():
                    yield word


def values_at(resource: dict[str, Any], path: str) -> list[Any]:
    """All values at a dotted path; `medication` stands for medication[x] with a CodeableConcept."""
    found: list[Any] = [resource]
    for step in path.split("."):
        found = [
            item
            for node in found
            if isinstance(node, dict)
            for item in as_list(node.get(step, node.get(step + "CodeableConcept")))
        ]
    return found


def done_at(resource: Any) -> Any:
    """The date or Period when the resource's event happened, None if it does not say."""
    if not isinstance(resource, dict):
        return None
    kind = resource.get("resourceType")
    keys = _DONE.get(kind, ()) if isinstance(kind, str) else ()
    return next((resource[key] for key in keys if resource.get(key)), None)


def name_of(resource: Any) -> str | None:
    """`Type/id` of a resource, None when it lacks either."""
    if isinstance(resource, dict):
        kind, identity = resource.get("resourceType"), resource.get("id")
        if isinstance(kind, str) and isinstance(identity, str):
            return f"{kind}/{identity}"
    return None


def local_reference(reference: Any) -> str | None:
    """`Type/id` that a Reference points at (relative or absolute, version dropped), None if it names none."""
    target = reference.get("reference") if isinstance(reference, dict) else reference
    if not isinstance(target, str) or target.startswith(("#", "urn:")):
        return None
    parts = target.split("/_history/")[0].rstrip("/").split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 and all(parts[-2:]) else None


def subject_of(resource: dict[str, Any]) -> str | None:
    """`Patient/id` that the resource is about, None if it does not say."""
    if resource.get("resourceType") == "Patient":
        return name_of(resource)
    return local_reference(resource.get("subject") or resource.get("patient"))
