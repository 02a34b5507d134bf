"""One call's reasoning: facts once and only when asked for, gates, and rules that are silent because unknown."""

from typing import Any

import pytest
from made_up_logic import UNREAD, colour, condition, conditions, evaluation, fact, parameter, rule, small_plan

from cds_hooks.chart.gather import Source
from cds_hooks.reasoning.nodes import Collection
from cds_hooks.reasoning.plan import Plan

RED = condition()


def verdicts(plan: Plan, *conditions: dict[str, Any], **sources: Source) -> dict[str, Any]:
    return {one.rule.id: one.verdict for one in evaluation(plan, *conditions, **sources).findings()}


def test_a_fact_is_computed_once_and_only_when_asked_for() -> None:
    plan = small_plan(rule("r", "%b.exists() and %b.exists()"), extension=[
        fact("a", "%warm.code"), fact("b", "%a.coding"), fact("unused", "%orders"),
    ])  # fmt: skip
    asked: list[str] = []
    made = evaluation(plan, RED)
    give = made.chart.input
    made.chart.input = lambda name: asked.append(name) or give(name)  # type: ignore[method-assign,func-returns-value]
    assert made.known("b") is None
    assert [one.verdict for one in made.findings()] == [True]
    assert asked == ["warm"]
    assert made.known("b") is made.value("b")
    assert made.known("unused") is None
    assert asked == ["warm"]


def test_what_the_call_says_of_itself() -> None:
    plan = small_plan(rule("r", "true"), extension=[
        parameter("limit", valueInteger=3), fact("said", "%hook | %user | %today | %now"), fact("more", "%limit + 1"),
    ])  # fmt: skip
    made = evaluation(plan)
    assert made.value("said").items == ["patient-view", "Practitioner/u1", "2026-11-21", "2026-11-21T10:30:00+00:00"]
    assert made.value("more").items == [4]
    with pytest.raises(KeyError):
        made.value("nobody")


def test_the_last_condition_is_not_asked_when_an_earlier_one_is_false() -> None:
    made = evaluation(small_plan(rule("r", "%warm.exists()", "%orders.exists()")))
    assert [one.verdict for one in made.findings()] == [False]
    assert made.known("orders") is None


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("true", "true"), True),
        (("true", "%orders.exists()"), None),
        (("%orders.exists()", "false"), False),
        (("%orders.exists()", "%orders.empty()"), None),
        (("{}",), None),
    ],
)
def test_the_conditions_of_a_rule_combine_after_kleene(texts: tuple[str, ...], expected: bool | None) -> None:
    assert verdicts(small_plan(rule("r", *texts)), orders=UNREAD) == {"r": expected}


GATES = {"open": "true", "shut": "false", "unknown": "%orders.exists()"}


@pytest.mark.parametrize(
    ("outer", "inner", "own", "expected", "shut_by"),
    [
        ("open", "open", "true", True, None),
        ("shut", "open", "true", False, "outer"),
        ("open", "shut", "true", False, "inner"),
        ("unknown", "shut", "true", False, "inner"),
        # an unknown gate keeps silent, but a rule that is false anyway is false
        ("unknown", "open", "true", None, None),
        ("open", "unknown", "true", None, None),
        ("unknown", "open", "false", False, None),
        ("unknown", "unknown", "{}", None, None),
    ],
)
def test_gates(outer: str, inner: str, own: str, expected: bool | None, shut_by: str | None) -> None:
    nested = {"id": "inner", "condition": conditions(GATES[inner]), "action": [rule("r", own)]}
    plan = small_plan({"id": "outer", "condition": conditions(GATES[outer]), "action": [nested]})
    (found,) = evaluation(plan, orders=UNREAD).findings()
    assert (found.verdict, found.gate) == (expected, shut_by)


def test_behind_a_shut_gate_nothing_is_asked() -> None:
    gate = {"id": "g", "condition": conditions("%warm.exists()"), "action": [rule("a", "%x"), rule("b", "%x")]}
    plan = small_plan(gate, extension=[fact("x", "%orders.exists()")])
    made = evaluation(plan)
    assert [(one.rule.id, one.verdict, one.gate) for one in made.findings()] == [("a", False, "g"), ("b", False, "g")]
    assert made.known("x") is None


def test_a_shut_gate_does_not_shut_what_is_outside_of_it() -> None:
    gate = {"id": "g", "condition": conditions("false"), "action": [rule("inside", "true")]}
    assert verdicts(small_plan(gate, rule("outside", "true"))) == {"inside": False, "outside": True}


def test_only_the_rules_of_the_hook() -> None:
    other = rule("signing", "true", trigger=[{"type": "named-event", "name": "order-sign"}])
    plan = small_plan(rule("viewing", "true"), other)
    assert [one.rule.id for one in evaluation(plan).findings()] == ["viewing"]
    assert [one.rule.id for one in evaluation(plan, hook="order-sign").findings()] == ["signing"]
    assert evaluation(plan, hook="order-select").findings() == []


def test_calls_do_not_share_facts() -> None:
    plan = small_plan(rule("r", "%f.exists()"), extension=[fact("f", "%warm")])
    assert verdicts(plan, RED) == {"r": True}
    assert verdicts(plan) == {"r": False}
    assert verdicts(plan, conditions=UNREAD) == {"r": None}


def test_items_of_a_condition() -> None:
    plan = small_plan(rule("r", "%warm.id", "%orders.id"))
    (known, unknown) = plan.rules[0].conditions
    made = evaluation(plan, RED, orders=UNREAD)
    assert made.items(known, []) == ["c1"]
    assert made.items(unknown, []) is None
    assert made.verdict("warm") is True
    assert made.verdict("orders") is None


def test_a_swallowed_problem_is_counted() -> None:
    plan = small_plan(rule("r", "%warm.select(code.lower()).exists()"))
    made = evaluation(plan, RED | {"code": {"coding": colour("red")["coding"], "text": "x"}})
    assert [one.verdict for one in made.findings()] == [None]
    assert made.problems == {"expression": 1}
    assert made.value("warm") == Collection([RED | {"code": {**colour("red"), "text": "x"}}])
