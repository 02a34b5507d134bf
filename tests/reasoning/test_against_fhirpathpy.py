"""Our compiled nodes against plain fhirpathpy as an oracle, on complete inputs: the same verdicts and values.

Intended differences, and no others:

1. `where`, `exists(c)` and `all` keep an item open when its criterion cannot be decided; fhirpathpy drops it.
2. `=`, `!=` and `in` compare single strings; with anything else on a side they cannot tell, fhirpathpy says false.
3. Where fhirpathpy raises an exception, we cannot tell.
4. A collection of several items cannot be a truth value; fhirpathpy's `and`, `or` raise or give nothing.
5. A null in a list is nothing; to fhirpathpy it is an item.
6. `|` drops the second of two equal values, as FHIRPath has it; to fhirpathpy an element and a literal differ.
7. `resolve()` finds a contained resource in the item that refers to it; here the oracle is given all of them at once.

`memberOf` of nothing is false, and `within` of a partial date may be empty: both are the functions' own doing, and the
oracle calls the same functions. So in each of 1 to 4 we know less than the oracle, never something else.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from made_up_logic import Call, colour, compiler, plainly

from cds_hooks.cases import read_cases, request_of
from cds_hooks.chart.chart import Chart
from cds_hooks.chart.gather import Source
from cds_hooks.loading import load_all
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import parse_request
from cds_hooks.reasoning.evaluation import Asked, Evaluation
from cds_hooks.reasoning.functions import raw
from cds_hooks.reasoning.nodes import Collection, verdict_of
from cds_hooks.reasoning.plan import Condition, Plan

# --- Constructs -----------------------------------------------------------------------------------------------------

ITEMS: list[dict[str, Any]] = [
    {"resourceType": "Condition", "id": "plain", "code": colour("red"), "recordedDate": "2026-11-20",
     "onsetDateTime": "2026-11-01", "bodySite": [colour("blue"), colour("red")], "note": [{"text": "glow"}]},
    {"resourceType": "Condition", "id": "bare"},
    {"resourceType": "Condition", "id": "text-only", "code": {"text": "a glowing red"}, "onsetString": "long ago"},
    {"resourceType": "Condition", "id": "partial", "code": colour("blue"), "recordedDate": "2025", "onsetPeriod": {}},
    {"resourceType": "Condition", "id": "stages", "stage": [{"summary": colour("red")}, {"type": colour("blue")}, {}],
     "evidence": [{"code": [colour("red")], "detail": [{"reference": "Observation/1"}]}]},
    {"resourceType": "Condition", "id": "empties", "code": {}, "bodySite": [], "note": [{}], "stage": [{}, {}]},
    {"resourceType": "Condition", "id": "nulls", "code": None, "bodySite": None, "onsetDateTime": None},
    {"resourceType": "Condition", "id": "wrapped", "code": [colour("red")], "bodySite": colour("blue")},
    {"resourceType": "Observation", "id": "quantity", "status": "final", "valueQuantity": {"value": 24, "unit": "x"},
     "effectiveDateTime": "2026-11-20T10:00:00Z", "code": colour("red")},
    {"resourceType": "Observation", "id": "coded", "status": "final", "valueCodeableConcept": colour("red"),
     "effectivePeriod": {"start": "2026-01"}, "component": [{"valueString": "a"}, {"valueInteger": 3}]},
    {"resourceType": "Observation", "id": "text", "status": "amended", "valueString": "glow", "code": {"coding": [{}]}},
    {"resourceType": "Observation", "id": "odd", "status": ["final"], "code": {"coding": colour("red")["coding"][0]}},
    {"resourceType": "Observation", "id": "odder", "status": {}, "valueQuantity": [{"value": 1}], "component": {}},
    {"resourceType": "MedicationRequest", "id": "drug", "medicationCodeableConcept": colour("red"), "status": "x"},
    {"resourceType": "MedicationRequest", "id": "reference", "medicationReference": {"reference": "Medication/1"}},
    {"resourceType": "Patient", "id": "boolean", "deceasedBoolean": False, "name": [{"given": ["A"]}]},
    {"resourceType": "Patient", "id": "dated", "deceasedDateTime": "2026", "name": [{"given": ["A", "B"], "use": "x"}]},
]  # fmt: skip
CONSTRUCTS = [
    # plain paths
    "code", "code.text", "code.coding.code", "status", "bodySite.coding.code", "note.text", "id", "name.given",
    # choice elements
    "onset", "onset.exists()", "onset.empty()", "value", "value.exists()", "value.value", "value.value < 30",
    "value.memberOf(%`vs-warm`)", "medication.memberOf(%`vs-warm`)", "medication.exists()", "deceased.exists()",
    "deceased.toString() != 'false'", "effective.exists()", "onset.within(%sevenDays)", "onset.matches('^2026')",
    "value.unit = 'x'",
    # nested backbone elements
    "stage.summary", "stage.type.memberOf(%`vs-cold`)", "stage.exists(summary.memberOf(%`vs-warm`))", "stage.exists()",
    "evidence.code.coding.code", "evidence.where(code.memberOf(%`vs-warm`)).detail.reference", "component.value",
    "component.exists(value = 'a')", "component.value.count() > 1", "evidence.detail.reference.exists()",
    # exists, empty, count
    "code.exists()", "code.empty()", "code.coding.exists()", "code.coding.code.exists()", "bodySite.exists()",
    "bodySite.empty()", "nothing.exists()", "note.text.exists()", "name.given.count() = 2", "code.exists().not()",
    # =, !=, in, ~
    "status = 'final'", "status != 'final'", "'final' = status", "status in ('final' | 'amended')", "status = %word",
    "status in ('final')", "id = 'plain'", "id != 'plain'", "id in ('plain' | 'bare')", "code.text = 'x'",
    "status ~ 'FINAL'",
    "name.given = 'A'", "name.given != 'A'", "%hook = 'patient-view'", "%hook != %word", "%word in ('red' | 'blue')",
    "recordedDate = '2025'", "status = note.text", "status = status", "code.coding.code = 'red'", "id in {}",
    # memberOf and translate
    "code.memberOf(%`vs-warm`)", "code.memberOf(%`vs-words`)", "(code | bodySite).memberOf(%`vs-warm`)",
    "bodySite.memberOf(%`vs-warm`)", "code.coding.memberOf(%`vs-warm`)", "nothing.memberOf(%`vs-warm`)",
    "code.coding.where(memberOf(%`vs-warm`))", "code.translate(%`cm-paler`)", "note.text.memberOf(%`vs-words`)",
    # time
    "recordedDate.within(%sevenDays)", "done()", "done().within(%sevenDays)", "latest().id",
    "onset.after(recordedDate)", "iif(onset.exists(), onset, recordedDate)",
    "iif(onset.exists(), onset, recordedDate).within(%sevenDays)",
    # logic, leaves and the rest
    "code.exists() and status.exists()", "code.exists() or status = 'x'", "code.exists() xor status.exists()",
    "status = 'final' implies code.exists()", "(status = 'final').not()", "status.empty() or status in ('a' | 'b')",
    "bodySite.all(memberOf(%`vs-warm`))", "bodySite.first()", "bodySite.last().coding.code", "bodySite[0].coding.code",
    "code.select(coding.code)", "note.text.lower()", "status.startsWith('f')", "name.where(use = 'x').given",
    "name.given.intersect('A' | 'C')", "name.given.exclude('A')", "(name.given | 'Z').count()", "'x' & id",
    "'x' & nothing & 'y'", "id & name.given", "id.matches('^t')", "note.text.matches('glow')", "nothing.matches('a')",
    "%hook.matches('^patient')", "name.given.matches('A')", "id & 'x' = 'plainx'",
    "deceased.ofType(boolean).exists()", "deceased.ofType(boolean).exists($this = true)",
    "deceased.ofType(dateTime).exists()", "value.ofType(string)", "deceased.ofType(FHIR.boolean).exists()",
    "(onset.ofType(dateTime) | onset.ofType(Period))", "onset.ofType(string)", "id.ofType(string)",
    "'a'.ofType(string)", "name.ofType(HumanName)",
    "stage.ofType(BackboneElement)", "recordedDate.ofType(date)", "value.ofType(Quantity).value",
    "id.length() > 4", "code.ofType(CodeableConcept).exists()", "true", "false", "{}", "{}.exists()", "iif(true, 'a')",
    "iif({}, 'a', 'b')",
]  # fmt: skip


def compared(text: str, ours: Collection, judged: Any, oracle: list[Any], where: str) -> bool:
    """Whether we know the answer; fails if it is another one than the oracle's."""
    mine, theirs = [raw(item) for item in ours.items], [raw(item) for item in oracle]
    if not ours.complete:
        assert all(item in theirs for item in mine), f"{text} on {where}: certain members {mine}, oracle {theirs}"
    else:
        assert mine == theirs, f"{text} on {where}"
    assert judged in (None, verdict_of(Collection(oracle))), f"{text} on {where}"
    return ours.complete


