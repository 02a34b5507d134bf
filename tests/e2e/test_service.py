"""Whole calls: the seed patient, the right and the wrong order, fetching, missing and partial data."""

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import responses
from an_ehr import (
    BASE,
    CPT,
    ICD,
    LOINC,
    NOW,
    SNOMED,
    FhirServer,
    Reply,
    ago,
    bundle,
    cards,
    client,
    concept,
    loaded,
    order,
    patient,
    problem,
    request,
    spasm,
    topics,
)  # fmt: skip
from flask.testing import FlaskClient

from cds_hooks.chart.client import FhirClient
from cds_hooks.chart.origin import AllowList
from cds_hooks.errors import Rejected
from cds_hooks.protocol.caller import Caller
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import parse_request
from cds_hooks.service import CdsService

CHART = [patient("seed"), spasm("seed")]
REASON = {"reasonCode": [concept((SNOMED, "13753008"))]}
PLAIN = order("o1", (CPT, "70551"), **REASON)
RIGHT = [order("o1", (LOINC, "43769-9"), **REASON), order("o2", (LOINC, "36881-1"), **REASON)]


@pytest.fixture
def ehr(tmp_path: Path) -> FlaskClient:
    """A server without a FHIR client: prefetch only."""
    return client(tmp_path)


def codes(resource: dict[str, Any]) -> list[tuple[str, str]]:
    return [(coding["system"], coding["code"]) for coding in resource["code"]["coding"]]


# --- The seed -------------------------------------------------------------------------------------------------------


def test_the_seed_patient_is_opened(ehr: FlaskClient) -> None:
    found = cards(ehr, request("patient-view", "seed", chart=CHART))
    assert topics(found) == ["imaging-none-on-record"]
    (card,) = found
    assert card["indicator"] == "info"
    assert len(card["summary"]) < 140
    (suggestion,) = card["suggestions"]
    assert [action["type"] for action in suggestion["actions"]] == ["create", "create"]
    mri, mra = (action["resource"] for action in suggestion["actions"])
    assert (codes(mri), codes(mra)) == ([(LOINC, "43769-9")], [(LOINC, "36881-1")])
    for created in (mri, mra):
        assert created["subject"] == {"reference": "Patient/seed"}
        assert (created["status"], created["requester"]) == ("draft", {"reference": "Practitioner/u1"})
    assert mri["id"] != mra["id"]


def test_the_seed_patient_gets_a_plain_mri(ehr: FlaskClient) -> None:
    draft = PLAIN | {"vendorElement": {"a": [1, 2]}, "extension": [{"url": "urn:x", "valueString": "kept"}],
                     "note": [{"text": "please"}], "_priority": {"id": "p"}}  # fmt: skip
    found = cards(ehr, request("order-select", "seed", draft, chart=CHART))
    assert topics(found) == ["imaging-standard-mri"]
    (suggestion,) = found[0]["suggestions"]
    actions = suggestion["actions"]
    assert [action["type"] for action in actions] == ["update", "create"]
    changed, created = (action["resource"] for action in actions)
    assert {system for action in actions for system, _ in codes(action["resource"])} == {CPT}
    assert (codes(changed), codes(created)) == ([(CPT, "70553")], [(CPT, "70544")])
    assert (changed["id"], changed["note"]) == ("o1", [{"text": "please"}])
    assert {name: changed[name] for name in ("vendorElement", "extension", "_priority", "reasonCode")} == {
        name: draft[name] for name in ("vendorElement", "extension", "_priority", "reasonCode")
    }
    assert draft["code"] == concept((CPT, "70551"))


@pytest.mark.parametrize("hook", ["order-select", "order-sign"])
def test_the_right_order_gets_no_card(ehr: FlaskClient, hook: str) -> None:
    assert cards(ehr, request(hook, "seed", *RIGHT, chart=CHART)) == []


def test_what_is_suggested_is_what_is_then_accepted(ehr: FlaskClient) -> None:
    """Whoever takes the suggestion and selects again is left in peace."""
    (card,) = cards(ehr, request("order-select", "seed", PLAIN, chart=CHART))
    taken = [action["resource"] for action in card["suggestions"][0]["actions"]]
    for hook in ("order-select", "order-sign"):
        assert cards(ehr, request(hook, "seed", *taken, chart=CHART)) == []


def test_the_same_call_twice_differs_in_its_ids_only(ehr: FlaskClient) -> None:
    def without_ids(found: list[dict[str, Any]]) -> Any:
        return [card | {"uuid": "",
        "suggestions": [one | {"uuid": ""} for one in card["suggestions"]]} for card in found]

    body = request("order-select", "seed", PLAIN, chart=CHART)
    one, two = cards(ehr, body), cards(ehr, body)
    assert without_ids(one) == without_ids(two)
    assert one[0]["uuid"] != two[0]["uuid"]


