"""An EHR for tests: charts, hook calls and a FHIR server, all made up."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

from flask.testing import FlaskClient

from cds_hooks.loading import Loaded, load_all
from cds_hooks.service import CdsService
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app

#: The real moment: some of the servers that are asked run by the real clock.
NOW = datetime.now(UTC).replace(microsecond=0)
PLAN = "hemifacial-spasm"
CPT, LOINC, SNOMED = "http://www.ama-assn.org/go/cpt", "http://loinc.org", "http://snomed.info/sct"
ICD = "http://hl7.org/fhir/sid/icd-10-cm"
STATUS = "http://terminology.hl7.org/CodeSystem/condition-"
BASE = "http://127.0.0.1:1/fhir"


def ago(days: int) -> str:
    return (NOW - timedelta(days=days)).date().isoformat()


def concept(*pairs: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code} for system, code in pairs], **more}


def patient(identity: str, years: int = 38) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": identity, "gender": "male", "birthDate": ago(years * 366)}


def problem(of: str, identity: str, *pairs: tuple[str, str], days: int = 150, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition", "id": identity, "subject": {"reference": f"Patient/{of}"}, "code": concept(*pairs),
        "clinicalStatus": concept((STATUS + "clinical", "active")), "onsetDateTime": ago(days),
        "recordedDate": ago(days),
        "verificationStatus": concept((STATUS + "ver-status", "confirmed")), **more,
    }  # fmt: skip


def order(identity: str, *pairs: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"resourceType": "ServiceRequest", "id": identity, "status": "draft", "intent": "order",
            "code": concept(*pairs), **more}  # fmt: skip


def bundle(*resources: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": one} for one in resources], **more}


def spasm(of: str, identity: str = "spasm") -> dict[str, Any]:
    """The problem of the seed patient: left side, five months ago."""
    return problem(of, identity, (SNOMED, "13753008"), (ICD, "G51.32"))


@cache
def loaded() -> tuple[Loaded, ...]:
    return tuple(load_all())


def client(data: Path, reader: Any = None, **settings: Any) -> FlaskClient:
    service = CdsService(loaded(), reader, clock=lambda: NOW, **settings)
    return create_app(service, Settings(data=data, log="off")).test_client()


def keys(hook: str) -> tuple[str, ...]:
    return loaded()[0].plan.keys_for(hook)


def types() -> dict[str, str]:
    return {query.key: query.type for query in loaded()[0].plan.retrieval.queries}


def prefetch(hook: str, *resources: dict[str, Any]) -> dict[str, Any]:
    """All that the service asks for, as an EHR with this chart would send it."""
    found: dict[str, Any] = {}
    for key in keys(hook):
        kind = types()[key]
        mine = [one for one in resources if one["resourceType"] == kind]
        if kind in ("Patient", "Encounter"):
            found[key] = mine[0] if mine else None
        else:
            found[key] = bundle(*mine)
    return found


def request(hook: str, of: str, *drafts: dict[str, Any], chart: Any = (), **members: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"userId": "Practitioner/u1", "patientId": of}
    if hook != "patient-view":
        context["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": draft} for draft in drafts]}
    if hook == "order-select":
        context["selections"] = [f"{draft['resourceType']}/{draft['id']}" for draft in drafts]
    body = {"hook": hook, "hookInstance": str(uuid.uuid4()), "context": context, "prefetch": prefetch(hook, *chart)}
    return body | members


def cards(asked: FlaskClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = asked.post(f"/cds-services/{PLAN}-{body['hook']}", json=body)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    found: list[dict[str, Any]] = answer.get_json()["cards"]
    return found


def topics(found: list[dict[str, Any]]) -> list[str]:
    return [card["source"]["topic"]["code"] for card in found]


@dataclass(frozen=True)
class Reply:
    resources: tuple[dict[str, Any], ...] = ()
    complete: bool = True
    problem: str | None = None


@dataclass
class FhirServer:
    """Holds the resources of many patients; types in `broken` cannot be read."""

    resources: list[dict[str, Any]] = field(default_factory=list)
    broken: frozenset[str] = frozenset()
    forbidden: str | None = None
    asked: Counter[str] = field(default_factory=Counter)
    tokens: set[str | None] = field(default_factory=set)
    lock: Any = field(default_factory=threading.Lock)

    def refusal(self, base: str) -> str | None:
        return self.forbidden

    def only(self, bases: tuple[str, ...]) -> Self:
        return self

    def carrying(self, headers: Mapping[str, str]) -> Self:
        return self

    def breakers(self) -> Mapping[tuple[str, str], int]:
        return {}

    def _note(self, what: str, token: str | None) -> None:
        with self.lock:
            self.asked[what] += 1
            self.tokens.add(token)

    def search(self, base: str, query: str, token: str | None, deadline: float, *, resource_type: str) -> Reply:
        self._note(query, token)
        if resource_type in self.broken:
            return Reply((), False, "status 500")
        of = query.partition("patient=")[2].partition("&")[0]
        return Reply(tuple(one for one in self.resources if one["resourceType"] == resource_type and _about(one, of)))

    def read(self, base: str, reference: str, token: str | None, deadline: float) -> Reply:
        self._note(reference, token)
        if reference.partition("/")[0] in self.broken:
            return Reply((), False, "status 500")
        return Reply(tuple(one for one in self.resources if f"{one['resourceType']}/{one['id']}" == reference))

    def follow(self, base: str, next_url: str, token: str | None, deadline: float, **rest: Any) -> Reply:
        self._note(next_url, token)
        return Reply((), False, "timeout")


def _about(resource: dict[str, Any], of: str) -> bool:
    return any(resource.get(name, {}).get("reference") == f"Patient/{of}" for name in ("subject", "patient"))
