"""Requests to measure with: two patients with many problems, sent as an EHR would send them.

The prefetch follows the templates of the service's own discovery: every key that was asked for is there.
"""

from __future__ import annotations

import datetime
import json
import re
from typing import Any
from urllib.parse import parse_qsl

Json = dict[str, Any]

SNOMED, ICD10CM = "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10-cm"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
USER, PATIENT, ENCOUNTER = "Practitioner/bench-user", "bench-patient", "bench-encounter"

#: Problems that have nothing to do with the face: SNOMED CT, ICD-10-CM, text.
UNRELATED = [
    ("59621000", "I10", "Essential hypertension"),
    ("44054006", "E11.9", "Type 2 diabetes mellitus"),
    ("55822004", "E78.5", "Hyperlipidemia"),
    ("195967001", "J45.909", "Asthma"),
    ("235595009", "K21.9", "Gastro-esophageal reflux disease"),
    ("40930008", "E03.9", "Hypothyroidism"),
    ("239873007", "M17.9", "Osteoarthritis of knee"),
    ("34713006", "E55.9", "Vitamin D deficiency"),
    ("61582004", "J30.9", "Allergic rhinitis"),
    ("279039007", "M54.50", "Low back pain"),
]
SPASM = ("13753008", "G51.32", "Hemifacial spasm, left")


def chart(*, spasm: bool, conditions: int) -> dict[str, list[Json]]:
    """Return the resources of one patient by type: a man of 38 with so many problems, one of them perhaps the spasm."""
    today = datetime.date.today()
    problems = [
        condition(n, UNRELATED[n % len(UNRELATED)], today - datetime.timedelta(400 + n)) for n in range(conditions)
    ]
    if spasm:
        problems[conditions // 2] = condition(conditions // 2, SPASM, today - datetime.timedelta(150))
    subject = {"reference": f"Patient/{PATIENT}"}
    patient = {
        "resourceType": "Patient",
        "id": PATIENT,
        "active": True,
        "name": [{"family": "Example", "given": ["Bench"]}],
        "gender": "male",
        "birthDate": (today - datetime.timedelta(38 * 365 + 160)).isoformat(),
    }
    encounter = {
        "resourceType": "Encounter",
        "id": ENCOUNTER,
        "status": "in-progress",
        "class": {"system": TERMINOLOGY + "v3-ActCode", "code": "AMB"},
        "subject": subject,
    }
    user = {"resourceType": "Practitioner", "id": USER.partition("/")[2], "active": True}
    return {"Patient": [patient], "Condition": problems, "Encounter": [encounter], "Practitioner": [user]}


def condition(number: int, problem: tuple[str, str, str], onset: datetime.date) -> Json:
    """Return a confirmed active problem, with what EHRs commonly send along (about 1.4 kB)."""
    snomed, icd, text = problem
    return {
        "resourceType": "Condition",
        "id": f"bench-condition-{number}",
        "meta": {
            "versionId": "1",
            "lastUpdated": f"{onset.isoformat()}T08:30:00.000Z",
            "profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-condition-problems-health-concerns"],
        },
        "clinicalStatus": concept(TERMINOLOGY + "condition-clinical", "active", "Active"),
        "verificationStatus": concept(TERMINOLOGY + "condition-ver-status", "confirmed", "Confirmed"),
        "category": [concept(TERMINOLOGY + "condition-category", "problem-list-item", "Problem List Item")],
        "code": {
            "coding": [
                {"system": SNOMED, "code": snomed, "display": text},
                {"system": ICD10CM, "code": icd, "display": text},
                {"system": "urn:oid:2.16.840.1.113883.3.247.1.1", "code": f"{number}", "display": text},
            ],
            "text": text,
        },
        "subject": {"reference": f"Patient/{PATIENT}"},
        "encounter": {"reference": f"Encounter/bench-encounter-{number}"},
        "onsetDateTime": onset.isoformat(),
        "recordedDate": onset.isoformat(),
        "recorder": {"reference": USER},
    }


def concept(system: str, code: str, display: str) -> Json:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def patient_view(templates: dict[str, str], *, spasm: bool, conditions: int) -> Json:
    """Return a patient-view request with all the prefetch that the templates ask for."""
    resources = chart(spasm=spasm, conditions=conditions)
    context = {"userId": USER, "patientId": PATIENT, "encounterId": ENCOUNTER}
    return {
        "hook": "patient-view",
        "hookInstance": "7f0f4bb4-28c1-4b4c-9d5c-6c1b6c1f3a01",
        "context": context,
        "prefetch": {key: resolve(template, context, resources) for key, template in templates.items()},
    }


def resolve(template: str, context: dict[str, str], resources: dict[str, list[Json]]) -> Json | None:
    """Return what a FHIR server answers to the template: a resource or None for a read, else a searchset."""
    user_type, _, user_id = context["userId"].partition("/")
    values = {f"context.{name}": value for name, value in context.items()} | {f"user{user_type}Id": user_id}
    query = re.sub(r"{{\s*(.*?)\s*}}", lambda token: values.get(token[1], "none"), template)
    path, is_search, parameters = query.partition("?")
    kind, _, identifier = path.partition("/")
    if not is_search:
        return next((found for found in resources.get(kind, []) if found["id"] == identifier), None)
    hits = [found for found in resources.get(kind, []) if has_code(found, dict(parse_qsl(parameters)).get("code", ""))]
    bundle: Json = {"resourceType": "Bundle", "type": "searchset", "total": len(hits)}
    if hits:
        base = "https://ehr.example.org/fhir"
        bundle["entry"] = [
            {"fullUrl": f"{base}/{kind}/{hit['id']}", "resource": hit, "search": {"mode": "match"}} for hit in hits
        ]
    return bundle


def has_code(resource: Json, wanted: str) -> bool:
    """Tell whether one of the comma-separated tokens (`system|code` or `code`) fits; no token fits everything."""
    codings = resource.get("code", {}).get("coding", [])
    offered = {token for coding in codings for token in (coding["code"], f"{coding['system']}|{coding['code']}")}
    return not wanted or not offered.isdisjoint(wanted.split(","))


def encode(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
