#!/usr/bin/env python3
"""Print a CDS Hooks request of a made-up patient, with dates relative to today, as an EHR with prefetch would send it.

    python3 examples/request.py seed-patient-view | curl -s -H 'Content-Type: application/json' --data @- \\
        http://127.0.0.1:8000/cds-services/hemifacial-spasm-patient-view

seed-patient-view   a man of 38 with contractions of the left face for five months; his chart is opened
seed-plain-mri      the same man; a standard brain MRI (CPT 70551) is selected
seed-right-order    the same man; facial-nerve MRI and MRA of the head are selected
unrelated           a woman of 60 with high blood pressure; her chart is opened

`--without KEY` leaves a prefetch key out, as a client does that could not read it. Needs Python only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid
from datetime import date, timedelta
from typing import Any

PATIENT = "example"
SUBJECT = {"reference": f"Patient/{PATIENT}"}

CPT = "http://www.ama-assn.org/go/cpt"
ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
LOINC = "http://loinc.org"
SNOMED_CT = "http://snomed.info/sct"
STATUS = "http://terminology.hl7.org/CodeSystem/condition-"

#: Prefetch keys that are sent as searches without a result. No service asks for more; what one does not ask for it
#: ignores. `encounter` is left out, because the requests name no encounter.
EMPTY = (
    "serviceRequests", "imagingStudies", "diagnosticReports", "procedures", "observations", "medicationRequests",
    "medicationAdministrations", "allergyIntolerances", "devices",
)  # fmt: skip


def days_ago(days: int) -> str:
    """A FHIR date."""
    return (date.today() - timedelta(days=days)).isoformat()


def concept(text: str, *codings: tuple[str, str]) -> dict[str, Any]:
    """A CodeableConcept of (system, code) pairs."""
    return {"coding": [{"system": system, "code": code} for system, code in codings], "text": text}


def patient(gender: str, years: int) -> dict[str, Any]:
    """A patient some months past a birthday."""
    birth = days_ago(int(years * 365.25) + 150)
    return {"resourceType": "Patient", "id": PATIENT, "gender": gender, "birthDate": birth}


def condition(name: str, code: dict[str, Any], onset: int, recorded: int) -> dict[str, Any]:
    """An active, confirmed entry of the problem list; dates in days before today."""
    return {
        "resourceType": "Condition", "id": name, "subject": SUBJECT, "code": code,
        "clinicalStatus": {"coding": [{"system": f"{STATUS}clinical", "code": "active"}]},
        "verificationStatus": {"coding": [{"system": f"{STATUS}ver-status", "code": "confirmed"}]},
        "onsetDateTime": days_ago(onset), "recordedDate": days_ago(recorded),
    }  # fmt: skip


def order(name: str, code: dict[str, Any]) -> dict[str, Any]:
    """A draft order whose reason is hemifacial spasm."""
    return {
        "resourceType": "ServiceRequest", "id": name, "status": "draft", "intent": "order", "subject": SUBJECT,
        "code": code, "reasonCode": [concept("Hemifacial spasm", (SNOMED_CT, "13753008"))],
    }  # fmt: skip


def bundle(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """A Bundle; without resources it has no `entry`, because FHIR JSON knows no empty arrays."""
    entries = {"entry": [{"resource": resource} for resource in resources]} if resources else {}
    return {"resourceType": "Bundle", "type": kind, **entries}


def request(
    hook: str, who: dict[str, Any], problem: dict[str, Any], orders: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The body of a call; all orders are drafts that were just selected."""
    context: dict[str, Any] = {"userId": "Practitioner/example", "patientId": PATIENT}
    if orders:
        context["selections"] = [f"ServiceRequest/{one['id']}" for one in orders]
        context["draftOrders"] = bundle(orders, "collection")
    prefetch = {"patient": who, "conditions": bundle([problem], "searchset")}
    prefetch |= {key: bundle([], "searchset") for key in EMPTY}
    return {"hook": hook, "hookInstance": str(uuid.uuid4()), "context": context, "prefetch": prefetch}


def requests() -> dict[str, dict[str, Any]]:
    """All examples by name."""
    man = patient("male", 38)
    left = concept("Hemifacial spasm, left", (SNOMED_CT, "13753008"), (ICD_10_CM, "G51.32"))
    spasm = condition("spasm", left, onset=152, recorded=7)
    pressure = condition("pressure", concept("High blood pressure", (ICD_10_CM, "I10")), onset=3300, recorded=3300)
    plain = order("mri", concept("MRI brain without contrast", (CPT, "70551")))
    nerve = order("mri", concept("MRI brain and IAC without and with contrast", (LOINC, "43769-9")))
    angiography = order("mra", concept("MRA head without contrast", (LOINC, "36881-1")))
    return {
        "seed-patient-view": request("patient-view", man, spasm),
        "seed-plain-mri": request("order-select", man, spasm, [plain]),
        "seed-right-order": request("order-select", man, spasm, [nerve, angiography]),
        "unrelated": request("patient-view", patient("female", 60), pressure),
    }


def main() -> None:
    """Print the request that the command line names."""
    known = requests()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=known)
    parser.add_argument("--without", metavar="KEY", action="append", default=[], help="leave a prefetch key out")
    asked = parser.parse_args()
    body = known[asked.name]
    for key in asked.without:
        if key not in body["prefetch"]:
            parser.error(f"{key} is not among {', '.join(body['prefetch'])}")
        del body["prefetch"][key]
    try:
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The command that was to read this has failed and said why. Python would complain once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
