"""A made-up service, and calls of it."""

from dataclasses import dataclass, field
from typing import Any

from cds_hooks.chart.gather import Fetch
from cds_hooks.protocol.caller import Caller
from cds_hooks.protocol.discovery import ServiceEntry, discovery
from cds_hooks.protocol.feedback import FeedbackItem
from cds_hooks.protocol.hooks import HOOKS, Hook
from cds_hooks.protocol.request import HookRequest

SERVICES = {f"made-up-{name}": hook for name, hook in HOOKS.items()}


@dataclass
class Answer:
    payload: dict[str, Any] = field(default_factory=lambda: {"cards": []})
    log: dict[str, Any] = field(default_factory=dict)
    topics: tuple[str, ...] = ()
    snoozed: tuple[str, ...] = ()
    troubles: dict[str, int] = field(default_factory=dict)
    inputs: tuple[tuple[str, str], ...] = ()
    fetches: tuple[Fetch, ...] = ()
    undecided: tuple[str, ...] = ()


@dataclass
class FakeService:
    """Answers with what a test puts into it, or raises it; remembers what it was asked."""

    answer: Answer | Exception = field(default_factory=Answer)
    broken: dict[str, str] = field(default_factory=dict)
    breaking: dict[tuple[str, str], int] = field(default_factory=dict)
    seen: list[HookRequest] = field(default_factory=list)
    items: list[FeedbackItem] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)

    def discovery(self) -> dict[str, Any]:
        entries = [ServiceEntry(id, hook, "Title", "Text", {}, "") for id, hook in SERVICES.items()]
        return discovery(entries)

    def hook_of(self, service_id: str) -> Hook | None:
        return SERVICES.get(service_id)

    def call(self, service_id: str, request: HookRequest, caller: Caller) -> Answer:
        self.seen.append(request)
        self.callers.append(caller)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def explain(self, service_id: str, request: HookRequest, caller: Caller) -> dict[str, Any]:
        self.callers.append(caller)
        return {"service": service_id, "hook": request.hook, "rules": ("a", "b")}

    def feedback(self, service_id: str, items: tuple[FeedbackItem, ...], caller: Caller) -> None:
        self.callers.append(caller)
        if isinstance(self.answer, Exception):
            raise self.answer
        self.items += items

    def breakers(self) -> dict[tuple[str, str], int]:
        return self.breaking

    def failing(self) -> dict[str, str]:
        return self.broken


def call_body(hook: str = "patient-view", **members: Any) -> dict[str, Any]:
    """A valid call with members replaced."""
    context: dict[str, Any] = {"userId": "Practitioner/u1", "patientId": "secret-patient"}
    if hook != "patient-view":
        draft = {"resourceType": "ServiceRequest", "id": "o1"}
        context["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": draft}]}
    if hook == "order-select":
        context["selections"] = ["ServiceRequest/o1"]
    instance = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
    return {"hook": hook, "hookInstance": instance, "context": context} | members
