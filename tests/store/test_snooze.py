"""What an override silences, and what it must not (the decision table's gate on overrides)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from a_database import NOW

from cds_hooks.answer.assembly import decide
from cds_hooks.chart.orders import TooMuch, said_by
from cds_hooks.errors import ContentError, StorageError
from cds_hooks.loading import Loaded, load_all
from cds_hooks.protocol.caller import ANONYMOUS, Caller
from cds_hooks.protocol.request import parse_request
from cds_hooks.reasoning.evaluation import Finding
from cds_hooks.reasoning.plan import Group, Plan, Rule
from cds_hooks.recall import check_kept
from cds_hooks.service import Answered, CdsService
from cds_hooks.store.port import IssuedCard, NoMemory, Override

SNOMED, CPT = "http://snomed.info/sct", "http://www.ama-assn.org/go/cpt"
STATUS = "http://terminology.hl7.org/CodeSystem/condition-clinical"
PLAN = "hemifacial-spasm"


class Notebook(NoMemory):
    """A memory in a list; `down`: it cannot be read."""

    def __init__(self) -> None:
        self.cards: list[tuple[Caller, str, IssuedCard]] = []
        self.turned_down: list[tuple[Caller, str, Override]] = []
        self.asked = 0
        self.down = False
        self.lost = 0

    def fingerprint(self, kind: str, *words: str) -> str:
        return f"{kind}:{words}"

    def overrides(self, caller: Caller, patient_id: str, since: Any) -> Sequence[Override]:
        self.asked += 1
        if self.down:
            raise StorageError("down")
        return [one for who, patient, one in self.turned_down
                if (who, patient) == (caller, patient_id) and one.at >= since]  # fmt: skip

    def issued(self, caller: Caller, patient_id: str, cards: Sequence[IssuedCard], at: Any) -> int:
        self.cards += [(caller, patient_id, card) for card in cards]
        return self.lost

    def override_all(self, days: float = 1) -> None:
        for caller, patient, card in self.cards:
            one = Override(card.plan, card.rule, card.orders, NOW - timedelta(days=days), "f00d")
            self.turned_down.append((caller, patient, one))


@pytest.fixture(scope="module")
def plans() -> list[Loaded]:
    return load_all()


@pytest.fixture
def memory() -> Notebook:
    return Notebook()


@pytest.fixture
def service(plans: list[Loaded], memory: Notebook) -> CdsService:
    return CdsService(plans, clock=lambda: NOW, memory=memory)


def concept(system: str, code: str, **more: Any) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}], **more}


def order(identity: str = "o1", code: str = "70551", **more: Any) -> dict[str, Any]:
    return {"resourceType": "ServiceRequest", "id": identity, "status": "draft", "intent": "order",
            "subject": {"reference": "Patient/p1"}, "code": concept(CPT, code),
            "reasonCode": [concept(SNOMED, "13753008")], **more}  # fmt: skip


def body(hook: str, *drafts: dict[str, Any], of: str = "p1", selected: Sequence[str] | None = None) -> dict[str, Any]:
    patient = {"resourceType": "Patient", "id": of, "gender": "male", "birthDate": "1988-02-03"}
    spasm = {"resourceType": "Condition", "id": "c", "subject": {"reference": f"Patient/{of}"},
             "code": concept(SNOMED, "13753008"), "recordedDate": "2026-06-20",
             "clinicalStatus": concept(STATUS, "active")}  # fmt: skip
    context: dict[str, Any] = {"userId": "Practitioner/u", "patientId": of}
    if hook != "patient-view":
        context["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": draft} for draft in drafts]}
    if hook == "order-select":
        context["selections"] = [f"ServiceRequest/{name}" for name in selected or [draft["id"] for draft in drafts]]
    empty = {"resourceType": "Bundle", "type": "searchset", "entry": []}
    keys = ("serviceRequests", "imagingStudies", "diagnosticReports", "procedures", "observations",
            "medicationRequests", "medicationAdministrations", "allergyIntolerances", "devices")  # fmt: skip
    conditions = empty | {"entry": [{"resource": spasm}]}
    prefetch = {"patient": patient, "conditions": conditions, **dict.fromkeys(keys, empty)}
    return {"hook": hook, "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": context,
            "prefetch": prefetch}  # fmt: skip


def call(service: CdsService, asked: dict[str, Any], caller: Caller = ANONYMOUS) -> Answered:
    service_id = f"{PLAN}-{asked['hook']}"
    hook = service.hook_of(service_id)
    assert hook is not None
    return service.call(service_id, parse_request(asked, hook), caller)


def topics(answered: Answered) -> list[str]:
    return [card["source"]["topic"]["code"] for card in answered.payload["cards"]]


def test_cards_are_remembered_with_what_made_them(service: CdsService, memory: Notebook, plans: list[Loaded]) -> None:
    answered = call(service, body("order-select", order()))
    ((caller, patient, card),) = memory.cards
    (sent,) = answered.payload["cards"]
    assert (caller, patient, card.card) == (ANONYMOUS, "p1", sent["uuid"])
    assert card.suggestions == tuple(one["uuid"] for one in sent["suggestions"])
    assert (card.plan, card.version, card.content) == (PLAN, plans[0].plan.version, plans[0].plan.digest)
    assert (card.rule, card.topic, card.indicator) == ("imaging-standard-mri", "imaging-standard-mri", "warning")
    assert card.service == f"{PLAN}-order-select"


def test_a_call_without_cards_does_not_touch_the_store(service: CdsService, memory: Notebook) -> None:
    other = body("patient-view")
    other["prefetch"]["conditions"]["entry"] = []
    assert topics(call(service, other)) == []
    assert (memory.asked, memory.cards) == (0, [])


def test_silent_for_the_same_patient_and_order(service: CdsService, memory: Notebook) -> None:
    asked = body("order-select", order())
    assert topics(call(service, asked)) == ["imaging-standard-mri"]
    memory.override_all()
    answered = call(service, asked)
    assert topics(answered) == []
    assert answered.snoozed == ("imaging-standard-mri",)
    assert answered.log["snoozed"] == ["imaging-standard-mri"]


def test_the_trace_says_since_when_and_which_feedback(service: CdsService, memory: Notebook) -> None:
    asked = body("patient-view")
    call(service, asked)
    memory.override_all(days=3)
    hook = service.hook_of(f"{PLAN}-patient-view")
    assert hook is not None
    shown = service.explain(f"{PLAN}-patient-view", parse_request(asked, hook))
    (rule,) = [one for one in shown["rules"] if one["id"] == "imaging-none-on-record"]
    assert rule["outcome"] == "fired, but snoozed: overridden on 2026-11-18 (feedback f00d)"


def test_another_patient_hears_it(service: CdsService, memory: Notebook) -> None:
    call(service, body("patient-view"))
    memory.override_all()
    assert topics(call(service, body("patient-view", of="p2"))) == ["imaging-none-on-record"]


@pytest.mark.parametrize("other", [
    order(code="70552"), order(bodySite=[concept(SNOMED, "7771000")]), order(note=[{"text": "please"}]),
    order(priority="urgent"), order(orderDetail=[{"text": "1.5 mm"}]), order(somethingNew="x"),
    order(reasonCode=[concept(SNOMED, "13753008"), concept(SNOMED, "271807003")]),
])  # fmt: skip
def test_another_order_is_another_question(service: CdsService, memory: Notebook, other: dict[str, Any]) -> None:
    call(service, body("order-select", order()))
    memory.override_all()
    assert topics(call(service, body("order-select", other)))


@pytest.mark.parametrize("same", [
    order("o-77"), order(authoredOn="2026-11-21"), order(status="active"), order(occurrenceDateTime="2026-12-01"),
    order(requester={"reference": "Practitioner/x"}), order(meta={"versionId": "3"}), order(text={"div": "…"}),
    order(extension=[{"url": "urn:x", "valueString": "1"}]), order(identifier=[{"value": "1"}]),
    order(code=concept(CPT, "70551") | {"coding": [{"code": "70551", "system": CPT, "display": "MRI Brain"}]}),
    order(_authoredOn={"extension": []}), order(encounter={"reference": "Encounter/2"}), order(note=[]),
])  # fmt: skip
def test_what_only_counts_and_dates_is_the_same_order(service: CdsService, memory: Notebook, same: Any) -> None:
    call(service, body("order-select", order()))
    memory.override_all()
    assert topics(call(service, body("order-select", same))) == []


def test_overridden_when_selected_silent_when_signed(service: CdsService, memory: Notebook) -> None:
    """The other drafts of the basket are not what the card is about."""
    call(service, body("order-select", order()))
    memory.override_all()
    blood = order("blood", "80050", reasonCode=[])
    assert topics(call(service, body("order-sign", order(), blood))) == []
    assert topics(call(service, body("order-select", order(), blood, selected=["o1"]))) == []


@pytest.mark.parametrize(("days", "silent"), [(89, True), (90, True), (91, False), (4000, False)])
def test_for_ninety_days(service: CdsService, memory: Notebook, days: int, silent: bool) -> None:
    call(service, body("patient-view"))
    memory.override_all(days=days)
    assert (topics(call(service, body("patient-view"))) == []) is silent


def test_what_cannot_be_recalled_is_said(service: CdsService, memory: Notebook) -> None:
    call(service, body("patient-view"))
    memory.override_all()
    memory.down = True
    answered = call(service, body("patient-view"))
    assert topics(answered) == ["imaging-none-on-record"]
    assert answered.troubles["memory"] == 1
    memory.down = False
    assert topics(call(service, body("patient-view"))) == []


def test_cards_that_had_to_be_dropped_are_counted(service: CdsService, memory: Notebook) -> None:
    memory.lost = 1
    assert call(service, body("patient-view")).troubles["unremembered"] == 1


def test_a_plan_without_snooze_heeds_no_override(plans: list[Loaded], memory: Notebook) -> None:
    plan = dataclasses.replace(plans[0].plan, snooze=None)
    service = CdsService([dataclasses.replace(plans[0], plan=plan)], clock=lambda: NOW, memory=memory)
    call(service, body("patient-view"))
    memory.override_all()
    assert topics(call(service, body("patient-view"))) == ["imaging-none-on-record"]
    assert memory.asked == 0


def test_orders_nested_beyond_reason_are_like_no_other(service: CdsService, memory: Notebook) -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"x": deep}
    asked = body("order-select", order(somethingNew=deep | {"end": "1"}))
    assert topics(call(service, asked)) == ["imaging-standard-mri"]
    memory.override_all()
    assert topics(call(service, asked)) == ["imaging-standard-mri"]


def test_feedback_must_be_kept_as_long_as_it_is_heeded(plans: list[Loaded]) -> None:
    check_kept(plans, 90)
    with pytest.raises(ContentError, match=r"storage\.keep_days: is shorter than the overrideWindow"):
        check_kept(plans, 30)


# --- Rules about rules -----------------------------------------------------------------------------------------------


def rule(name: str, *groups: Group, indicator: str = "warning", suppresses: Sequence[str] = ()) -> Rule:
    return Rule(
        id=name, topic={"system": "urn:t", "code": name}, hooks=frozenset({"patient-view"}), groups=groups,
        conditions=(), indicator=indicator, evidence=(), suggestions=(), selection_behavior="any",
        suppresses=frozenset(suppresses), title="", description="", reads=frozenset(), element="",
    )  # fmt: skip


def decided(asleep: set[str], *rules: Rule, limit: int = 9) -> tuple[list[str], dict[str, str]]:
    plan = Plan(
        id="p", version="1", title="", description="", digest="", terminology=None, retrieval=None,  # type: ignore[arg-type]
        facts={}, parameters={}, constants={}, rules=rules, override_reasons=(), card_limit=limit, quiet={},
    )  # fmt: skip

    def resting(heard: Sequence[Rule]) -> Mapping[str, str]:
        return {one.id: "snoozed" for one in heard if one.id in asleep}

    decision = decide(plan, [Finding(one, True) for one in rules], "patient-view", resting)
    return [one.id for one in decision.spoken], decision.silenced


ONE = Group("one-of", (), True)


def test_the_next_of_the_group_does_not_take_its_place() -> None:
    spoken, silenced = decided({"a"}, rule("a", ONE), rule("b", ONE), rule("c"))
    assert spoken == ["c"]
    assert silenced["a"] == "snoozed"
    assert "snoozed" in silenced["b"]


def test_what_it_suppresses_stays_silent() -> None:
    spoken, silenced = decided({"a"}, rule("a", suppresses=["b", "one-of"]), rule("b"), rule("c", ONE), rule("d"))
    assert spoken == ["d"]
    assert silenced["b"] == "suppressed by a, which is snoozed"


def test_a_critical_card_comes_through() -> None:
    loud = rule("b", ONE, indicator="critical")
    assert decided({"a"}, rule("a", ONE, suppresses=["b"]), loud)[0] == ["b"]
    assert decided(set(), rule("a", ONE, suppresses=["b"]), loud)[0] == ["a"], "but not if the other one speaks"


def test_it_takes_no_place_of_the_limit() -> None:
    assert decided({"a"}, rule("a"), rule("b"), rule("c"), limit=2)[0] == ["b", "c"]


def test_what_is_itself_suppressed_silences_nobody() -> None:
    spoken, _ = decided({"b"}, rule("a", suppresses=["b"]), rule("b", suppresses=["c"]), rule("c"))
    assert spoken == ["a", "c"]


# --- What an order says ----------------------------------------------------------------------------------------------


def test_order_case_and_spacing_do_not_matter() -> None:
    one = order(note=[{"text": "With  CISS"}, {"text": "b"}])
    two = order("x", note=[{"text": "b", "time": "2026-01-01"}, {"text": "with ciss "}])
    assert said_by([one, order(code="1")]) == said_by([order(code="1"), two])
    assert said_by([one]) != said_by([one, order(code="1")])
    assert said_by([]) == ""
    assert said_by([one, two]) == said_by([one])


@pytest.mark.parametrize("huge", [[1] * 10_000, {str(n): n for n in range(10_000)}, [[[]] * 100] * 100])
def test_what_is_too_much_is_not_compared(huge: Any) -> None:
    with pytest.raises(TooMuch):
        said_by([order(), order(code="1", x=huge)])


def test_many_orders_are_compared() -> None:
    assert len(said_by(order(code=str(n)) for n in range(300)).splitlines()) == 300


def test_odd_orders_are_no_trouble() -> None:
    said_by([{"resourceType": "ServiceRequest", "code": "text", "note": [None, 3, "\ud800"], "x": {"a": [[]]}}, {}])
