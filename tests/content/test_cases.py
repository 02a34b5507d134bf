"""Every case of every plan, played as a test of its own."""

import functools
from datetime import datetime

import pytest

from cds_hooks.cases import Case, read_cases, run_case
from cds_hooks.lint import coverage, lint_static
from cds_hooks.loading import Loaded, load_all

NOW = datetime.now().astimezone()
PLANS = {loaded.plan.id: loaded for loaded in load_all()}
FIXTURES = {name: read_cases(loaded.package.folder / "cases")[1] for name, loaded in PLANS.items()}
CASES = [(name, case) for name, loaded in PLANS.items() for case in read_cases(loaded.package.folder / "cases")[0]]
played = functools.cache(lambda plan, number: run_case(PLANS[plan], CASES[number][1], FIXTURES[plan], NOW))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{plan}/{case.id}" for plan, case in CASES])
def test_case(number: int) -> None:
    plan, _ = CASES[number]
    assert played(plan, number).problems == []


@pytest.mark.parametrize("loaded", PLANS.values(), ids=PLANS.keys())
def test_each_rule_has_a_firing_and_a_silent_case(loaded: Loaded) -> None:
    results = [played(plan, number) for number, (plan, _) in enumerate(CASES) if plan == loaded.plan.id]
    table = coverage(loaded, results)
    assert table
    assert [rule for rule, kinds in table.items() if not kinds["firing"] or not kinds["silent"]] == []


@pytest.mark.parametrize("loaded", PLANS.values(), ids=PLANS.keys())
def test_nothing_is_wrong_with_the_plan_itself(loaded: Loaded) -> None:
    assert [str(error) for error in lint_static(loaded)] == []


MOMENTS = ["2024-02-29T12:00:00+00:00", "2026-03-31T23:59:00-09:00", "2027-01-01T00:01:00+13:00"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("plan", PLANS)
def test_cases_hold_on_other_days_and_in_other_zones(plan: str, moment: str) -> None:
    """Windows are relative to the call, so no case may depend on the day on which the tests run."""
    now = datetime.fromisoformat(moment)
    cases: list[Case] = [case for name, case in CASES if name == plan]
    results = [run_case(PLANS[plan], case, FIXTURES[plan], now) for case in cases]
    assert {result.case.id: result.problems for result in results if result.problems} == {}
