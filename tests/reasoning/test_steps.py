"""The static check: what FHIR R4 does not have, or the plan does not name, is refused before the first call."""

import pytest
from made_up_logic import conditions, fact, package, parameter, rule, small_plan

from cds_hooks.errors import ContentError
from cds_hooks.reasoning import steps
from cds_hooks.reasoning.compiling import compile_plan
from cds_hooks.reasoning.fhirpath import ExpressionError, parse

NAMES = {
    "c": frozenset({"Condition"}), "o": frozenset({"Observation"}), "s": frozenset({"ServiceRequest"}),
    "m": frozenset({"MedicationRequest"}), "p": frozenset({"Patient"}), "any": steps.ANY, "word": frozenset({"string"}),
}  # fmt: skip


def infer(text: str, this: str = "Condition") -> steps.Types:
    return steps.infer(parse(text), NAMES, frozenset({this}))


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("%c.code", {"CodeableConcept"}),
        ("%c.code.coding.code", {"code"}),
        ("code.text", {"string"}),
        ("%c.where(code.exists()).first().recordedDate", {"dateTime"}),
        # backbone elements
        ("%c.stage", {"Condition.stage"}),
        ("%c.stage.summary.coding", {"Coding"}),
        ("%o.component.code", {"CodeableConcept"}),
        ("%o.component.referenceRange.low", {"Quantity"}),
        # choice elements
        ("%m.medication", {"CodeableConcept", "Reference"}),
        ("%p.deceased", {"boolean", "dateTime"}),
        ("%c.onset.start", {"dateTime"}),
        ("%o.value.comparator", {"code"}),
        # inherited elements, unions, results of functions
        ("%c.note.text", {"markdown"}),
        ("(%c | %o).code", {"CodeableConcept"}),
        ("%c.code.memberOf('x')", {"boolean"}),
        ("%c.select(code)", {"CodeableConcept"}),
        ("%c.count()", {"integer"}),
        ("%c.id", {"System.String"}),
        # not known: anything goes
        ("%any.anything.at.all", set()),
        ("%c.evidence.detail.resolve().anything", set()),
    ],
)
def test_types_of_valid_expressions(text: str, types: set[str]) -> None:
    assert infer(text) == types


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("%c.kode", "Condition has no element kode"),
        ("%c.code.coding.kode", "Coding has no element kode"),
        ("kode.exists()", "Condition has no element kode"),
        ("%c.where(kode.exists())", "Condition has no element kode"),
        ("%c.stage.kode", "has no element kode"),
        ("%o.component.referenceRange.kode", "has no element kode"),
        ("%m.medication.kode", "has no element kode"),
        ("%s.reasonCode.memberOf('x') and %s.kode = 'x'", "ServiceRequest has no element kode"),
        ("(%c | %o).kode", "Condition or Observation has no element kode"),
        ("iif(true, %c.kode)", "no element kode"),
        ("%c.all(code.exists(kode))", "no element kode"),
        ("%word.length", "string has no element length"),
        ("%c.foo()", r"unknown function foo\(\)"),
        ("%c.where(foo())", r"unknown function foo\(\)"),
        ("%c.descendants()", r"unknown function descendants\(\)"),
        ("%c.repeat(code)", r"unknown function repeat\(\)"),
        ("now()", r"unknown function now\(\)"),
        ("today()", r"unknown function today\(\)"),
        ("%c.trace('x')", r"unknown function trace\(\)"),
        ("%c.ofType(Condishun)", r"ofType\(\) takes the name of a type of FHIR R4, not Condishun"),
        ("%c.ofType(Other.Condition)", "not Other.Condition"),
        ("%c.ofType()", "takes the name"),
        ("%o.value.ofType(Quantity).kode", "Quantity has no element kode"),
        ("%c is Condition", "are not supported"),
        ("%c.where($this as Condition)", "are not supported"),
        ("%c.is(Condition)", r"unknown function is\(\)"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        infer(text)


@pytest.mark.parametrize("text", ["%c[foo()]", "%c.code.coding[kode]"])
def test_an_index_is_checked_too(text: str) -> None:
    with pytest.raises(ExpressionError):
        infer(text)


@pytest.mark.parametrize(
    ("parts", "element", "reason"),
    [
        ([fact("f", "%nobody.exists()")], "extension[variable 0: f]", "unknown name %nobody"),
        ([fact("f", "%later"), fact("later", "%warm")], "extension[variable 0: f]", "unknown name %later"),
        ([fact("f", "%f")], "extension[variable 0: f]", "unknown name %f"),
        ([fact("f", "%warm"), fact("f", "%warm")], "extension[variable 1: f]", "name is taken"),
        ([fact("warm", "true")], "extension[variable 0: warm]", "name is taken"),
        ([fact("hook", "true")], "extension[variable 0: hook]", "name is taken"),
        ([fact("f", "%warm.code.memberOf(%`vs-none`)")], "extension[variable 0: f]", "unknown name %vs-none"),
        ([fact("f", "%warm garbage")], "extension[variable 0: f]", "syntax error"),
        ([fact("f", "%warm.kode")], "extension[variable 0: f]", "no element kode"),
        ([parameter("p", valueString="a"), parameter("p", valueString="b")], "parameter p", "twice"),
        ([parameter("p", valueDuration={"value": 1.5, "code": "d"})], "parameter p", "whole number"),
    ],
)
def test_names_and_facts_of_a_plan(parts: list[dict[str, object]], element: str, reason: str) -> None:
    with pytest.raises(ContentError, match=reason) as caught:
        small_plan(rule("r", "true"), extension=parts)
    assert (caught.value.file, caught.value.element) == ("plan.yaml", element)


GROUP = {"id": "g", "condition": conditions("true"), "action": [rule("r", "true")]}
FILTERED = {"id": "x", "type": "Condition"}
BUTTON = {"title": "Do", "action": [{"title": "Remove", "type": {"coding": [{"code": "remove"}]}}]}


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        ([], "no rule"),
        ([rule("r", "true"), rule("r", "true")], "used twice"),
        ([{k: v for k, v in rule("r", "true").items() if k != "id"}], "needs an id"),
        ([rule("r")], "a trigger and a condition"),
        ([rule("r", "true", trigger=[])], "a trigger and a condition"),
        ([rule("r", "true", documentation=[])], "needs evidence"),
        ([rule("r", "true", priority="loud")], "is needed"),
        ([rule("r", "%warm.kode")], "no element kode"),
        ([GROUP | {"condition": conditions("%nobody")}], "unknown name"),
        ([rule("r", "true", action=[BUTTON])], "need a target"),
        ([rule("r", "true", action=[BUTTON | {"title": ""}])], "needs a title"),
        ([rule("r", "true", action=[BUTTON | {"action": []}])], "at least one action"),
    ],
)
def test_rules_of_a_plan(actions: list[dict[str, object]], reason: str) -> None:
    with pytest.raises(ContentError, match=reason):
        small_plan(*actions)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"type": "Condition", "limit": 1}, "needs an id"),
        ({"id": "drafts", "type": "Condition", "limit": 1}, "needs an id of its own"),
        ({"id": "x", "type": "Basic", "limit": 1}, "no search is known for Basic"),
        ({"id": "x", "type": "Condition", "limit": 1}, "exactly one entry with a limit"),
        ({"id": "x", "type": "Procedure"}, "exactly one entry with a limit"),
        ({"id": "orders", "type": "Condition"}, "used twice"),
        (FILTERED | {"codeFilter": [{"path": "code", "valueSet": "urn:none"}]}, "unknown value set"),
        (FILTERED | {"codeFilter": [{"path": "code"}]}, "path and valueSet"),
    ],
)
def test_entries_of_a_library(entry: dict[str, object], reason: str) -> None:
    made = package(rule("r", "true"))
    made.library["dataRequirement"].append(entry)
    with pytest.raises(ContentError, match=reason) as caught:
        compile_plan(made, {})
    assert caught.value.file == "library.yaml"
