"""Suggestions: orders created from activities, updated as a whole, removed; complete or not at all."""

import copy
from typing import Any

import pytest
from made_up_logic import (
    EXTENSIONS,
    HERE,
    SYSTEM,
    UNREAD,
    colour,
    condition,
    conditions,
    evaluation,
    expression,
    fact,
    order,
    small_plan,
)
from made_up_logic import rule as made_rule

from cds_hooks.answer.suggestions import Requested, actions_of
from cds_hooks.errors import ContentError
from cds_hooks.protocol.response import Suggestion, hollow

WHO = Requested("p1", "Practitioner/u1", "e1")
OTHER_SYSTEM = "urn:example:paints"
ACTIVITY: dict[str, Any] = {
    "resourceType": "ActivityDefinition", "id": "paint", "url": f"{HERE}/ActivityDefinition/paint",
    "kind": "ServiceRequest", "intent": "plan",
    "code": {
        "coding": [{"system": SYSTEM, "code": "blue"}, {"system": OTHER_SYSTEM, "code": "B-1"}], "text": "Paint it",
    },
}  # fmt: skip


def value(path: str, text: str) -> dict[str, Any]:
    return {"path": path, "expression": expression(text)}


def change(kind: str, target: str | None = None, *values: dict[str, Any], when: str = "true") -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": f"{kind} it", "type": {"coding": [{"code": kind}]}, "condition": conditions(when),
        "dynamicValue": list(values),
    }  # fmt: skip
    if target:
        found["extension"] = [{"url": EXTENSIONS + "target", "valueExpression": expression(target)}]
    if kind == "create":
        found["definitionCanonical"] = ACTIVITY["url"]
    return found


def offered(
    *changes: dict[str, Any], drafts: Any = (), chart: Any = (), when: str = "true", facts: Any = (),
    who: Requested = WHO, **sources: Any,
) -> list[dict[str, Any]] | None:  # fmt: skip
    """The actions of one suggestion with these changes; whatever is offered must be what the answer model takes."""
    button = {"title": "Do it", "condition": conditions(when), "action": list(changes)}
    extension = [fact(name, text) for name, text in facts]
    plan = small_plan(made_rule("r", "true", action=[button]), extension=extension, more=[ACTIVITY])
    made = evaluation(plan, *chart, drafts=drafts, **sources)
    before = copy.deepcopy((drafts, chart))
    actions = actions_of(plan.rules[0].suggestions[0], made, who)
    assert (drafts, chart) == before, "the input is not touched"
    if actions is not None:
        assert hollow(actions) is None, "nothing null or empty is sent"
        Suggestion.model_validate({"label": "Do it", "actions": actions})
    return actions


def resource(found: list[dict[str, Any]] | None) -> dict[str, Any]:
    assert found is not None
    return found[0]["resource"]  # type: ignore[no-any-return]


# --- Create ---------------------------------------------------------------------------------------------------------


def test_a_created_order() -> None:
    found = offered(change("create", None, value("note.text", "'as agreed'")))
    assert found == [{
        "type": "create", "description": "create it",
        "resource": {
            "resourceType": "ServiceRequest", "id": "paint", "status": "draft", "intent": "plan",
            "subject": {"reference": "Patient/p1"}, "requester": {"reference": "Practitioner/u1"},
            "encounter": {"reference": "Encounter/e1"}, "note": [{"text": "as agreed"}],
            "code": {"coding": [{"system": SYSTEM, "code": "blue"}], "text": "Paint it"},
        },
    }]  # fmt: skip


def test_without_an_encounter_none_is_made_up() -> None:
    assert "encounter" not in resource(offered(change("create"), who=Requested("p1", "Practitioner/u1", None)))


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        ([], "blue"),
        ([SYSTEM], "blue"),
        ([OTHER_SYSTEM], "B-1"),
        (["urn:unknown"], "blue"),
        (["urn:unknown", OTHER_SYSTEM], "B-1"),
    ],
)
def test_the_order_in_hand_chooses_the_code_system(systems: list[str], expected: str) -> None:
    drafts = [order(code={"coding": [{"system": system, "code": "x"} for system in systems]})]
    assert [one["code"] for one in resource(offered(change("create"), drafts=drafts))["code"]["coding"]] == [expected]


