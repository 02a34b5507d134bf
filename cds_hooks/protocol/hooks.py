"""The hook catalogue: one row per hook of the CDS Hooks library that this engine can serve.

A row names the context fields of the hook, of which kind each is, and which attribute of
`protocol.request.HookRequest` it fills. Adding a hook is adding a row; the request checks read the rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: user        "Type/id"                        -> str
#: id          a bare FHIR id                   -> str
#: references  a non-empty list of "Type/id"    -> tuple of those that name a draft order
#: orders      a Bundle of draft resources      -> tuple of resources
Kind = Literal["user", "id", "references", "orders"]

Attribute = Literal["user_id", "patient_id", "encounter_id", "selections", "drafts"]


@dataclass(frozen=True, slots=True)
class ContextField:
    """One field of `context`. A malformed field is refused if required, else ignored."""

    name: str
    kind: Kind
    fills: Attribute
    required: bool = True


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook with its published version (https://cds-hooks.org/hooks) and the context fields that are read."""

    name: str
    version: str = "1.0"
    fields: tuple[ContextField, ...] = ()


USER = ContextField("userId", "user", "user_id")
PATIENT = ContextField("patientId", "id", "patient_id")
ENCOUNTER = ContextField("encounterId", "id", "encounter_id", required=False)
SELECTIONS = ContextField("selections", "references", "selections")
DRAFT_ORDERS = ContextField("draftOrders", "orders", "drafts")

#: name -> row
HOOKS: dict[str, Hook] = {
    hook.name: hook
    for hook in (
        Hook("patient-view", fields=(USER, PATIENT, ENCOUNTER)),
        Hook("order-select", fields=(USER, PATIENT, ENCOUNTER, SELECTIONS, DRAFT_ORDERS)),
        Hook("order-sign", fields=(USER, PATIENT, ENCOUNTER, DRAFT_ORDERS)),
    )
}
