"""Lint against a copy of the content in which one thing is broken: it names file, element and reason; serve refuses."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from cds_hooks.lint import lint
from cds_hooks.loading import load_all
from cds_hooks.reasoning.content import content_root

PLAN = load_all()[0].plan.id
Edit = Callable[[Path], None]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The content with few of its cases, since each lint plays them all."""
    root = content_root()
    for part in ("plans", "cards"):
        shutil.copytree(root / part / PLAN, tmp_path / "content" / part / PLAN)
    for path in (tmp_path / "content" / "plans" / PLAN / "cases").glob("*.yaml"):
        if path.name not in ("_fixtures.yaml", "imaging.yaml", "silence.yaml"):
            path.unlink()
    return tmp_path / "content"


def change(file: str, old: str, new: str, count: int = 1) -> Edit:
    """Replace the first `count` places; the place must exist, else the test would prove nothing."""

    def edit(root: Path) -> None:
        path = root / file.format(plan=PLAN)
        text = path.read_text("utf-8")
        assert old in text, f"{old!r} is no longer in {file}"
        path.write_text(text.replace(old, new, count), "utf-8")

    return edit


def append(file: str, text: str) -> Edit:
    def edit(root: Path) -> None:
        path = root / file.format(plan=PLAN)
        path.write_text(path.read_text("utf-8") + text, "utf-8")

    return edit


def without_lines(file: str, *words: str) -> Edit:
    """Drop the lines of cases that hold one of these words."""

    def edit(root: Path) -> None:
        path = root / file.format(plan=PLAN)
        lines = path.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not any(word in line for word in words)]
        assert len(kept) < len(lines)
        path.write_text("".join(kept), "utf-8")

    return edit


