"""The trace: every outcome of a rule in words, what it rests on, and no free text of the chart."""

import json
from typing import Any

import pytest
from made_up_logic import (
    EXTENSIONS,
    UNREAD,
    UNREADABLE,
    colour,
    condition,
    conditions,
    evaluation,
    fact,
    rule,
    small_plan,
)

from cds_hooks.answer.assembly import decide
from cds_hooks.reasoning.plan import Plan
from cds_hooks.reasoning.trace import as_text, trace


def traced(plan: Plan, *resources: dict[str, Any], **sources: Any) -> dict[str, Any]:
    made = evaluation(plan, *resources, **sources)
    findings = made.findings()
    decision = decide(plan, findings, "patient-view")
    cards = {one.id: f"Summary of {one.id}" for one in decision.spoken}
    return trace(made, findings, cards, decision.silenced, {**made.chart.problems, **made.problems})


SILENCER = rule("loud", "%warm.exists()", extension=[{"url": EXTENSIONS + "suppresses", "valueString": "meek"}])
PLAN = small_plan(
    SILENCER,
    rule("meek", "%warm.exists()"),
    rule("plain", "%warm.empty()"),
    rule("open", "%orders.exists()"),
    {"id": "gate", "condition": conditions("%warm.empty()"), "action": [rule("behind", "true")]},
)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("loud", "card"),
        ("meek", "fired, but suppressed by loud"),
        ("plain", "not fired"),
        ("open", "unknown"),
        ("behind", "not asked: gate gate is closed"),
    ],
)
def test_each_outcome(name: str, outcome: str) -> None:
    shown = traced(PLAN, condition(), orders=UNREAD)
    assert next(one["outcome"] for one in shown["rules"] if one["id"] == name) == outcome
    assert f"{name}: {outcome}" in as_text(shown)


def test_what_a_rule_rests_on_and_what_is_lacking() -> None:
    shown = traced(PLAN, condition(), orders=UNREAD)
    rules = {one["id"]: one for one in shown["rules"]}
    (asked,) = rules["loud"]["conditions"]
    assert asked == {"asks": "%warm.exists()", "verdict": "true", "rests on": {"warm": ["Condition/c1"]}}
    (asked,) = rules["open"]["conditions"]
    assert (asked["verdict"], asked["lacking"]) == ("unknown", ["orders"])
    assert "conditions" not in rules["behind"]
    assert rules["loud"]["evidence"] == ["E1"]
    assert shown["inputs"]["orders"] == {"how": "missing", "count": 0, "complete": False}
    assert shown["inputs"]["conditions"] == {"how": "supplied", "count": 1, "complete": True}
    assert shown["gates"][0]["verdict"] == "false"
    assert shown["cards"] == [{"rule": "loud", "summary": "Summary of loud"}]


def test_the_screen_names_cards_gates_and_inputs() -> None:
    text = as_text(traced(PLAN, condition(), orders=UNREAD))
    for words in ("[loud] Summary of loud", "gate gate: false", "lacking: orders", "not whole", "warm = Condition/c1"):
        assert words in text
    assert as_text(traced(small_plan(rule("r", "false")))).endswith("cards\n  none")


def test_only_facts_that_were_read_and_not_too_many_values() -> None:
    plan = small_plan(rule("r", "%many.exists()"), extension=[fact("many", "%warm"), fact("unread", "%warm")])
    shown = traced(plan, *(condition(id=f"c{number}") for number in range(30)))
    assert list(shown["facts"]) == ["many"]
    assert len(shown["facts"]["many"]) < 12
    assert shown["facts"]["many"][-1] == "… 30 in all"


def test_the_record_that_leaves_a_question_open_is_named() -> None:
    plan = small_plan(rule("r", "%old.exists()"), extension=[fact("old", "%warm.where(recordedDate.exists() or {})")])
    shown = traced(plan, condition(id="c1", recordedDate=None), condition(id="c2", recordedDate="2026"))
    assert shown["facts"]["old"] == ["Condition/c2", "perhaps Condition/c1"]
    shown = traced(plan, condition(id="c1", recordedDate=None))
    assert shown["facts"]["old"] == ["perhaps Condition/c1"]
    assert "unknown %old.exists()" in as_text(shown)
    assert "old = perhaps Condition/c1" in as_text(shown)


def test_swallowed_problems_are_shown() -> None:
    plan = small_plan(rule("r", "%warm.select(code.lower()).exists()"))
    foreign = condition("c2", subject={"reference": "Patient/p2"})
    shown = traced(plan, condition(code=colour("red") | {"text": "x"}), foreign)
    assert shown["problems"] == {"foreign-subject": 1, "expression": 1}
    assert "foreign-subject: 1" in as_text(shown)


MARK = "Jane-Doe-Secret"
PRIVATE = [
    condition(text={"div": MARK}, note=[{"text": MARK}], code={**colour("red"), "text": MARK}, onsetString=MARK),
    condition(id="c2", code={"coding": [{**colour("red")["coding"][0], "display": MARK}]}, recorder={"display": MARK}),
    condition(id="c3", evidence=[{"detail": [UNREADABLE | {"display": MARK}]}]),
]


@pytest.mark.parametrize(
    "text", ["%warm", "%warm.code", "%warm.code.coding", "%warm.recordedDate", "%warm.exists()", "%warm.evidence"]
)
def test_no_free_text_of_the_chart(text: str) -> None:
    shown = traced(small_plan(rule("r", "%f.exists()"), extension=[fact("f", text)]), *PRIVATE)
    assert "f" in shown["facts"]
    assert MARK not in json.dumps(shown)
    assert MARK not in as_text(shown)
    perhaps = traced(small_plan(rule("r", "%f.exists()"), extension=[fact("f", f"({text}).where({{}})")]), *PRIVATE)
    assert MARK not in json.dumps(perhaps)


# Facts may hold strings of the chart, be it only by way of onset[x] (onsetString).
@pytest.mark.parametrize("text", ["%warm.onset", "%warm.code.text", "%warm.note.text", "%warm.recorder.display"])
def test_no_free_text_of_the_chart_by_way_of_strings(text: str) -> None:
    test_no_free_text_of_the_chart(text)