@pytest.mark.parametrize("form", ["plain", "named", "where"])
@pytest.mark.parametrize("text", CONSTRUCTS)
def test_constructs(text: str, form: str) -> None:
    """On the current item, as a step from a named input, and as a criterion over one."""
    for item in ITEMS:
        if form == "plain":
            whole, this, values = text, [item], {}
        else:
            whole = f"%one.where({text})" if form == "where" else f"%one.select({text})"
            this, values = [], {"one": [item]}
        call = Call({name: Collection(found) for name, found in values.items()})
        compiled = compiler(*values).compile(whole)
        ours, judged = compiled.collect(call, this), compiled.judge(call, this)
        try:
            oracle = plainly(whole, call, this, values)
        except Exception:  # noqa: S112 - difference 3: a bare Exception of any kind
            continue
        compared(whole, ours, judged, oracle, item["id"])


def test_a_null_in_a_list_is_nothing() -> None:
    assert compiler().compile("bodySite.exists()").judge(Call(), [{"bodySite": [None]}]) is False


def test_an_element_and_a_literal_of_the_same_value_are_one() -> None:
    found = compiler().compile("name.given | 'A'").collect(Call(), [{"name": [{"given": ["A", "B"]}]}])
    assert [raw(item) for item in found.items] == ["A", "B"]


