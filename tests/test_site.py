"""A site's own layer: codes, parameters, cards off, name; the shipped plan untouched, the merged result checked."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import pytest

from cds_hooks.cases import run_cases, run_site_cases
from cds_hooks.errors import ContentError
from cds_hooks.lint import lint
from cds_hooks.loading import load_plan
from cds_hooks.reasoning.content import content_root

EXAMPLE = Path(__file__).parent.parent / "examples" / "site"
PLAN = "hemifacial-spasm"
NOW = datetime.now().astimezone()


def load(site: Path | None):
    return load_plan(content_root(), PLAN, site=site, validate=False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "site"))


def test_the_example_site_is_fine():
    assert list(lint(content_root(), NOW, EXAMPLE)) == []


def test_the_sites_cases_need_the_site():
    layered = load(EXAMPLE)
    assert [result.problems for result in run_site_cases(layered, NOW)] == [[]] * 5
    assert run_site_cases(load(None), NOW) == []
    assert all(not result.problems for result in run_cases(layered, NOW))


def test_the_plan_names_the_site_and_keeps_what_it_does_not_change():
    plan, shipped = load(EXAMPLE).plan, load(None).plan
    assert str(plan.site).startswith("example-hospital (")
    assert shipped.site is None
    assert plan.label == "Example Hospital, hemifacial spasm CDS"
    assert plan.card_limit == 2
    changed = {name for name, value in plan.parameters.items() if value != shipped.parameters[name]}
    assert changed == {"imagingLookback"}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("site.yaml", "parameters: {imagingLookBack: 3}", "no such parameter"),
        ("site.yaml", "parameters: {imagingLookback: 18}", "same kind"),
        ("site.yaml", "parameters: {imagingLookback: {value: soon, code: mo}}", "same kind"),
        ("site.yaml", "off: [imaging-typo]", "no such rule"),
        ("site.yaml", "card-limit: many", "whole number"),
        ("site.yaml", "card-limit: 0", "whole number"),
        ("site.yaml", "colour: red", "expected one mapping"),
        ("valuesets/imaging.yaml", "resourceType: ValueSet\nid: typo\n", "no ValueSet of this id"),
        ("conceptmaps/facial-nerve-mri.yaml", "resourceType: ConceptMap\nid: typo\n", "no ConceptMap of this id"),
        ("activities/orders.yaml", "resourceType: ActivityDefinition\nid: typo\n", "no ActivityDefinition"),
    ],
)
def test_what_the_plan_does_not_have_is_refused(copied: Path, file: str, text: str, said: str):
    (copied / PLAN / file).write_text(text)
    with pytest.raises(ContentError, match=said):
        load(copied)


def test_a_site_case_that_fails_is_a_lint_error(copied: Path):
    path = copied / PLAN / "cases" / "site.yaml"
    path.write_text(path.read_text().replace("off: []", "").replace("create MRAHEAD", "create MRAHED"))
    assert any("local-brain-mri" in str(error) for error in lint(content_root(), NOW, copied))


def test_local_codes_that_break_a_shipped_case_are_a_lint_error(copied: Path):
    (copied / PLAN / "valuesets" / "wrong.yaml").write_text(
        "resourceType: ValueSet\nid: mri-facial-nerve\ncompose: {include: [{system: http://loinc.org, "
        'concept: [{code: "30657-1", display: MRI brain}]}]}\n'
    )
    assert any("standard-mri" in str(error) for error in lint(content_root(), NOW, copied))


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("hemifacial_spasm/site.yaml", "{}", "no plan of this name"),
        ("site.yaml", "{}", "belongs into a folder named like a plan"),
        (f"{PLAN}/valueset/x.yaml", "{}", "expected site.yaml and folders"),
        (f"{PLAN}/sites.yaml", "{}", "expected site.yaml and folders"),
        (f"{PLAN}/site.yaml", "off: some-rule", "a list of rule ids"),
        (f"{PLAN}/site.yaml", "parameters: [a]", "a mapping of names"),
        (f"{PLAN}/site.yaml", "parameters:", "a mapping of names"),
        (f"{PLAN}/site.yaml", "off:", "a list of rule ids"),
        (f"{PLAN}/site.yaml", "off: [nobody]", "no such rule"),
        (f"{PLAN}/valuesets/x.yaml", "[a]", "each document is a FHIR resource"),
    ],
)
def test_lint_refuses_what_nobody_would_read(copied: Path, file: str, text: str, said: str):
    path = copied / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    found = [str(error) for error in lint(content_root(), NOW, copied.absolute())]
    assert len(found) == 1
    assert said in found[0]
    assert path.name in found[0] or path.parent.name in found[0]


def test_a_site_that_is_no_folder_is_refused(tmp_path: Path):
    for path in (tmp_path / "none", Path(__file__)):
        (found,) = lint(content_root(), NOW, path)
        assert str(found) == f"{path}: there is no such folder"