def test_an_alias_is_the_orders_own_system() -> None:
    alias = {"url": EXTENSIONS + "alias", "valueUri": "urn:oid:1.2.3"}
    paints = {"resourceType": "CodeSystem", "id": "paints", "url": OTHER_SYSTEM, "extension": [alias]}
    button = {"title": "Do it", "action": [change("create")]}
    plan = small_plan(made_rule("r", "true", action=[button]), more=[ACTIVITY, paints])
    made = evaluation(plan, drafts=[order(code={"coding": [{"system": "urn:oid:1.2.3", "code": "x"}]})])
    found = resource(actions_of(plan.rules[0].suggestions[0], made, WHO))
    assert [one["code"] for one in found["code"]["coding"]] == ["B-1"]


@pytest.mark.parametrize(
    ("drafts", "ids"),
    [
        ([], ["paint", "paint-2"]),
        ([order("paint")], ["paint-2", "paint-3"]),
        ([order("paint"), order("paint-2")], ["paint-3", "paint-4"]),
        ([order("paint", resourceType="Task")], ["paint", "paint-2"]),
    ],
)
def test_ids_are_free_and_the_same_each_time(drafts: Any, ids: list[str]) -> None:
    for _ in range(2):
        found = offered(change("create"), change("create"), drafts=drafts)
        assert found is not None
        assert [action["resource"]["id"] for action in found] == ids


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([value("note.text", "'a'"), value("note.time", "'2026'")], {"note": [{"text": "a", "time": "2026"}]}),
        ([value("note[+].text", "'a'"), value("note[+].text", "'b'")], {"note": [{"text": "b"}]}),
        ([value("reasonCode", "%warm.code")], {"reasonCode": [colour("red"), colour("orange")]}),
        ([value("reasonCode.coding", "%warm.code.coding")],
         {"reasonCode": [{"coding": [*colour("red")["coding"], *colour("orange")["coding"]]}]}),
        ([value("supportingInfo[+].reference", "%warm.select('Condition/' & id)")],
         {"supportingInfo": [{"reference": "Condition/c1"}, {"reference": "Condition/c2"}]}),
        ([value("occurrenceTiming.repeat.count", "3")], {"occurrenceTiming": {"repeat": {"count": 3}}}),
        ([value("priority", "'urgent'")], {"priority": "urgent"}),
        # nothing to put in
        ([value("note.text", "{}")], {}),
        ([value("reasonCode", "%orders.code")], {}),
        ([value("priority", "%unread")], {}),
    ],
)  # fmt: skip
def test_values_of_a_created_order(values: Any, expected: dict[str, Any]) -> None:
    chart = [condition("c1"), condition("c2", "orange")]
    facts = [("unread", "%patient.where(active.memberOf(%`vs-warm`)).id")]
    found = resource(offered(change("create", None, *values), chart=chart, facts=facts))
    assert found == resource(offered(change("create"))) | expected


# --- Update ---------------------------------------------------------------------------------------------------------

WHOLE = order(
    modifierExtension=[{"url": "urn:m", "valueBoolean": True}], extension=[{"url": "urn:x", "valueDecimal": 1.10}],
    vendorElement={"kept": [1, {"deep": None, "kept": "x"}]}, _status={"id": "s"}, note=[{"text": "by hand"}],
    bodySite=[colour("blue")], priority="stat", reasonCode=[],
)  # fmt: skip


def test_an_update_keeps_all_but_what_it_replaces() -> None:
    found = offered(change("update", "%selected", value("code", "code.translate(%`cm-paler`)")), drafts=[WHOLE])
    assert found is not None
    assert [action["type"] for action in found] == ["update"]
    expected = copy.deepcopy(WHOLE) | {"code": {"coding": [{"system": SYSTEM, "code": "pink"}]}}
    del expected["reasonCode"], expected["vendorElement"]["kept"][1]["deep"]  # empty and null are not sent
    assert found[0]["resource"] == expected


