"""Facts that are known before the call: the same as when they are computed, and none that looks at the call."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from made_up_logic import NOW, condition, evaluation, fact, rule, small_plan

from cds_hooks.cases import read_cases, request_of
from cds_hooks.chart.chart import Chart
from cds_hooks.chart.gather import Source
from cds_hooks.loading import load_all
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import parse_request
from cds_hooks.reasoning.evaluation import Asked, Evaluation
from cds_hooks.reasoning.functions import raw
from cds_hooks.reasoning.nothing import over_nothing

LOADED = {loaded.plan.id: loaded for loaded in load_all()}

FACTS = {
    "none": "%warm.exists()",
    "few": "%warm.where(code.exists()).first().exists().not()",
    "fixed": "'a' & 'b'",
    "deeper": "%none or %few",
    "hooked": "%hook = 'patient-view'",
    "timed": "%warm.exists() or %today > '2026'",
    "clocked": "'2026-11-20'.within(1 'day')",
    "ordered": "%drafts.exists()",
    "chosen": "%selected.empty()",
    "indirect": "%ordered.not()",
    "person": "%patient.birthDate.exists()",
}


@cache
def made_up() -> Any:
    extension = [fact(name, text) for name, text in FACTS.items() if name != "clocked"]
    return small_plan(rule("r", *(f"%{name}.exists()" for name in FACTS if name != "clocked")), extension=extension)


def test_only_what_does_not_look_at_the_call() -> None:
    known = over_nothing(made_up())
    assert set(known) == {"none", "few", "fixed", "deeper", "person"}
    assert [raw(item) for item in known["few"][0].items] == [True]
    assert known["fixed"] == (known["fixed"][0], frozenset())
    assert known["deeper"][1] == {"Condition"}


def test_one_record_is_enough_to_compute() -> None:
    with_one = evaluation(made_up(), condition(name="red"))
    assert (with_one.verdict("none"), with_one.verdict("few"), with_one.verdict("deeper")) == (True, False, True)
    failed = evaluation(made_up(), conditions=Source("failed", (), False, "timeout"))
    assert failed.verdict("none") is None, "what could not be had is not nothing"
    missing = evaluation(made_up(), conditions=Source("missing", (), False))
    assert missing.verdict("deeper") is None


def calls(plan: str) -> list[tuple[str, dict[str, Source], Any]]:
    loaded = LOADED[plan]
    cases, fixtures = read_cases(loaded.package.folder / "cases")
    found = []
    for case in cases[::12]:
        request = parse_request(request_of(loaded, case, fixtures, NOW), HOOKS[case.body["hook"]])
        sources = {}
        for query in loaded.plan.retrieval.queries:
            value = request.prefetch.get(query.key) or {}
            entries = value.get("entry", [{"resource": value}] if value.get("resourceType") == query.type else [])
            sources[query.key] = Source("supplied", [entry["resource"] for entry in entries])
        found.append((case.id, sources, request))
    return found


@pytest.mark.parametrize("plan", sorted(LOADED))
def test_every_fact_of_a_plan_is_the_same_either_way(plan: str) -> None:
    loaded = LOADED[plan].plan
    beforehand = 0
    for case, sources, request in calls(plan):
        def asked(whole: bool, sources: Any = sources, request: Any = request) -> Evaluation:
            chart = Chart(loaded.retrieval, request.patient_id, sources, request.drafts)
            return Evaluation(loaded, chart, Asked(request.hook, request.user_id, chart.drafts), NOW, whole=whole)

        short, whole = asked(False), asked(True)
        for name in loaded.facts:
            one, two = short.value(name), whole.value(name)
            assert one.complete == two.complete, f"{case}: {name}"
            assert [raw(item) for item in one.items] == [raw(item) for item in two.items], f"{case}: {name}"
            beforehand += one is over_nothing(loaded).get(name, (None,))[0]
    assert beforehand > 1000
