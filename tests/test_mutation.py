"""The mutation check: what it changes, and that nothing but the copy is changed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from cds_hooks.errors import ContentError
from cds_hooks.reasoning.content import content_root, load_package
from mutation.judging import Verdict
from mutation.mutants import apply, mutants
from mutation.operands import removals
from mutation.report import problems, read_reasons


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", {}),
        ("a and b", {"and[1]": "b", "and[2]": "a"}),
        ("a and b and c", {"and[1]": "b and c", "and[2]": "a and c", "and[3]": "a and b"}),
        (
            "x.where(a or (b and c))",
            {
                "or[1]": "x.where((b and c))",
                "or[2]": "x.where(a)",
                "or[2].and[1]": "x.where(a or (c))",
                "or[2].and[2]": "x.where(a or (b))",
            },
        ),
        (
            "iif(a or b, c or d)",
            {
                "or[1]": "iif(b, c or d)",
                "or[2]": "iif(a, c or d)",
                "or#2[1]": "iif(a or b, d)",
                "or#2[2]": "iif(a or b, c)",
            },
        ),
    ],
)
def test_each_operand_is_removed_alone(text: str, expected: dict[str, str]) -> None:
    assert {found.path: found.left for found in removals(text)} == expected


def test_mutants_have_ids_of_their_own_and_leave_the_package_alone() -> None:
    package = load_package(content_root(), "hemifacial-spasm", validate=False)
    before = copy.deepcopy((package.plan, package.resources))
    found = mutants(package)
    assert len({mutant.id for mutant in found}) == len(found) > 1000
    for mutant in found:
        changed = apply(package, mutant)
        assert (changed.plan, changed.resources) != (package.plan, package.resources), mutant.id
    assert (package.plan, package.resources) == before


def test_a_survivor_needs_a_reason_and_a_reason_a_survivor() -> None:
    package = load_package(content_root(), "hemifacial-spasm", validate=False)
    first, second, *_ = mutants(package)
    verdicts = {first.id: Verdict(first.id, ""), second.id: Verdict(second.id, "case", "some-case")}
    wrong = list(problems([first, second], verdicts, {second.id: "why"}, 95))
    assert [line.split(":")[0] for line in wrong[:2]] == [
        "no reason in mutation-survivors.yaml",
        "stale reason in mutation-survivors.yaml",
    ]
    assert wrong[2].startswith("50.0%")
    assert not list(problems([first, second], verdicts, {first.id: "why"}, 50))


def test_reasons_are_words(tmp_path: Path) -> None:
    assert read_reasons(tmp_path) == {}
    (tmp_path / "mutation-survivors.yaml").write_text("some mutant: \n", encoding="utf-8")
    with pytest.raises(ContentError):
        read_reasons(tmp_path)