@pytest.mark.parametrize(
    ("path", "text", "name", "expected"),
    [
        ("note[+].text", "'new'", "note", [{"text": "by hand"}, {"text": "new"}]),
        ("note.text", "'new'", "note", [{"text": "new"}]),
        ("bodySite", "%warm.code", "bodySite", [colour("red")]),
        ("bodySite[+]", "%warm.code", "bodySite", [colour("blue"), colour("red")]),
        ("bodySite[+]", "bodySite", "bodySite", [colour("blue")]),
        ("orderDetail[+].text", "'new'", "orderDetail", [{"text": "new"}]),
        ("orderDetail[+].text", "{}", "orderDetail", None),
        ("priority", "'routine'", "priority", "routine"),
        ("supportingInfo[+].reference", "'a' | 'b'", "supportingInfo", [{"reference": "a"}, {"reference": "b"}]),
        ("note[-]", "note.where(text = 'by hand')", "note", None),
        ("note[-]", "note.where(text = 'by machine')", "note", [{"text": "by hand"}]),
        ("orderDetail[-]", "orderDetail", "orderDetail", None),
    ],
)
def test_append_and_replace(path: str, text: str, name: str, expected: Any) -> None:
    found = offered(change("update", "%selected", value(path, text)), drafts=[WHOLE], chart=[condition()])
    assert resource(found).get(name) == expected


def test_an_entry_is_exchanged_for_another_and_the_rest_stays() -> None:
    old = "note.where(text = 'old')"
    values = [value("note[-]", old), value("note[+].text", f"{old}.select('new')")]
    asked = [order(note=[{"text": "old"}, {"text": "by hand"}])]
    assert resource(offered(change("update", "%selected", *values), drafts=asked))["note"] == [
        {"text": "by hand"}, {"text": "new"},
    ]  # fmt: skip
    assert "note" not in resource(offered(change("update", "%selected", *values), drafts=[order()]))


def test_only_whole_entries_are_taken_away() -> None:
    with pytest.raises(ContentError, match="whole entries"):
        offered(change("update", "%selected", value("note[-].text", "'old'")), drafts=[order()])


def test_an_element_that_is_no_list_where_one_is_due_is_appended_to() -> None:
    found = offered(change("update", "%selected", value("note[+].text", "'b'")), drafts=[order(note={"text": "a"})])
    assert resource(found)["note"] == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize("name", ["blue", "nothing"])
def test_a_missing_translation_drops_the_whole_suggestion(name: str) -> None:
    """Half an order set would mislead: neither the created order nor the other update is offered."""
    translated = change("update", "%selected", value("code", "code.translate(%`cm-paler`)"))
    assert offered(change("create"), translated, drafts=[order("o1"), order("o2", name)]) is None


def test_a_target_that_is_not_there_or_not_known_drops_the_suggestion() -> None:
    assert offered(change("create"), change("update", "%warm")) is None
    assert offered(change("create"), change("update", "%orders"), orders=UNREAD) is None
    assert offered(change("create"), change("remove", "%orders"), orders=UNREAD) is None
    assert offered(change("update", "%selected"), drafts=[{"resourceType": "ServiceRequest"}]) is None, "no id"


# --- Remove, and when -----------------------------------------------------------------------------------------------


def test_removal_names_each_order() -> None:
    found = offered(change("remove", "%selected"), drafts=[order("o1"), order("o2")])
    assert found == [
        {"type": "delete", "description": "remove it", "resourceId": "ServiceRequest/o1"},
        {"type": "delete", "description": "remove it", "resourceId": "ServiceRequest/o2"},
    ]


@pytest.mark.parametrize("when", ["false", "{}", "%orders.exists()"])
def test_what_is_not_known_to_apply_is_not_offered(when: str) -> None:
    assert offered(change("create"), when=when, orders=UNREAD) is None
    assert offered(change("create", when=when), orders=UNREAD) is None
    left = offered(change("create", when=when), change("remove", "%selected"), drafts=[order()], orders=UNREAD)
    assert left is not None
    assert [action["type"] for action in left] == ["delete"]


ODD: list[dict[str, Any]] = [
    {"note": None}, {"note": "x"}, {"note": []}, {"note": {}}, {"code": None}, {"code": "red"},
    {"code": [colour("red")]},
    {"code": {"coding": [None, {}, *colour("red")["coding"]]}}, {"code": {"coding": "red"}}, {"subject": []},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_drafts_never_raise(odd: dict[str, Any]) -> None:
    offered(change("update", "%selected", value("note[+].text", "'b'")), change("create"), drafts=[order(**odd)])
    offered(change("update", "%selected", value("code", "code.translate(%`cm-paler`)")), drafts=[order(**odd)])