PLAN_FILE, LIBRARY, CARDS = "plans/{plan}/plan.yaml", "plans/{plan}/library.yaml", "cards/{plan}/"
SPASM, MAPS = "plans/{plan}/valuesets/spasm.yaml", "plans/{plan}/conceptmaps/unenhanced-mri.yaml"
FACT = '      expression: "%live.where(code.memberOf(%`vs-hfs`))"'
LIVE = "%problems.where(verificationStatus"
NEW_FACT = """  - url: http://hl7.org/fhir/StructureDefinition/variable
    valueExpression: {{name: {name}, language: text/fhirpath, expression: "{text}"}}
  # ---- problems
"""
MARK = "  # ---- problems\n"
NEW_SET = "---\nresourceType: ValueSet\nid: {id}\nname: X\ntitle: X\ndescription: X\n{rest}\n"
SET = "https://cds-hooks.example.org/fhir/ValueSet/"
#: (what is broken, how, the file that lint must name, what must be in the element, what must be in the reason)
STATIC: list[tuple[str, Edit, str, str, str]] = [
    ("topic that is called otherwise", change("plans/{plan}/codesystems/local.yaml",
     'display: "CT ordered alone for hemifacial spasm"', 'display: "CT alone"'), "plan.yaml", "imaging-ct-alone",
     "is called 'CT alone' in its code system"),
    ("topic that is not in the code system", change("plans/{plan}/codesystems/local.yaml",
     'code: "imaging-ct-alone"', 'code: "imaging-ct-only"'), "plan.yaml", "imaging-ct-alone",
     "has no code imaging-ct-alone"),
    ("answer that is not in the code system", change("plans/{plan}/codesystems/local.yaml",
     'code: "not-tried"', 'code: "untried"'), "observations.yaml", "outcome-not-tried", "has no code not-tried"),
    ("two rules of one title", change(PLAN_FILE, 'title: "Side of imaging order and spasm differ"',
     'title: "Side of order and spasm differ"'), "plan.yaml", "laterality-mismatch-imaging",
     "laterality-mismatch has the same title"),
    ("unknown value set in an expression", change(PLAN_FILE, "(%`vs-hfs`)", "(%`vs-hfz`)"), "plan.yaml", "hfs",
     "vs-hfz"),
    ("unknown value set in the library", change(LIBRARY, "ValueSet/hfs\"", "ValueSet/hfz\""), "library.yaml",
     "dataRequirement", "unknown value set"),
    ("unknown function", change(PLAN_FILE, LIVE, "%problems.wear(verificationStatus"), "plan.yaml", "live", "wear()"),
    ("unknown variable", change(PLAN_FILE, LIVE, "%problemz.where(verificationStatus"), "plan.yaml", "live",
     "%problemz"),
    ("unparsed rest", change(PLAN_FILE, FACT, FACT[:-1] + ' garbage"'), "plan.yaml", "hfsLive", "syntax error"),
    ("no such element", change(PLAN_FILE, "recordedDate.within", "recordedDay.within"), "plan.yaml", "live",
     "recordedDay"),
    ("no such element in the library", change(LIBRARY, "path: medication", "path: drug"), "library.yaml",
     "dataRequirement", "no element drug"),
    ("wrong number of arguments", change(PLAN_FILE, ".within(%undatedStatus)", ".within()"), "plan.yaml", "live",
     "within"),
    ("missing template", lambda root: next((root / "cards" / PLAN).glob("[a-z]*.md.j2")).unlink(), ".md.j2", "",
     "missing"),
    ("template without rule", lambda root: (root / "cards" / PLAN / "extra.md.j2").write_text("S\nD"), "extra.md.j2",
     "",
     "no rule"),
    ("unknown fact in a template", change(CARDS + "imaging-ct-alone.md.j2", "f.selectedHeadCt", "f.nobody"),
     "imaging-ct-alone.md.j2", "f.nobody", "no such fact"),
    ("broken template", change(CARDS + "imaging-ct-alone.md.j2", "{{", "{% {{"), "imaging-ct-alone.md.j2", "line", ""),
    ("unknown evidence", change(PLAN_FILE, "label: S3-29", "label: S9-99"), "plan.yaml", "documentation", "S9-99"),
    ("duplicate id of a rule", change(PLAN_FILE, "id: imaging-ct-alone\n", "id: imaging-already-done\n"), "plan.yaml",
     "imaging-already-done", "used twice"),
    ("fact that refers to a later one", change(PLAN_FILE, FACT, FACT.replace("%live", "%hfsSure")), "plan.yaml",
     "hfsLive",
     "%hfsSure"),
    ("unused fact", change(PLAN_FILE, MARK, NEW_FACT.format(name="lonely", text="true")), "plan.yaml", "lonely",
     "reads it"),
    ("duplicate fact", change(PLAN_FILE, MARK, NEW_FACT.format(name="live", text="true")), "plan.yaml", "live",
     "taken"),
    ("broken YAML", append(PLAN_FILE, "\n  broken: [\n"), "plan.yaml", "line", ""),
    ("repeated key", append(PLAN_FILE, "\nversion: 2\n"), "plan.yaml", "line", "repeated"),
    ("not FHIR", append(PLAN_FILE, "\nnotInFhir: 1\n"), "plan.yaml", "notInFhir", ""),
    ("another resource", append(SPASM, "---\nresourceType: Nonsense\nid: x\n"), "spasm.yaml", "", "ValueSet"),
    ("no resource at all", append(SPASM, "---\n- a list\n"), "spasm.yaml", "", "resourceType"),
    ("resource without id", append(SPASM, "---\nresourceType: ValueSet\nstatus: draft\n"), "spasm.yaml", "", "id"),
    ("map between systems", change(MAPS, "target: http", "target: urn:x:http"), "unenhanced-mri.yaml", "",
     "own system"),
    ("empty value set", append(SPASM, NEW_SET.format(id="hollow", rest="")), "spasm.yaml", "hollow", "empty"),
    ("value set that includes itself",
     append(SPASM, NEW_SET.format(id="me", rest=f"compose: {{include: [{{valueSet: ['{SET}me']}}]}}")),
     "spasm.yaml", "me", "includes itself"),
    ("value set defined twice",
     append(SPASM, NEW_SET.format(id="hfs", rest="compose: {include: [{system: 'urn:x', concept: [{code: a}]}]}")),
     "spasm.yaml", "hfs", "twice"),
    ("unknown suppression", change(PLAN_FILE, "valueString: diagnosis-orders}", "valueString: nobody}"), "plan.yaml",
     "diagnosis-new-weakness-hyperacute", "nobody"),
    ("suppression in a circle", change(PLAN_FILE, "valueString: imaging-no-contrast}",
     "valueString: diagnosis-new-weakness-hyperacute}"),
     "plan.yaml", "", "in a circle"),
    ("key left empty", change(PLAN_FILE, "title: Hemifacial spasm CDS", "title:"), "plan.yaml", "title", "left empty"),
    ("text where a mapping belongs", change(PLAN_FILE, "type: {coding: [{system: http://terminology.hl7.org/CodeSystem/"
     "plan-definition-type, code: eca-rule}]}", "type: eca-rule"), "plan.yaml", "type", "a mapping is expected"),
    ("id that is not the folder's name", change(PLAN_FILE, "id: hemifacial-spasm", "id: other"), "plan.yaml", "id",
     "name of its folder"),
    ("evidence that says nothing", change("plans/{plan}/evidence.yaml", "  C-EGFR-UNDATED:\n    says:",
     "  C-EGFR-UNDATED:\n    saith:"), "evidence.yaml", "C-EGFR-UNDATED", "says"),
    ("type that R4 does not have", change(PLAN_FILE, "onset.ofType(dateTime)", "onset.ofType(datetime)"), "plan.yaml",
     "knownSpasm", "not datetime"),
    ("unknown activity", change(PLAN_FILE, "ActivityDefinition/mra-head", "ActivityDefinition/none"), "plan.yaml",
     "action",
     "unknown activity"),
]  # fmt: skip
#: What only shows when cases are played.
PLAYED: list[tuple[str, Edit, str, str, str]] = [
    ("summary too long in a case", change(CARDS + "imaging-ct-alone.md.j2", "CT alone", "CT alone " + "very " * 30),
     "cases/imaging.yaml", "ct-alone", ""),
    ("rule without a firing case", without_lines("plans/{plan}/cases/imaging.yaml", "about: [imaging-early-palsy]"),
     "plan.yaml", "imaging-early-palsy", "no firing case"),
    ("case that fails", append("plans/{plan}/cases/silence.yaml",
     "- {id: x, title: x, chart: [woman-60], hook: patient-view, expect: [{topic: imaging-ct-alone}]}\n"),
     "cases/silence.yaml", "x", "expected"),
    ("case about no rule", append("plans/{plan}/cases/silence.yaml",
     "- {id: x, title: x, about: [nobody], chart: [woman-60], hook: patient-view, expect: []}\n"),
     "cases/silence.yaml", "x", "no rule nobody"),
    ("duplicate id of a case", append("plans/{plan}/cases/silence.yaml",
     "- {id: unrelated, title: x, chart: [woman-60], hook: patient-view, expect: []}\n"), "cases/silence.yaml",
     "unrelated",
     "twice"),
    ("misspelt key of a case", append("plans/{plan}/cases/silence.yaml",
     "- {id: x, titel: x, chart: [woman-60], hook: patient-view, expect: []}\n"), "cases/silence.yaml", "x", "titel"),
    ("prefetch key of a case that is none", append("plans/{plan}/cases/silence.yaml",
     '- {id: x, title: x, chart: [woman-60], hook: patient-view, unavailable: [labs], expect: []}\n'),
     "cases/silence.yaml", 'x', 'no prefetch key labs'),
    ("parameter of a case that is none", append("plans/{plan}/cases/silence.yaml",
     '- {id: x, title: x, chart: [woman-60], hook: patient-view, parameters: {nothing: 1}, expect: []}\n'),
     "cases/silence.yaml", 'x', 'parameters: '),
    ("case of orders without an order", append("plans/{plan}/cases/silence.yaml",
     '- {id: x, title: x, chart: [woman-60], hook: order-select, expect: []}\n'),
     "cases/silence.yaml", 'x', 'context.selections'),
    ("case without id", append("plans/{plan}/cases/silence.yaml",
     '- {title: x, chart: [woman-60], hook: patient-view, expect: []}\n'),
     "cases/silence.yaml", 'case ', 'id: Field required'),
    ("card without topic", append("plans/{plan}/cases/silence.yaml",
     '- {id: x, chart: [woman-60], hook: patient-view, expect: [{summary: a}]}\n'),
     "cases/silence.yaml", 'x', 'expect.0.topic: Field required'),
    ("pattern that is none", append("plans/{plan}/cases/silence.yaml",
     '- {id: x, chart: [woman-60], hook: patient-view, expect: [{topic: a, summary: "("}]}\n'),
     "cases/silence.yaml", 'x', 'no regular expression'),
    ("change that is no mapping", append("plans/{plan}/cases/silence.yaml",
     '- {id: x, chart: [{use: woman-60, with: [a]}], hook: patient-view, expect: []}\n'),
     "cases/silence.yaml", 'x', 'with: a mapping'),
    ("resource of a case without type", append("plans/{plan}/cases/silence.yaml",
     '- {id: x, chart: [{id: y}], hook: patient-view, expect: []}\n'),
     "cases/silence.yaml", 'x', 'needs a resourceType'),
    ("cases that are no list", append("plans/{plan}/cases/silence.yaml",
     '---\n{id: x}\n'),
     "cases/silence.yaml", '', 'expected a list of cases'),
    ("fixture that is no resource", append("plans/{plan}/cases/_fixtures.yaml",
     '\nodd: {status: final}\n'),
     "cases/_fixtures.yaml", 'odd', 'resourceType'),
    ("unknown fixture", append("plans/{plan}/cases/silence.yaml",
     "- {id: x, title: x, chart: [nobody], hook: patient-view, expect: []}\n"), "cases/silence.yaml", "x", "nobody"),
]  # fmt: skip


