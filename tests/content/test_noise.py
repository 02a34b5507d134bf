"""What has nothing to do with a case changes nothing: all expectations hold with such a record added to the chart."""

import functools
from datetime import datetime
from typing import Any

import pytest

from cds_hooks.cases import Case, read_cases, run_case
from cds_hooks.loading import load_all

NOW = datetime.now().astimezone()
PLANS = {loaded.plan.id: loaded for loaded in load_all()}
CM, CPT = "http://hl7.org/fhir/sid/icd-10-cm", "http://www.ama-assn.org/go/cpt"
#: Records as real systems send them, each half empty: whether it is active, when, or what, is left open.
#: Cases about rules that ask for just this are left out: there it is no noise.
ABOUT = {"H93.19": "early-palsy", "F40.240": "claustrophobia"}
NOISE: dict[str, dict[str, Any]] = {
    "encounter diagnosis without clinical status": {
        "resourceType": "Condition", "recordedDate": "now-6y",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-category",
                                  "code": "encounter-diagnosis"}]}],
        "code": {"coding": [{"system": CM, "code": "H93.19", "display": "Tinnitus, unspecified ear"}]},
    },
    "problem without clinical status": {
        "resourceType": "Condition", "code": {"coding": [{"system": CM, "code": "F40.240"}]}, "recordedDate": "now-2y",
    },
    "problem with nothing in it": {"resourceType": "Condition"},
    "procedure without a date": {
        "resourceType": "Procedure", "status": "completed", "code": {"coding": [{"system": CPT, "code": "45378"}]},
        "reasonReference": [{"reference": "Condition/not-there"}],
    },
    "order of something else without a date": {
        "resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "code": {"coding": [{"system": CPT, "code": "71046"}], "text": "Chest X-ray"},
        "reasonCode": [{"text": "cough"}],
    },
}  # fmt: skip


@functools.cache
def base_cases(plan: str) -> tuple[list[Case], dict[str, Any]]:
    """The cases of a plan, of those with `each` the first only."""
    cases, fixtures = read_cases(PLANS[plan].package.folder / "cases")
    return list({case.id.partition("[")[0]: case for case in reversed(cases)}.values()), fixtures


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("plan", PLANS)
def test_noise_changes_no_answer(plan: str, noise: str) -> None:
    cases, fixtures = base_cases(plan)
    about = next((rule for code, rule in ABOUT.items() if code in str(NOISE[noise])), "(none)")
    changed = {}
    for case in cases:
        if any(about in rule for rule in case.about):
            continue
        body = {**case.body, "chart": [*case.body.get("chart", ()), {"id": "noise", **NOISE[noise]}]}
        problems = run_case(PLANS[plan], Case(case.file, body), fixtures, NOW).problems
        if problems:
            changed[case.id] = problems
    assert changed == {}
