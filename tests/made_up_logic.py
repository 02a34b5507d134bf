"""A made-up terminology and a call whose named values a test chooses; small plans from plain dicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fhirpathpy.engine import do_eval

from cds_hooks.chart.chart import Chart
from cds_hooks.chart.gather import Source
from cds_hooks.reasoning.compiling import compile_plan
from cds_hooks.reasoning.content import Package
from cds_hooks.reasoning.elements import R4
from cds_hooks.reasoning.evaluation import Asked, Evaluation
from cds_hooks.reasoning.fhirpath import Compiler, parse
from cds_hooks.reasoning.functions import FUNCTIONS, Unknowable, raw
from cds_hooks.reasoning.nodes import Collection, Verdict
from cds_hooks.reasoning.plan import Plan
from cds_hooks.reasoning.terminology import Terminology, ValueSet

#: Part of the content format, so written out.
EXTENSIONS = "https://cds-hooks.example.org/fhir/StructureDefinition/"
HERE = "https://made-up.example.org/fhir"
SYSTEM = "urn:example:colours"
NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
UNREADABLE = {"reference": "Thing/unreadable"}


def value_set(name: str, *codes: str, pattern: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "ValueSet", "id": name, "url": f"{HERE}/ValueSet/{name}", "title": name}
    if codes:
        concepts = [{"code": code, "display": f"the colour {code}"} for code in codes]
        found["compose"] = {"include": [{"system": SYSTEM, "concept": concepts}]}
    if pattern:
        found["extension"] = [{"url": EXTENSIONS + "text-pattern", "valueString": pattern}]
    return found


def concept_map(name: str, **targets: str) -> dict[str, Any]:
    elements = [{"code": source, "target": [{"code": target}]} for source, target in targets.items()]
    group = {"source": SYSTEM, "target": SYSTEM, "element": elements}
    return {"resourceType": "ConceptMap", "id": name, "url": f"{HERE}/ConceptMap/{name}", "group": [group]}


TERMINOLOGY = [
    value_set("warm", "red", "orange"),
    value_set("cold", "blue"),
    value_set("words", pattern=r"\bglow"),
    concept_map("paler", red="pink"),
]
COLOURS = Terminology(("made-up.yaml", resource) for resource in TERMINOLOGY)
CONSTANTS: dict[str, Any] = {
    **{f"vs-{url.rsplit('/', 1)[1]}": url for url in COLOURS.value_sets},
    **{f"cm-{url.rsplit('/', 1)[1]}": url for url in COLOURS.concept_maps},
    "hook": "patient-view", "sevenDays": {"value": 7, "code": "d"}, "flag": True, "word": "red",
}  # fmt: skip


def colour(code: str) -> dict[str, Any]:
    return {"coding": [{"system": SYSTEM, "code": code}]}


@dataclass
class Call:
    """What an expression sees; `values` are the named inputs and facts."""

    values: Mapping[str, Collection] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=lambda: CONSTANTS)
    terminology: Terminology = COLOURS
    now: datetime = NOW
    problems: Counter[str] = field(default_factory=Counter)
    read: list[str] = field(default_factory=list)
    container: Any = None

    def value(self, name: str) -> Collection:
        self.read.append(name)
        return self.values[name]

    def contains(self, one: ValueSet, value: Any) -> bool:
        return self.terminology.match(one, value) is not None

    def trouble(self, kind: str) -> None:
        self.problems[kind] += 1

    def watch_time(self) -> None:
        """There is time enough."""

    def resolve(self, reference: Any, container: Any) -> dict[str, Any] | None:
        if reference == UNREADABLE:
            raise Unknowable
        contained = container.get("contained", []) if isinstance(container, dict) else []
        target = reference.get("reference") if isinstance(reference, dict) else None
        found = next((item for item in contained if f"#{item['id']}" == target), None)
        if found is None and target:
            raise Unknowable  # a reference into nothing is damage, not an absence
        return found


def compiler(*names: str) -> Compiler:
    sets = {f"vs-{one.id}": one for one in COLOURS.value_sets.values()}
    return Compiler(frozenset(names), sets)


def judged(text: str, call: Call | None = None, this: list[Any] | None = None) -> Verdict:
    call = call or Call()
    return compiler(*call.values).compile(text).judge(call, this or [])


def collected(text: str, call: Call | None = None, this: list[Any] | None = None) -> Collection:
    """The collection as plain JSON."""
    call = call or Call()
    found = compiler(*call.values).compile(text).collect(call, this or [])
    return Collection([raw(item) for item in found.items], found.complete)


def plainly(text: str, call: Any, this: list[Any], values: Mapping[str, list[Any]]) -> list[Any]:
    """What fhirpathpy makes of an expression on its own. Raises whatever it raises."""
    ctx = {"dataRoot": this, "$this": this, "vars": {**call.constants, **values}, "model": R4,
           "userInvocationTable": FUNCTIONS, "call": call}  # fmt: skip
    found: list[Any] = do_eval(ctx, this, parse(text))
    return found


def condition(identity: str = "c1", name: str = "red", **more: Any) -> dict[str, Any]:
    mine = {"reference": "Patient/p1"}
    return {"resourceType": "Condition", "id": identity, "subject": mine, "code": colour(name)} | more


def order(identity: str = "o1", name: str = "red", **more: Any) -> dict[str, Any]:
    return {"resourceType": "ServiceRequest", "id": identity, "status": "draft", "code": colour(name)} | more


UNREAD = Source("missing", (), complete=False)


# ---- plans


def expression(text: str, **more: Any) -> dict[str, Any]:
    return {"language": "text/fhirpath", "expression": text, **more}


def fact(name: str, text: str) -> dict[str, Any]:
    return {"url": "http://hl7.org/fhir/StructureDefinition/variable", "valueExpression": expression(text, name=name)}


def parameter(name: str, **value: Any) -> dict[str, Any]:
    parts = [{"url": "name", "valueString": name}, {"url": "value", **value}]
    return {"url": EXTENSIONS + "parameter", "extension": parts}


def conditions(*texts: str) -> list[dict[str, Any]]:
    return [{"kind": "applicability", "expression": expression(text)} for text in texts]


def rule(name: str, *texts: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name, "title": f"About {name}", "priority": "routine", "condition": conditions(*texts),
        "code": [{"coding": [{"system": f"{HERE}/CodeSystem/topic", "code": name, "display": name}]}],
        "documentation": [{"type": "justification", "label": "E1"}],
        "trigger": [{"type": "named-event", "name": "patient-view"}], **more,
    }  # fmt: skip


LIBRARY = [
    {"id": "patient", "type": "Patient"},
    {"id": "conditions", "type": "Condition", "limit": 10},
    {"id": "orders", "type": "ServiceRequest", "limit": 10},
    {"id": "warm", "type": "Condition", "codeFilter": [{"path": "code", "valueSet": f"{HERE}/ValueSet/warm"}]},
]


def package(*actions: dict[str, Any], extension: Any = (), library: Any = LIBRARY, more: Any = ()) -> Package:
    plan = {"resourceType": "PlanDefinition", "id": "made-up", "title": "Made up", "version": "1", "status": "draft",
            "extension": list(extension), "action": list(actions)}  # fmt: skip
    resources = tuple(("made-up.yaml", resource) for resource in (*TERMINOLOGY, *more))
    return Package("made-up", Path(), Path(), plan, {"dataRequirement": list(library)}, resources, {}, "digest")


def small_plan(*actions: dict[str, Any], extension: Any = (), more: Any = ()) -> Plan:
    return compile_plan(package(*actions, extension=extension, more=more), {})


def evaluation(
    plan: Plan, *conditions: dict[str, Any], hook: str = "patient-view", drafts: Any = (), **sources: Source
) -> Evaluation:
    """A call about the patient p1; all drafts are selected."""
    found = {"conditions": Source("supplied", conditions), "patient": Source("null"), "orders": Source("supplied")}
    chart = Chart(plan.retrieval, "p1", {**found, **sources}, drafts)
    return Evaluation(plan, chart, Asked(hook, "Practitioner/u1", chart.drafts), NOW)
