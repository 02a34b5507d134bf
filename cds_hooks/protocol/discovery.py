"""What the server offers (https://cds-hooks.hl7.org/2.0/#discovery)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cds_hooks.protocol.hooks import Hook

#: Version of CDS Hooks that this server implements, as SemVer.
SPECIFICATION = "2.0.1"


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One service. `prefetch` maps a key to a FHIR query with `{{context.x}}` tokens."""

    id: str
    hook: Hook
    title: str
    description: str
    prefetch: Mapping[str, str]
    usage_requirements: str


def discovery(services: Sequence[ServiceEntry]) -> dict[str, Any]:
    """Return the discovery body: {"services": [...]}; nothing in a service is null or empty."""
    return {"services": [_entry(service) for service in services]}


def _entry(service: ServiceEntry) -> dict[str, Any]:
    members = {
        "hook": service.hook.name,
        "id": service.id,
        "title": service.title,
        "description": service.description,
        "prefetch": {key: query for key, query in service.prefetch.items() if query},
        "usageRequirements": service.usage_requirements,
        "version": SPECIFICATION,
        "hookVersion": service.hook.version,
    }
    return {name: value for name, value in members.items() if value}