def problems(root: Path) -> list[tuple[str, str, str]]:
    return [(error.file, error.element, error.reason) for error in lint(root, datetime.now().astimezone())]


def test_the_content_itself_is_fine() -> None:
    assert problems(content_root()) == []


def test_the_copy_lacks_cases_only(copied: Path) -> None:
    found = {reason.partition(":")[0] for _, _, reason in problems(copied)}
    assert found == {"no firing case", "no silent case", "no missing case"}


def test_a_case_in_which_a_rule_is_undecided_is_no_silent_one(copied: Path) -> None:
    """Else a misspelt element in the only silent case would pass as its silence."""
    folder = copied / "plans" / PLAN / "cases"
    for path in folder.glob("[a-z]*.yaml"):
        path.unlink()
    undecided = (
        "- {id: one, about: [safety-contrast-renal], chart: [woman-74, hfs-right, {use: egfr-24, with: "
        "{effectiveDateTime: null, effectivDateTime: now-1d}}], hook: order-sign, orders: [mri-iac, mra], expect: []}\n"
    )
    (folder / "only.yaml").write_text(undecided, "utf-8")
    kinds = {reason.partition(":")[0] for _, rule, reason in problems(copied) if rule == "safety-contrast-renal"}
    assert kinds == {"no firing case", "no silent case"}