@pytest.mark.parametrize("hook", ["patient-view", "order-select", "order-sign"])
def test_nothing_about_the_face_is_silence(ehr: FlaskClient, hook: str) -> None:
    chart = [patient("p1"), problem("p1", "c1", (ICD, "I10"))]
    assert cards(ehr, request(hook, "p1", order("o1", (LOINC, "58410-2")), chart=chart)) == []


def test_another_patients_spasm_is_not_this_ones(ehr: FlaskClient) -> None:
    assert cards(ehr, request("patient-view", "p1", chart=[patient("p1"), spasm("seed")])) == []


# --- Without prefetch -----------------------------------------------------------------------------------------------

AUTHORIZED = {"access_token": "secret", "token_type": "Bearer", "expires_in": 300, "scope": "x", "subject": "cds"}


def fetching(hook: str, *drafts: dict[str, Any], **members: Any) -> dict[str, Any]:
    body = request(hook, "seed", *drafts) | {"fhirServer": BASE, "fhirAuthorization": AUTHORIZED}
    del body["prefetch"]
    return body | members


def test_fetching_gives_the_same_cards(tmp_path: Path) -> None:
    server = FhirServer([*CHART, patient("other"), spasm("other", "theirs")])
    ehr = client(tmp_path, server)
    assert topics(cards(ehr, fetching("patient-view"))) == ["imaging-none-on-record"]
    assert topics(cards(ehr, fetching("order-select", PLAIN))) == ["imaging-standard-mri"]
    assert server.tokens == {"secret"}
    assert not [query for query in server.asked if "other" in query or "{{" in query]


def test_only_what_is_missing_is_fetched(tmp_path: Path) -> None:
    server = FhirServer(CHART)
    body = request("patient-view", "seed", chart=CHART, fhirServer=BASE)
    del body["prefetch"]["conditions"]
    assert topics(cards(client(tmp_path, server), body)) == ["imaging-none-on-record"]
    assert [query.partition("?")[0] for query in server.asked] == ["Condition"]


def test_a_whole_prefetch_needs_no_server(tmp_path: Path) -> None:
    server = FhirServer(CHART)
    cards(client(tmp_path, server), request("patient-view", "seed", chart=CHART, fhirServer=BASE))
    assert not server.asked


@responses.activate
def test_fetching_over_http(tmp_path: Path) -> None:
    responses.get(f"{BASE}/Patient/seed", json=CHART[0])
    pages = {"Condition": bundle(CHART[1])}

    def search(call: Any) -> tuple[int, dict[str, str], str]:
        assert call.headers["Authorization"] == "Bearer secret"
        kind = call.path_url.partition("/fhir/")[2].partition("?")[0]
        return 200, {"Content-Type": "application/fhir+json"}, json.dumps(pages.get(kind, bundle()))

    responses.add_callback(responses.GET, re.compile(f"{BASE}/[A-Z][A-Za-z]+\\?.*"), search)
    reader = FhirClient(AllowList(), attempts=1)
    found = cards(client(tmp_path, reader), fetching("patient-view"))
    reader.close()
    assert topics(found) == ["imaging-none-on-record"]


@responses.activate
def test_a_client_fetches_from_its_own_servers_only() -> None:
    responses.get(re.compile(f"{BASE}/.*"), json=bundle())
    reader = FhirClient(AllowList(), attempts=1)
    service = CdsService(loaded(), reader, clock=lambda: NOW)
    asked = parse_request(fetching("patient-view"), HOOKS["patient-view"])
    name = "hemifacial-spasm-patient-view"
    for servers in ((), ("https://ehr.example.org/fhir",)):
        for _ in range(2):
            with pytest.raises(Rejected, match="may not be called"):
                service.call(name, asked, Caller("hospital-a", fhir_servers=servers))
    assert len(responses.calls) == 0
    service.call(name, asked, Caller("hospital-a", fhir_servers=(BASE,)))
    assert len(responses.calls) > 5
    reader.close()


# --- What cannot be had ---------------------------------------------------------------------------------------------


