"""Which rules speak: suppression, one of a group, quiet hooks, the cap, in the plan's order; and the card itself."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from made_up_logic import UNREAD, condition, evaluation, fact, small_plan
from made_up_logic import rule as made_rule

from cds_hooks.answer.assembly import build, decide, settled
from cds_hooks.answer.suggestions import Requested
from cds_hooks.answer.templates import Cards
from cds_hooks.errors import ContentError
from cds_hooks.protocol.response import Action, Card, Coding, Source, Suggestion
from cds_hooks.reasoning.evaluation import Finding
from cds_hooks.reasoning.plan import Group, Plan, Rule
from cds_hooks.reasoning.silencing import circle_in

HOOK = "patient-view"
ONE, OTHER = Group("one", (), True), Group("other", (), True)
ALL = Group("all", (), False)


def rule(name: str, *groups: Group, indicator: str = "info", suppresses: str = "") -> Rule:
    return Rule(
        id=name, topic={"system": "urn:topics", "code": name, "display": name}, hooks=frozenset({HOOK}), groups=groups,
        conditions=(), indicator=indicator, evidence=("E1",), suggestions=(), selection_behavior="at-most-one",
        suppresses=frozenset(suppresses.split()), title=name, description="", reads=frozenset(), element=name,
    )  # fmt: skip


EMPTY = small_plan(made_rule("r", "true"))


def plan_of(**changes: Any) -> Plan:
    return dataclasses.replace(EMPTY, **({"card_limit": 10} | changes))


def decided(plan: Plan, *rules: Rule, silent: str = "") -> tuple[list[str], dict[str, str]]:
    quiet: dict[str, Any] = {"x": False, "u": None}
    findings = [Finding(one, quiet.get(one.id[0], True) if silent else True) for one in rules]
    found = decide(plan, findings, HOOK)
    return [one.id for one in found.spoken], found.silenced


def test_the_order_of_the_plan_and_only_what_is_true() -> None:
    rules = [rule("b"), rule("x"), rule("a", indicator="critical"), rule("u")]
    assert decided(plan_of(), *rules, silent="x u") == (["b", "a"], {})


@pytest.mark.parametrize(
    ("rules", "spoken"),
    [
        ([rule("a", suppresses="b"), rule("b")], ["a"]),
        ([rule("b"), rule("a", suppresses="b")], ["a"]),  # also one that stands before it
        ([rule("a", suppresses="one"), rule("b", ALL, ONE), rule("c", OTHER)], ["a", "c"]),
        ([rule("b", ALL, ONE), rule("a", suppresses="all")], ["a"]),
        ([rule("a", suppresses="b"), rule("b", suppresses="c"), rule("c")], ["a", "c"]),  # the silenced silence nobody
        ([rule("a", suppresses="a")], ["a"]),
    ],
)
def test_suppression(rules: list[Rule], spoken: list[str]) -> None:
    found, silenced = decided(plan_of(), *rules)
    assert found == spoken
    assert set(silenced) == {one.id for one in rules} - set(spoken)
    assert all(reason.startswith("suppressed by ") for reason in silenced.values())


def test_of_two_that_suppress_each_other_the_first_speaks() -> None:
    assert decided(plan_of(), rule("a", suppresses="b"), rule("b", suppresses="a"))[0] == ["a"]


@pytest.mark.parametrize(
    ("rules", "circle"),
    [
        ([rule("a", suppresses="b"), rule("b", suppresses="a")], "a b"),
        ([rule("a", suppresses="b"), rule("b", suppresses="c"), rule("c", suppresses="a")], "a b c"),
        ([rule("z", suppresses="a"), rule("a", suppresses="b"), rule("b", suppresses="a")], "a b"),
        ([rule("a", suppresses="one"), rule("b", ONE, suppresses="a")], "a b"),  # by the name of a group
        ([rule("a", ONE), rule("b", ONE, suppresses="a")], "a b"),  # the first of a group, and by name
        ([rule("a", suppresses="b"), rule("b", suppresses="c"), rule("c")], ""),
        ([rule("a", suppresses="a")], ""),  # itself it does not silence
        ([rule("a", ONE), rule("b", ONE), rule("c", ALL, ONE)], ""),
        ([rule("a", suppresses="c"), rule("b", suppresses="c"), rule("c", suppresses="d"), rule("d")], ""),
    ],
)
def test_a_circle_of_rules_is_found(rules: list[Rule], circle: str) -> None:
    assert " ".join(circle_in(rules) or ()) == circle


def test_rules_that_never_meet_make_no_circle() -> None:
    one = rule("a", suppresses="b")
    other = dataclasses.replace(rule("b", suppresses="a"), hooks=frozenset({"order-sign"}))
    assert circle_in([one, other]) is None


def test_rules_that_never_all_meet_make_no_circle() -> None:
    hooks = {"a": "x y", "b": "y z", "c": "z x"}
    rules = [dataclasses.replace(rule(name, suppresses=other), hooks=frozenset(hooks[name].split()))
             for name, other in ("ab", "bc", "ca")]  # fmt: skip
    assert circle_in(rules) is None


def test_a_long_chain_is_no_circle() -> None:
    chain = [rule(str(number), suppresses=str(number + 1)) for number in range(1500)]
    assert circle_in(chain) is None


@pytest.mark.parametrize(
    ("rules", "spoken"),
    [
        ([rule("a", ONE), rule("b", ONE)], ["a"]),
        ([rule("a", ONE), rule("b", OTHER)], ["a", "b"]),
        ([rule("a", ALL, ONE), rule("b", ALL, ONE), rule("c", ALL)], ["a", "c"]),
        ([rule("a", ONE, ALL), rule("b", ONE)], ["a"]),
        ([rule("z", suppresses="a"), rule("a", ONE), rule("b", ONE)], ["z", "b"]),
    ],
)
def test_at_most_one_of_a_group(rules: list[Rule], spoken: list[str]) -> None:
    assert decided(plan_of(), *rules)[0] == spoken


def test_a_quiet_hook() -> None:
    rules = [rule("i"), rule("w", indicator="warning"), rule("c", indicator="critical")]
    assert decided(plan_of(quiet={HOOK: "warning"}), *rules) == (["w", "c"], {"i": "info is not shown on patient-view"})
    assert decided(plan_of(quiet={"order-sign": "warning"}), *rules)[0] == ["i", "w", "c"]


@pytest.mark.parametrize(
    "rules",
    [
        [rule("i", ONE), rule("w", ONE, indicator="warning")],
        [rule("i", suppresses="w"), rule("w", indicator="warning")],
    ],
)
def test_what_is_not_shown_silences_nobody(rules: list[Rule]) -> None:
    assert decided(plan_of(quiet={HOOK: "warning"}), *rules)[0] == ["w"]


def test_a_withdrawn_rule_silences_nobody() -> None:
    assert decided(plan_of(), rule("a", ONE), rule("b", ONE), rule("c", suppresses="a"))[0] == ["b", "c"]


def test_the_cap_counts_what_is_shown() -> None:
    plan = plan_of(card_limit=2, quiet={HOOK: "warning"})
    rules = [rule("i"), *(rule(name, indicator="warning") for name in "abcd")]
    spoken, silenced = decided(plan, *rules)
    assert spoken == ["a", "b"]
    assert silenced["c"] == silenced["d"] == "beyond the limit of 2 cards"


def test_the_loudest_survive_the_cap_and_the_order_stays_the_plans() -> None:
    rules = [rule("i"), rule("w", indicator="warning"), rule("j"), rule("c", indicator="critical")]
    assert decided(plan_of(card_limit=3), *rules) == (["i", "w", "c"], {"j": "beyond the limit of 3 cards"})
    assert decided(plan_of(card_limit=1), *rules)[0] == ["c"]


def test_nothing_fired() -> None:
    assert decided(plan_of(), rule("x"), silent="x") == ([], {})


# --- The card -------------------------------------------------------------------------------------------------------


def test_a_card(tmp_path: Path) -> None:
    (tmp_path / "topic.md.j2").write_text("Summary\nDetail by {{ service }}", "utf-8")
    reasons = ({"system": "urn:r", "code": "r", "display": "Reason"},)
    made = evaluation(plan_of(override_reasons=reasons))
    card = build(rule("topic", indicator="warning"), made, Cards(tmp_path, lambda s, c: None), WHO, "The *service*")
    assert (card.summary, card.detail, card.indicator) == ("Summary", "Detail by The *service*", "warning")
    assert card.source.label == "The *service*"
    assert card.source.topic is not None
    assert (card.source.topic.system, card.source.topic.code) == ("urn:topics", "topic")
    assert card.suggestions is None
    assert card.overrideReasons is not None
    assert [reason.code for reason in card.overrideReasons] == ["r"]
    assert card.uuid != build(rule("topic"), made, Cards(tmp_path, lambda s, c: None), WHO, "x").uuid


WHO = Requested("p1", "Practitioner/u1", None)


@pytest.mark.parametrize("summary", ["x" * 140, "", "  "])
def test_a_summary_that_the_specification_forbids_is_no_card(tmp_path: Path, summary: str) -> None:
    (tmp_path / "topic.md.j2").write_text(f"{summary}\nDetail", "utf-8")
    with pytest.raises((ValueError, ContentError)):
        build(rule("topic"), evaluation(EMPTY), Cards(tmp_path, lambda s, c: None), WHO, "x")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("%warm.exists()", "True"), ("%warm.empty()", "False"), ("%orders.exists()", "None"), ("%warm", "1 things"),
        ("%orders", "None"), ("%warm | %orders", "1 things"), ("%patient", "0 things"),
    ],
)  # fmt: skip
def test_what_a_template_sees_of_a_fact(tmp_path: Path, text: str, shown: str) -> None:
    words = "{% if f.x is true or f.x is false or f.x is none %}{{ f.x }}{% else %}{{ f.x | length }} things{% endif %}"
    (tmp_path / "topic.md.j2").write_text(f"{words}\nDetail", "utf-8")
    made = evaluation(small_plan(made_rule("r", "true"), extension=[fact("x", text)]), condition(), orders=UNREAD)
    assert build(rule("topic"), made, Cards(tmp_path, lambda s, c: None), WHO, "x").summary == shown


# --- Several cards --------------------------------------------------------------------------------------------------


def changing(*names: str, kind: str = "update", recommended: bool | None = True) -> Suggestion:
    def made(name: str) -> Action:
        if kind == "delete":
            return Action(type="delete", description="d", resourceId=f"ServiceRequest/{name}")
        return Action(type=kind, description="d", resource={"resourceType": "ServiceRequest", "id": name})  # type: ignore[arg-type]

    return Suggestion(label="Do", isRecommended=recommended, actions=tuple(made(name) for name in names))


def card_with(*suggestions: Suggestion) -> Card:
    source = Source(label="s", topic=Coding(system="urn:t", code="t"))
    choice: Any = {"suggestions": suggestions, "selectionBehavior": "any"} if suggestions else {}
    return Card(summary="s", indicator="info", source=source, **choice)


def ticked(*cards: Card) -> list[list[bool | None]]:
    return [[one.isRecommended for one in card.suggestions or ()] for card in settled(cards)]


@pytest.mark.parametrize(
    ("later", "left"),
    [
        (changing("a"), None), (changing("b", "a"), None), (changing("a", kind="delete"), None),
        (changing("b"), True), (changing("a", kind="create"), True), (changing("a", recommended=False), False),
    ],
)  # fmt: skip
def test_two_changes_of_one_draft_are_not_both_ticked_in_advance(later: Suggestion, left: bool | None) -> None:
    """Each carries the whole draft as it was: the one applied last would undo the other."""
    assert ticked(card_with(changing("a")), card_with(), card_with(later)) == [[True], [], [left]]


def test_what_is_not_ticked_takes_nothing() -> None:
    assert ticked(card_with(changing("a", recommended=None)), card_with(changing("a"))) == [[None], [True]]
    shared = ticked(card_with(changing("a")), card_with(changing("a", "b")), card_with(changing("b")))
    assert shared == [[True], [None], [True]], "what lost its tick takes nothing either"
