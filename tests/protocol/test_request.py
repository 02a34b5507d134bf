"""The envelope of a call: what is taken, what is refused in words that name the field, what is skipped and told."""

import copy
from typing import Any

import pytest

from cds_hooks.errors import Rejected
from cds_hooks.protocol.hooks import HOOKS, ContextField, Hook
from cds_hooks.protocol.request import HookRequest, parse_request

GONE: Any = object()
ORDER = {"resourceType": "ServiceRequest", "id": "o1", "status": "draft", "code": {"text": "x"}}
SECRET = "s3cret-token"


def body(hook: str = "patient-view", /, **changes: Any) -> dict[str, Any]:
    """A valid call; changes are by dotted path with "__" for ".", GONE removes."""
    context: dict[str, Any] = {"userId": "Practitioner/u1", "patientId": "p-1", "encounterId": "e.1"}
    if hook != "patient-view":
        context["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": ORDER}]}
    if hook == "order-select":
        context["selections"] = ["ServiceRequest/o1"]
    made: dict[str, Any] = {
        "hook": hook,
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "fhirServer": "http://127.0.0.1:9080/fhir/",
        "fhirAuthorization": {
            "access_token": SECRET,
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": "patient/*.read",
            "subject": "client",
        },
        "context": context,
        "prefetch": {"patient": {"resourceType": "Patient", "id": "p-1"}, "none": None},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = made
        for step in parents:
            node = node[step]
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return made


def parse(hook: str = "patient-view", /, **changes: Any) -> HookRequest:
    return parse_request(body(hook, **changes), HOOKS[hook])


def refusal(hook: str = "patient-view", /, **changes: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        parse(hook, **changes)
    assert caught.value.status == 400
    assert len(caught.value.diagnostics) >= 15
    return caught.value


def test_a_call_is_read_whole() -> None:
    request = parse_request(body("order-select"), HOOKS["order-select"], b"raw")
    assert request == HookRequest(
        hook="order-select",
        hook_instance="d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        user_id="Practitioner/u1",
        patient_id="p-1",
        encounter_id="e.1",
        drafts=(ORDER,),
        selections=("ServiceRequest/o1",),
        prefetch={"patient": {"resourceType": "Patient", "id": "p-1"}, "none": None},
        fhir_server="http://127.0.0.1:9080/fhir",
        token=SECRET,
        problems=(),
        raw=b"raw",
    )


def test_the_least_call() -> None:
    least = {
        "hook": "patient-view",
        "hookInstance": "0F8FAD5B-D9CB-469F-A165-70867728950E",
        "context": {"userId": "Patient/x", "patientId": "x"},
    }
    request = parse_request(least, HOOKS["patient-view"])
    assert (request.encounter_id, request.fhir_server, request.token, request.raw) == (None, None, None, None)
    assert (request.prefetch, request.drafts, request.selections, request.problems) == ({}, (), (), ())


def test_repr_shows_neither_token_nor_patient() -> None:
    shown = repr(parse("order-sign"))
    assert SECRET not in shown
    assert "p-1" not in shown
    assert "ServiceRequest" not in shown


def test_unknown_members_and_extensions_are_ignored() -> None:
    odd = {"com.example": {"deep": [1, {"x": None}]}}
    values: tuple[Any, ...] = (odd, "x", [], None)
    for place in ("extension", "context__extension", "fhirAuthorization__extension", "context__future", "future"):
        for value in values:
            assert parse("order-sign", **{place: value}) == parse("order-sign")


def test_the_body_is_not_changed() -> None:
    given = body("order-select", context__draftOrders__entry=[None, {"resource": ORDER}])
    before = copy.deepcopy(given)
    parse_request(given, HOOKS["order-select"])
    assert given == before


@pytest.mark.parametrize("value", [None, [], [{}], "text", 7, True, {}])
def test_a_body_that_is_no_call(value: Any) -> None:
    with pytest.raises(Rejected) as caught:
        parse_request(value, HOOKS["patient-view"])
    assert caught.value.status == 400


WRONG = {
    "hook": [GONE, None, 7, "", [], {}, "no-such-hook", "Patient-View", "order-sign"],
    "hookInstance": [GONE, None, 7, "", {}, "not-a-uuid", "12345678-1234-1234-1234-12345678901"],
    "context": [GONE, None, [], "x", 7, {}],
    "context.userId": [
        GONE,
        None,
        7,
        "",
        [],
        {},
        "probe",
        "Practitioner/",
        "/x",
        "Practitioner/a b",
        "Practitioner/x\n",
    ],
    "context.patientId": [GONE, None, 7, "", [], {}, "Patient/p", "../x", "a?b", "a b", "a\n", "\xe9", "a,b", "x" * 65],
    "prefetch": ["x", 7, [], [{}], True],
    "fhirServer": [7, "", [], {}, "not a url", "example/fhir", "http://u:p@h/x"],
    "fhirAuthorization": ["x", [], 7, ""],
    "fhirAuthorization.access_token": [GONE, None, 7, "", "a\r\nX: 1", "a\x00b", "pr\xf8be", "a b"],
    "fhirAuthorization.token_type": [GONE, None, 7, "", "MAC"],
    "fhirAuthorization.expires_in": [GONE, None, "soon", 1.5, True],
    "fhirAuthorization.scope": [GONE, None, 7, "", []],
    "fhirAuthorization.subject": [GONE, None, 7, ""],
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in WRONG.items() for value in values])
def test_a_wrong_field_is_refused_by_name(path: str, value: Any) -> None:
    refused = refusal(**{path.replace(".", "__"): value})
    assert path.split(".")[-1] in refused.diagnostics or value == {}  # of an empty context the first field is named
    assert refused.expression[0].startswith(path)


@pytest.mark.parametrize("hook", ["order-select", "order-sign"])
@pytest.mark.parametrize("value", [GONE, None, "x", 7, [], {}, {"resourceType": "Patient", "id": "x"}])
def test_draft_orders_must_be_a_bundle(hook: str, value: Any) -> None:
    assert refusal(hook, context__draftOrders=value).expression == ("context.draftOrders",)


@pytest.mark.parametrize("value", [GONE, None, "x", 7, {}, [], [7], [None], ["ServiceRequest/o1", {}]])
def test_selections_must_be_strings(value: Any) -> None:
    assert refusal("order-select", context__selections=value).expression == ("context.selections",)


def test_the_sandbox_without_orders_is_told_what_is_missing() -> None:
    """A second click on its tab posts order-select without selections and draftOrders."""
    refused = refusal("order-select", context__selections=GONE, context__draftOrders=GONE)
    assert refused.code == "required"
    assert "selections is missing" in refused.diagnostics


def test_authorization_without_a_server() -> None:
    assert "fhirServer" in refusal(fhirServer=GONE).diagnostics


def test_refusals_do_not_echo() -> None:
    texts = [
        refusal(fhirAuthorization__access_token=f"{SECRET}\n"),
        refusal(context__patientId="Smith Smith"),
        refusal(context__userId="Smith"),
        refusal(fhirServer="http://Smith:Smith@example.org"),
        refusal(hookInstance="Smith"),
        refusal(fhirAuthorization__token_type="Smith"),
    ]
    assert not [text for text in texts if SECRET in text.diagnostics or "Smith" in text.diagnostics]


def test_a_hook_name_is_echoed_short_and_harmless() -> None:
    shown = refusal(hook="<b>'\"\\\u202e\n" + "x" * 500).diagnostics
    assert shown == 'hook "?b?' + "?" * 5 + "x" * 32 + '" is not served here: this service is for "patient-view".'


@pytest.mark.parametrize("value", ["Encounter/x", None, 7, {}, "a b"])
def test_a_malformed_encounter_is_ignored(value: Any) -> None:
    request = parse(context__encounterId=value)
    assert request.encounter_id is None
    assert request.problems == ("encounterId malformed, ignored",)
    assert request.unread == (frozenset() if value is None else {"encounterId"}), "there is one, and it is not known"


def test_nulls_are_taken_as_absent() -> None:
    request = parse(prefetch=None, fhirServer=None, fhirAuthorization=None)
    assert (request.prefetch, request.fhir_server, request.token) == ({}, None, None)
    assert [problem.split()[0] for problem in request.problems] == ["fhirServer", "prefetch", "fhirAuthorization"]


def test_token_type_is_compared_without_case() -> None:
    assert parse(fhirAuthorization__token_type="bearer").token == SECRET


@pytest.mark.parametrize(
    "value", [None, {}, {"fullUrl": "urn:x"}, {"resource": None}, [], 7, {"resource": {"id": "x"}}]
)
def test_damaged_entries_are_skipped_and_told(value: Any) -> None:
    request = parse("order-sign", context__draftOrders__entry=[value, {"resource": ORDER}])
    assert request.drafts == (ORDER,)
    assert request.problems == ("draftOrders.entry[0] is no resource, skipped",)


@pytest.mark.parametrize("kind", [GONE, None, 7, "", "2026-99-99", "service request"])
def test_a_draft_without_a_type_is_skipped(kind: Any) -> None:
    damaged = {**ORDER, "resourceType": kind}
    if kind is GONE:
        del damaged["resourceType"]
    assert parse("order-sign", context__draftOrders__entry=[{"resource": damaged}]).drafts == ()


@pytest.mark.parametrize("entry", ["x", 7, {"resource": ORDER}, None])
def test_an_entry_that_is_no_array(entry: Any) -> None:
    request = parse("order-sign", context__draftOrders__entry=entry)
    assert request.drafts == ()
    assert request.problems == ("draftOrders.entry is no array, ignored",)


def test_an_empty_bundle_holds_no_drafts() -> None:
    assert parse("order-sign", context__draftOrders={"resourceType": "Bundle"}).drafts == ()


def test_half_empty_orders_of_the_sandbox_are_kept_as_they_are() -> None:
    orders = [
        {"resourceType": "ServiceRequest", "id": "example-request-id", "code": {"coding": [{}]}, "reasonCode": []},
        {"resourceType": "MedicationRequest", "id": "request-123", "category": {"coding": [{}]}},
    ]
    request = parse(
        "order-select",
        context__draftOrders={"resourceType": "Bundle", "entry": [{"resource": order} for order in orders]},
        context__selections=["MedicationRequest/request-123"],
    )
    assert request.drafts == tuple(orders)
    assert request.selections == ("MedicationRequest/request-123",)


def test_selections_that_name_no_draft_are_kept_out() -> None:
    given = ["o1", "Task/o1", "ServiceRequest/none", "ServiceRequest/o1", "ServiceRequest/o1"]
    request = parse("order-select", context__selections=given)
    assert request.selections == ("ServiceRequest/o1",)
    assert request.problems == tuple(f"selections[{n}] names no draft order, skipped" for n in range(3))


def test_no_selection_may_be_left() -> None:
    assert parse("order-select", context__selections=["ServiceRequest/none"]).selections == ()


def test_a_draft_without_id_cannot_be_selected() -> None:
    drafts = [{"resource": {**ORDER, "id": value}} for value in (7, None)]
    request = parse("order-select", context__draftOrders__entry=drafts, context__selections=["ServiceRequest/7"])
    assert (len(request.drafts), request.selections) == (2, ())


def test_many_problems_become_few_words() -> None:
    request = parse("order-sign", context__draftOrders__entry=[None] * 5000)
    assert len(request.problems) == 11
    assert request.problems[-1] == "draftOrders.entry has 4990 more of these"


def test_a_new_row_is_all_a_new_hook_needs() -> None:
    required = ContextField("encounterId", "id", "encounter_id")
    hook = Hook("encounter-discharge", fields=(*HOOKS["patient-view"].fields[:2], required))
    given = body(hook="encounter-discharge")
    assert parse_request(given, hook).encounter_id == "e.1"
    given["context"]["encounterId"] = "Encounter/e.1"
    with pytest.raises(Rejected, match="encounterId"):
        parse_request(given, hook)


def _elements(node: Any) -> list[tuple[Any, Any]]:
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [found for key, value in items for found in ((node, key), *_elements(value))]


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_any_element_of_any_other_kind_is_read_or_rejected(hook: str) -> None:
    wrong: tuple[Any, ...] = (None, [], {}, 0, -1.5, True, "", "x", ["x"], [None], [{}], {"x": None}, "2026-99-99")
    statuses = []
    count = len(_elements(body(hook)))
    for place in range(count):
        for value in wrong:
            given = copy.deepcopy(body(hook))
            node, key = _elements(given)[place]
            node[key] = value
            try:
                parse_request(given, HOOKS[hook])
            except Rejected as error:
                statuses.append(error.status)
    assert set(statuses) == {400}
    assert len(statuses) < count * len(wrong)