@pytest.mark.parametrize(
    ("edit", "file", "element", "reason"),
    [pytest.param(*rest, id=name) for name, *rest in (*STATIC, *PLAYED)],
)
def test_lint_says_where_and_why(copied: Path, edit: Edit, file: str, element: str, reason: str) -> None:
    edit(copied)
    found = problems(copied)
    assert any(file in one and element in two and reason in three for one, two, three in found), found


def test_a_rule_without_evidence(copied: Path) -> None:
    path = copied / "plans" / PLAN / "plan.yaml"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.strip().startswith("documentation: ["))
    path.write_text("".join(lines[:first] + lines[first + 1 :]), "utf-8")
    ((file, element, reason),) = problems(copied)
    assert (file, reason) == (f"plans/{PLAN}/plan.yaml", "a rule needs evidence")
    assert element.endswith(".documentation")


def test_unverified_evidence(copied: Path) -> None:
    path = copied / "plans" / PLAN / "evidence.yaml"
    text = path.read_text("utf-8")
    start = text.index("\n  S3-29:")
    path.write_text(text[:start] + text[start:].replace("\n    ", "\n    basis: false\n    ", 1), "utf-8")
    found = [element for _, element, reason in problems(copied) if "S3-29 is not verified" in reason]
    assert found
    assert all("documentation" in element for element in found)


