"""Many patients at once, in one process: each gets an answer about itself, and never a word about another."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from an_ehr import BASE, CPT, PLAN, SNOMED, FhirServer, client, concept, order, patient, request, spasm

PEOPLE = [f"person-{number:03}-x" for number in range(64)]
#: Every third is told about an order, every third has no spasm, every third is opened.
KINDS = ("order-select", "nothing", "patient-view")


def chart(who: str) -> list[dict[str, Any]]:
    number = PEOPLE.index(who)
    own = spasm(who, f"condition-of-{who}") | {"code": concept((SNOMED, "13753008"), text=f"Spasm of {who}")}
    return [patient(who)] if KINDS[number % 3] == "nothing" else [patient(who), own]


def body(who: str, *, prefetched: bool) -> dict[str, Any]:
    hook = KINDS[PEOPLE.index(who) % 3].replace("nothing", "patient-view")
    reason = {"reasonCode": [concept((SNOMED, "13753008"))], "subject": {"reference": f"Patient/{who}"}}
    draft = order(f"order-of-{who}", (CPT, "70551"), note=[{"text": f"for {who}"}], **reason)
    drafts = [draft] if hook == "order-select" else []
    asked = request(hook, who, *drafts, chart=chart(who), fhirServer=BASE)
    return asked if prefetched else {name: value for name, value in asked.items() if name != "prefetch"}


@pytest.mark.parametrize("prefetched", [True, False], ids=["prefetch", "fetching"])
def test_everyone_gets_their_own_answer(tmp_path: Path, prefetched: bool) -> None:
    server = FhirServer([resource for who in PEOPLE for resource in chart(who)])
    app = client(tmp_path, server, deadline_s=20).application
    ready = Barrier(len(PEOPLE), timeout=20)

    def call(who: str) -> tuple[str, int, str]:
        asked = body(who, prefetched=prefetched)
        ready.wait()
        answer = app.test_client().post(f"/cds-services/{PLAN}-{asked['hook']}", json=asked)
        return who, answer.status_code, answer.get_data(as_text=True)

    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        answers = [answer for _ in range(3) for answer in pool.map(call, PEOPLE)]
    expected = {"order-select": ["imaging-standard-mri"], "nothing": [], "patient-view": ["imaging-none-on-record"]}
    for who, status, text in answers:
        assert status == 200, text
        topics = [card["source"]["topic"]["code"] for card in json.loads(text)["cards"]]
        assert topics == expected[KINDS[PEOPLE.index(who) % 3]]
        assert not topics or who in text
        assert not [other for other in PEOPLE if other != who and other in text]