# As FHIRPath has it; the plain nodes must not take the name for an element that is never there.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Condition.code.exists()", True),
        ("Condition.code.memberOf(%`vs-warm`)", True),
        ("Condition.id = 'plain'", True),
        ("Condition.id in ('plain' | 'bare')", True),
        ("Condition.recordedDate.within(%sevenDays)", True),
    ],
)
def test_a_path_may_begin_with_the_type(text: str, expected: bool) -> None:
    assert verdict_of(Collection(plainly(text, Call(), [ITEMS[0]], {}))) is expected
    assert compiler().compile(text).judge(Call(), [ITEMS[0]]) is expected


def test_the_constructs_are_decided() -> None:
    """Knowing less than the oracle is allowed above, so on a plain resource we must know as much."""
    call = Call()
    for text in CONSTRUCTS:
        for item in ITEMS[0], ITEMS[8]:
            try:
                oracle = plainly(text, call, [item], {})
            except Exception:  # noqa: S112
                continue
            if oracle:
                assert compiler().compile(text).collect(call, [item]).complete, f"{text} on {item['id']}"


# --- All expressions of all plans -----------------------------------------------------------------------------------

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
LOADED = {loaded.plan.id: loaded for loaded in load_all()}


def expressions(plan: Plan) -> Iterator[tuple[str, Condition, bool]]:
    """(text, condition, whether it is asked of each target of an update), each text once."""
    found: dict[tuple[str, bool], Condition] = {}
    for fact in plan.facts.values():
        found.setdefault((fact.condition.text, False), fact.condition)
    for rule in plan.rules:
        suggestions = rule.suggestions
        changes = [change for suggestion in suggestions for change in suggestion.changes]
        parts = [*rule.groups, rule, *suggestions, *changes]
        for condition in [one for part in parts for one in part.conditions] + [c.target for c in changes if c.target]:
            found.setdefault((condition.text, False), condition)
        for change in changes:
            for value in change.values:
                found.setdefault((value.condition.text, change.target is not None), value.condition)
    for (text, of_target), condition in found.items():
        yield text, condition, of_target