def refused(ehr: FlaskClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = ehr.post(f"/cds-services/hemifacial-spasm-{body['hook']}", json=body)
    assert answer.status_code == 412
    (issue,) = answer.get_json()["issue"]
    assert issue["expression"] == ["prefetch.conditions"]
    assert "seed" not in answer.get_data(as_text=True)
    return issue  # type: ignore[no-any-return]


def test_required_data_can_be_had_neither_way(tmp_path: Path, ehr: FlaskClient) -> None:
    body = request("patient-view", "seed", chart=CHART)
    del body["prefetch"]["conditions"]
    refused(ehr, body)
    refused(client(tmp_path, FhirServer(CHART, frozenset({"Condition"}))), body | {"fhirServer": BASE})
    body["prefetch"]["conditions"] = {"resourceType": "OperationOutcome", "issue": []}
    refused(ehr, body)
    issue = refused(client(tmp_path, FhirServer(CHART, forbidden="not on the list")), body | {"fhirServer": BASE})
    assert "not on the list" in issue["diagnostics"]


def test_an_empty_problem_list_is_an_answer(ehr: FlaskClient) -> None:
    for empty in (None, bundle(), {"resourceType": "Bundle", "total": 0}):
        body = request("patient-view", "seed", chart=CHART)
        body["prefetch"]["conditions"] = empty
        assert cards(ehr, body) == []


@pytest.mark.parametrize("part", [bundle(total=3), bundle(problem("seed", "c", (ICD, "I10")), total=3)])
def test_part_of_the_problems_that_leaves_all_open_is_refused(ehr: FlaskClient, part: dict[str, Any]) -> None:
    body = request("patient-view", "seed", chart=CHART)
    body["prefetch"]["conditions"] = part
    refused(ehr, body)


def test_part_of_the_problems_that_holds_the_answer_is_enough(ehr: FlaskClient) -> None:
    body = request("order-select", "seed", PLAIN, chart=CHART)
    body["prefetch"]["conditions"]["total"] = 3
    assert topics(cards(ehr, body)) == ["imaging-standard-mri"]


def test_a_failing_next_page_is_partial_data(tmp_path: Path) -> None:
    body = request("patient-view", "seed", fhirServer=BASE)
    body["prefetch"]["conditions"] = bundle(link=[{"relation": "next", "url": f"{BASE}?page=2"}])
    server = FhirServer()
    refused(client(tmp_path, server), body)
    assert list(server.asked) == [f"{BASE}?page=2"]


@pytest.mark.parametrize("key", ["imagingStudies", "diagnosticReports", "serviceRequests", "procedures"])
def test_what_is_not_known_is_not_absent(ehr: FlaskClient, key: str) -> None:
    """'No MRI on record' is not said when the records could not be read."""
    body = request("patient-view", "seed", chart=CHART)
    body["prefetch"][key] = {"resourceType": "OperationOutcome", "issue": []}
    assert "imaging-none-on-record" not in topics(cards(ehr, body))


def test_a_slow_server_costs_the_deadline_only(tmp_path: Path) -> None:
    release = threading.Event()

    class Slow(FhirServer):
        def search(self, *args: Any, **more: Any) -> Reply:
            release.wait(5)
            return Reply()

    started = time.monotonic()
    refused(client(tmp_path, Slow(CHART), deadline_s=0.2), fetching("patient-view"))
    spent = time.monotonic() - started
    release.set()
    assert spent < 1.5


# --- Odd values from the chart --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "[x](https://evil.example.org)", "\u202eevil", "\u061cevil", "# x\n\n# y",
    "`" * 30, "|" * 9],
    ids=ascii,
)
def test_hostile_names_do_not_break_a_card(ehr: FlaskClient, text: str) -> None:
    hostile = spasm("seed") | {"code": concept((SNOMED, "13753008"), text=text)}
    found = cards(ehr, request("patient-view", "seed", chart=[CHART[0], hostile]))
    assert topics(found) == ["imaging-none-on-record"]
    assert not re.search(r"(?<!\\)<|(?<!\\)\]\(", found[0]["detail"])


DATES = ["9999-12-31", "0001-01-01", "2026-13-45", "", "２０２６", {"start": "9999"}, [], None, 5]


@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("element", ["onsetDateTime", "recordedDate", "onsetPeriod", "onsetString"])
def test_odd_dates_never_break_a_call(ehr: FlaskClient, element: str, date: Any) -> None:
    pregnant = problem("seed", "z33", (ICD, "Z33.1")) | {element: date}
    chart = [CHART[0], spasm("seed") | {element: date}, pregnant]
    for hook in ("patient-view", "order-select"):
        cards(ehr, request(hook, "seed", *RIGHT, chart=chart))


@pytest.mark.parametrize("quantity", [{"unit": "mL/min"}, {"value": 24, "unit": "mL/min"}, {"value": None}])
def test_a_kidney_value_without_number_keeps_the_safety_card(ehr: FlaskClient, quantity: dict[str, Any]) -> None:
    egfr = {
        "resourceType": "Observation", "id": "e1", "status": "final", "code": concept((LOINC, "62238-1")),
        "subject": {"reference": "Patient/seed"}, "effectiveDateTime": ago(20), "valueQuantity": quantity,
    }  # fmt: skip
    chart = [*CHART, problem("seed", "n17", (ICD, "N17.9")), egfr]
    assert "safety-contrast-renal" in topics(cards(ehr, request("order-select", "seed", *RIGHT, chart=chart)))