def test_a_rule_without_a_silent_case(copied: Path) -> None:
    folder = copied / "plans" / PLAN / "cases"
    firing = (
        "- {id: one, title: x, about: [imaging-ct-alone], chart: [woman-60, hfs-left], hook: order-select,"
        " orders: [ct-head], expect: [{topic: imaging-ct-alone}]}\n"
    )
    for path in folder.glob("[a-z]*.yaml"):
        path.unlink()
    (folder / "only.yaml").write_text(firing, "utf-8")
    told = [(element, reason) for file, element, reason in problems(copied) if file.endswith("plan.yaml")]
    found = [(element, reason.partition(":")[0]) for element, reason in told]
    assert ("imaging-ct-alone", "no silent case") in found
    assert ("imaging-ct-alone", "no firing case") not in found
    assert ("imaging-wrong-region", "no firing case") in found


@pytest.mark.parametrize(
    "edit",
    [
        change(PLAN_FILE, MARK, NEW_FACT.format(name="lonely", text="true")),
        append("plans/{plan}/cases/silence.yaml", "- {id: x, title: x, hook: patient-view, expect: [{topic: x}]}\n"),
        append(SPASM, "\n  broken: [\n"),
        append(SPASM, "\nnotInFhir: 1\n"),
        change(CARDS + "imaging-ct-alone.md.j2", "{{", "{% {{"),
        change(CARDS + "imaging-ct-alone.md.j2", "f.selectedHeadCt", "f.nobody"),
    ],
    ids=["static", "case", "YAML", "FHIR", "template", "fact of a template"],
)
def test_the_file_that_lint_names_exists(copied: Path, edit: Edit) -> None:
    edit(copied)
    files = {file for file, _, _ in problems(copied)}
    assert {file for file in files if not (copied / file).is_file()} == set()


def test_no_plan_at_all(tmp_path: Path) -> None:
    assert [reason for _, _, reason in problems(tmp_path)] == ["there is no plan"]


# --- Damage of any kind is a sentence, never a traceback ------------------------------------------------------------

# Some of these are valid FHIR.
CUT = [
    ("resourceType: PlanDefinition\n", ""), ("resourceType: PlanDefinition", "resourceType: Library"),
    ("- {url: name, valueString: imagingLookback}", "- {url: description, valueString: x}"),
    ("      name: live\n", ""), ("language: text/fhirpath\n", "language: text/cql\n"),
     ("    valueExpression:\n      name: hfsLive\n",
     "    valueString: x\n    x:\n      name: hfsLive\n"),
    ("action:\n  - id: relevance", "x-action:\n  - id: relevance"), ("  - id: relevance\n", "  - title: x\n"),
    ("trigger: [{type: named-event, name: patient-view}", "trigger: [{type: named-event}"),
    ("valueCode: urgent}", "valueCode: loud}"), ("valueCode: urgent}", "valueString: urgent}"),
    ("code: [{coding: [{system: &topics", "code: [{text: x, x: [{system: &topics"), ("- path: code\n",
     "- path: kode\n"),
    ("                      - path: code\n                        expression", "                      - expression"),
    ("valueInteger: 3}", "valueString: three}"), ("type: {coding: [{system: *types, code: remove}]}",
     "type: {text: x}"),
    ("priority: stat", "priority: loud"), ("value: 12, unit: months", "value: soon, unit: months"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), CUT, ids=map(str, range(len(CUT))))
def test_damage_of_the_plan_is_a_sentence(copied: Path, old: str, new: str) -> None:
    change(PLAN_FILE, old, new)(copied)
    found = problems(copied)
    assert found
    assert all(file and reason and "\n" not in reason for file, _, reason in found)


# --- Serve ----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("edit", "reason"),
    [pytest.param(edit, reason, id=name) for name, edit, _, _, reason in STATIC
     if name in ("unknown function", "missing template", "unknown evidence", "unused fact", "not FHIR", "broken YAML")],
)  # fmt: skip
def test_serve_refuses_to_start(copied: Path, tmp_path: Path, edit: Edit, reason: str) -> None:
    edit(copied)
    command = [Path(sys.executable).with_name("cds-hooks"), "serve", "--port", str(free_port()),
    "--data", tmp_path / "d"]
    environment = os.environ | {"CDS_CONTENT": str(copied)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("cds-hooks: ")
    assert reason in run.stderr
    assert "Traceback" not in run.stderr
    assert "listens on" not in run.stderr