def odd(resource: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Elements missing, empty, null, a list where an object is due or the other way round."""
    strange = copy.deepcopy(resource)
    names = [name for name in strange if name not in ("resourceType", "id", "subject", "patient", "code")]
    for name in chance.sample(names, min(2, len(names))):
        value = strange[name]
        turned = value[0] if isinstance(value, list) and value else [value]
        strange[name] = chance.choice([turned, turned, {}, [], None, "x"])
        if chance.random() < 0.3:
            del strange[name]
    return strange


class Whole:
    """An evaluation that takes what is certain for all there is, so that both sides see complete inputs."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self.chart = evaluation.chart
        self._contained = {
            f"#{one['id']}": one for source in self.chart.sources.values() for resource in source.resources
            for one in resource.get("contained") or () if isinstance(one, dict) and "id" in one
        }  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluation, name)

    def value(self, name: str) -> Collection:
        return Collection(self._evaluation.value(name).items)

    def resolve(self, reference: Any, container: Any) -> Any:
        target = reference.get("reference") if isinstance(reference, dict) else None
        return self._contained[target] if target in self._contained else self._evaluation.resolve(reference, container)


@cache
def charts(plan_id: str) -> list[Whole]:
    """Charts of some cases, one that holds all resources of all fixtures, and odd variants of them."""
    loaded = LOADED[plan_id]
    cases, fixtures = read_cases(loaded.package.folder / "cases")
    sink = copy.deepcopy(cases[0])
    on_record = [name for name, one in fixtures.items() if one.get("status") != "draft"]
    drafts = [name for name, one in fixtures.items() if one.get("status") == "draft"]
    kinds = ("Patient", "Encounter")
    first = {kind: next(name for name in on_record if fixtures[name]["resourceType"] == kind) for kind in kinds}
    body = {
        "id": "everything", "hook": "order-select", "expect": [], "encounter": first["Encounter"], "orders": drafts,
        "chart": [name for name in on_record if first.get(fixtures[name]["resourceType"], name) == name],
    }  # fmt: skip
    chosen = [type(sink)("made-up.yaml", body), *cases[:: max(1, len(cases) // 12)]]
    return [_chart(loaded, case, fixtures, seed) for case in chosen for seed in (None, 1)] + [
        _chart(loaded, chosen[0], fixtures, seed) for seed in range(2, 6)
    ]


def _chart(loaded: Any, case: Any, fixtures: Any, seed: int | None) -> Whole:
    request = parse_request(request_of(loaded, case, fixtures, NOW), HOOKS[case.body["hook"]])
    chance = random.Random(seed)  # noqa: S311 - a repeatable sequence is wanted
    sources = {}
    for query in loaded.plan.retrieval.queries:
        value = request.prefetch.get(query.key) or {}
        entries = value.get("entry", [{"resource": value}] if value.get("resourceType") == query.type else [])
        found = [entry["resource"] for entry in entries]
        sources[query.key] = Source("supplied", [odd(one, chance) if seed else one for one in found])
    drafts = [odd(draft, chance) if seed else draft for draft in request.drafts]
    chart = Chart(loaded.plan.retrieval, request.patient_id, sources, drafts, lambda name: [])
    return Whole(Evaluation(loaded.plan, chart, Asked(request.hook, request.user_id, chart.drafts), NOW))


PLANNED = [(name, *one) for name, loaded in LOADED.items() for one in expressions(loaded.plan)]
NAMES = [f"{number}-{condition.element}" for number, (_, _, condition, _) in enumerate(PLANNED)]


@pytest.mark.parametrize(("plan", "text", "condition", "of_target"), PLANNED, ids=NAMES)
def test_expressions_of_plans(plan: str, text: str, condition: Condition, of_target: bool) -> None:
    decided = 0
    for number, call in enumerate(charts(plan)):
        for this in [[draft] for draft in call.chart.drafts] if of_target else [[]]:
            ours, judged = condition.expression.collect(call, this), condition.expression.judge(call, this)
            values = {name: call.value(name).items for name in condition.names if name not in call.constants}
            try:
                oracle = plainly(text, call, this, values)
            except Exception:  # noqa: S112 - difference 3
                continue
            decided += compared(text, ours, judged, oracle, f"chart {number}")
    assert decided, "knowing less than the oracle each time would prove nothing"
