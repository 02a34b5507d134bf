"""Ten thousand patients who have nothing to do with it: no card, no error, and soon."""

import random
import time
from pathlib import Path
from typing import Any

from an_ehr import ICD, LOINC, SNOMED, client, concept, loaded, order, patient, problem, request

from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import parse_request
from cds_hooks.service import CdsService

MANY = 10_000
#: Problems, orders and results of everyday practice, as far from the face as can be.
PROBLEMS = [
    (ICD, "I10"), (ICD, "E11.9"), (ICD, "J45.909"), (ICD, "M54.5"), (ICD, "K21.9"), (ICD, "N39.0"), (ICD, "F32.9"),
    (ICD, "E78.5"), (ICD, "Z79.4"), (SNOMED, "38341003"), (SNOMED, "44054006"), (SNOMED, "195967001"),
    (SNOMED, "73211009"), ("http://hl7.org/fhir/sid/icd-10", "I10"), ("urn:oid:1.2.3.4", "x-17"), ("", "G51.32"),
]  # fmt: skip
ORDERS = [(LOINC, "58410-2"), (LOINC, "2345-7"), (LOINC, "4548-4"), ("http://www.ama-assn.org/go/cpt", "80053")]
TEXTS = ["knee pain", "hypertension, essential", "annual visit", "Ärztliche Kontrolle", "", "n/a", "low back pain"]
ODD: list[Any] = [None, {}, [], "x", 7, [None], [{}], {"coding": []}, {"coding": [{}]}, {"coding": None}, {"text": ""}]
ELEMENTS = ["code", "clinicalStatus", "onsetDateTime", "recordedDate", "category", "bodySite", "note", "evidence",
"reasonCode"]
HOOK_NAMES = ("patient-view", "order-select", "order-sign")


def spoil(resource: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.2:
        resource[chance.choice(ELEMENTS)] = chance.choice(ODD)
    if chance.random() < 0.03:
        resource["subject"] = chance.choice([{"reference": "Patient/someone-else"}, {}, None, "Patient/p",
        {"display": "x"}])
    return resource


def someone(chance: random.Random, number: int) -> tuple[str, dict[str, Any]]:
    who, hook = f"p{number}", chance.choice(HOOK_NAMES)
    chart: list[dict[str, Any]] = [patient(who, chance.randrange(1, 99))]
    for place in range(chance.randrange(0, 9)):
        found = problem(who, f"c{place}", chance.choice(PROBLEMS), days=chance.randrange(-2, 9999))
        found["code"]["text"] = chance.choice(TEXTS)
        chart.append(spoil(found, chance))
    for place in range(chance.randrange(0, 4)):
        own = order(f"s{place}", chance.choice(ORDERS), subject={"reference": f"Patient/{who}"}, status="active")
        chart.append(spoil(own, chance))
    reason = {"reasonCode": [concept(chance.choice(PROBLEMS))]}
    drafts = [
        spoil(order(f"o{place}", chance.choice(ORDERS), **reason), chance) for place in range(chance.randrange(1, 4))
    ]
    body = request(hook, who, *drafts, chart=chart)
    if chance.random() < 0.1:
        body["prefetch"][chance.choice(list(body["prefetch"]))] = None
    return hook, body


def test_ten_thousand_unrelated_patients(tmp_path: Path) -> None:
    """Straight to the service; the door in front of it has tests of its own and takes part in the next test."""
    chance = random.Random(20261121)  # noqa: S311 - a repeatable sequence is wanted
    service = CdsService(loaded())
    started = time.monotonic()
    for number in range(MANY):
        hook, body = someone(chance, number)
        answered = service.call(f"{loaded()[0].plan.id}-{hook}", parse_request(body, HOOKS[hook]))
        assert answered.payload == {"cards": []}, body
        assert "expression" not in answered.log.get("troubles", {}), body
    assert time.monotonic() - started < 60


def test_some_of_them_through_the_door(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311
    asked = client(tmp_path)
    for number in range(300):
        hook, body = someone(chance, number)
        answer = asked.post(f"/cds-services/{loaded()[0].plan.id}-{hook}", json=body)
        assert (answer.status_code, answer.get_json()) == (200, {"cards": []}), body
