"""Acting as an EHR: a hook call for a patient of any FHIR server, answered in this process, shown as text.

For trying the plans against a sandbox or a test server. Nothing is sent as prefetch, so that everything is fetched.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from cds_hooks.errors import CdsHooksError
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import parse_request
from cds_hooks.service import CdsService
from cds_hooks.settings import Fhir, load_settings
from cds_hooks.wsgi import build_service

#: The user whose id the call carries if none is named. It need not exist.
USER: Final = "Practitioner/example"


def order_of(text: str, number: int, patient: str) -> dict[str, Any]:
    """A draft ServiceRequest from `SYSTEM|CODE` or plain words; its id is `order-<number>`."""
    system, bar, code = text.rpartition("|")
    if not text.strip() or (bar and not (system and code)):
        raise CdsHooksError("--order: SYSTEM|CODE, or the words of an order without a code")
    concept = {"coding": [{"system": system, "code": code}]} if bar else {"text": text}
    return {
        "resourceType": "ServiceRequest", "id": f"order-{number}", "status": "draft", "intent": "order",
        "code": concept, "subject": {"reference": f"Patient/{patient}"},
    }  # fmt: skip


def hook_call(
    hook: str, base: str, patient: str, *, user: str = USER, encounter: str | None = None, token: str | None = None,
    orders: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The body of a hook call (CDS Hooks 2.0, "HTTP Request") without prefetch; all orders are selected.

    Raises CdsHooksError for a hook that is not served, and for orders where the hook has none, or none where it has.
    """
    if hook not in HOOKS:
        raise CdsHooksError(f"--hook: one of {', '.join(HOOKS)}")
    fields = {field.name for field in HOOKS[hook].fields}
    if ("draftOrders" in fields) != bool(orders):
        raise CdsHooksError(f"--order: {hook} {'needs one or more' if 'draftOrders' in fields else 'has no orders'}")
    drafts = [order_of(text, number, patient) for number, text in enumerate(orders, 1)]
    context: dict[str, Any] = {"userId": user, "patientId": patient}
    if encounter:
        context["encounterId"] = encounter
    if drafts:
        context["draftOrders"] = {"resourceType": "Bundle", "type": "collection",
                                  "entry": [{"resource": draft} for draft in drafts]}  # fmt: skip
    if "selections" in fields:
        context["selections"] = [f"ServiceRequest/{draft['id']}" for draft in drafts]
    body = {"hook": hook, "hookInstance": str(uuid.uuid4()), "fhirServer": base, "context": context}
    if token:
        body["fhirAuthorization"] = {
            "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": "patient/*.read",
            "subject": "cds-hooks-call", "patient": patient,
        }  # fmt: skip
    return body


def asked(
    body: dict[str, Any], *, seconds: float, plan: str | None = None, site: Path | None = None, explained: bool = False
) -> dict[str, Any]:
    """What the service answers to a body of hook_call: {"cards": [...]}, or the trace. `seconds` is for fetching.

    Raises CdsHooksError if no plan serves the hook, if the FHIR server may not be called, and what a call raises.
    """
    settings = load_settings(None)
    try:
        # Who names a server at the command line means it, wherever its name leads.
        fhir = Fhir(allowed=(body["fhirServer"],), deadline_ms=round(seconds * 1000), ca_file=settings.fhir.ca_file,
                    private_networks=("0.0.0.0/0", "::/0"))  # fmt: skip
    except ValidationError as invalid:
        raise CdsHooksError(f"--fhir-server: {invalid.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    service = build_service(settings.model_copy(update={"fhir": fhir, **({"site": site} if site else {})}))
    name = service_for(service, body["hook"], plan)
    request = parse_request(body, HOOKS[body["hook"]])
    return service.explain(name, request) if explained else service.call(name, request).payload


def service_for(service: CdsService, hook: str, plan: str | None) -> str:
    """The id of the first service for a hook, or of the plan's own; raises CdsHooksError if there is none."""
    offered = [str(entry["id"]) for entry in service.discovery()["services"] if entry["hook"] == hook]
    wanted = [name for name in offered if plan is None or name == f"{plan}-{hook}"]
    if not wanted:
        raise CdsHooksError(f"no plan serves the hook {hook}" if plan is None else f"{plan} does not serve {hook}")
    return wanted[0]


def as_text(cards: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The cards for a terminal: indicator and summary, the detail as it is, the buttons with what they do."""
    if not cards:
        yield "no card"
    for card in cards:
        yield f"[{card['indicator']}] {card['summary']}"
        yield from (f"  {line}".rstrip() for line in card.get("detail", "").splitlines())
        for suggestion in card.get("suggestions", ()):
            yield f"  ( {suggestion['label']} )"
            yield from (f"      {action['type']}: {action['description']}" for action in suggestion.get("actions", ()))
        yield ""
