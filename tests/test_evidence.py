"""The register: every claim is there and accounted for; lint says where it disagrees with the plan or with itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cds_hooks.cli import main
from cds_hooks.errors import ContentError
from cds_hooks.evidence import Register, lint_figures, lint_register, numbers, report, static_text
from cds_hooks.lint import lint_static
from cds_hooks.loading import Loaded, load_plan
from cds_hooks.reasoning.content import content_root

PLAN, TINY = "hemifacial-spasm", "teapot-calibration"
EXAMPLE = Path(__file__).parent.parent / "examples" / "plan-tiny"
CLAIMS = [f"S{seed}-{number}" for seed, last in ((1, 32), (2, 13), (3, 34)) for number in range(1, last + 1)]
Lint = Callable[[Loaded], Iterator[ContentError]]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_plan(content_root(), PLAN)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLE, tmp_path / "content")
    return tmp_path / "content"


def change(root: Path, file: str, old: str, new: str) -> None:
    """Replace one place; it must exist, else the test would prove nothing."""
    path = root / file.format(plan=TINY)
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} in {file}"
    path.write_text(text.replace(old, new), "utf-8")


def problems(root: Path, lint: Lint = lint_register) -> list[str]:
    return [str(error) for error in lint(load_plan(root, TINY))]


# ---- the shipped register


def test_all_claims_of_the_seeds_are_there(loaded: Loaded) -> None:
    assert len(CLAIMS) == 79
    assert [entry.label for entry in Register(loaded).of("claims")] == CLAIMS
    assert all(entry.body["source"] == entry.label.split("-")[0] for entry in Register(loaded).of("claims"))


def test_every_entry_is_cited_or_says_why_not(loaded: Loaded) -> None:
    assert [entry.label for entry in Register(loaded).entries.values() if not entry.rules and not entry.reason] == []


def test_the_register_agrees_with_the_plan_and_with_itself(loaded: Loaded) -> None:
    assert [str(error) for error in lint_register(loaded)] == []


def test_no_card_prints_a_figure_without_its_evidence(loaded: Loaded) -> None:
    assert [str(error) for error in lint_figures(loaded)] == []


def test_the_report_lists_every_claim_once_with_rules_or_reason(loaded: Loaded) -> None:
    lines = list(report(loaded))
    heads = [index for index, line in enumerate(lines) if re.match(r"S\d-\d+  ", line)]
    assert [lines[index].split()[0] for index in heads] == CLAIMS
    assert all(re.match(r"    (rules|no rule): \S", lines[index + 1]) for index in heads)
    assert not any("no reason is given" in line for line in lines)


def test_the_rules_in_the_report_are_those_of_the_plan(loaded: Loaded) -> None:
    lines = list(report(loaded))
    for label in ("S3-33", "S3-5"):
        index = next(index for index, line in enumerate(lines) if line.startswith(f"{label}  "))
        citing = [rule.id for rule in loaded.plan.rules if label in rule.evidence]
        assert citing
        assert lines[index + 1] == f"    rules: {', '.join(citing)}"


def test_figures_and_tensions_are_shown(loaded: Loaded) -> None:
    text = "\n".join(report(loaded))
    entry = text[text.index("\nS1-8  "):text.index("\nS1-9  ")]
    assert "    figures: 83-100 %" in entry
    assert "    tensions: T3, T4" in entry


def test_the_last_line_counts(loaded: Loaded) -> None:
    claims, evidence, choices = list(report(loaded))[-1].split("; ")
    for text, part, name in (
        (claims, "claims", "seed claims"), (evidence, "evidence", "outside evidence"), (choices, "choices", "choices"),
    ):  # fmt: skip
        entries = Register(loaded).of(part)
        used = sum(bool(entry.rules) for entry in entries)
        assert text == f"{len(entries)} {name}: {used} used by rules, {len(entries) - used} accounted for otherwise"


def test_unused_shows_only_what_no_rule_cites(loaded: Loaded) -> None:
    lines = list(report(loaded, unused=True))
    cited = {label for rule in loaded.plan.rules for label in rule.evidence}
    shown = {line.split()[0] for line in lines if re.match(r"[A-Z][\w-]+  ", line)}
    assert shown == Register(loaded).entries.keys() - cited
    assert not any(line.startswith("    rules:") for line in lines)
    assert lines[-1] == list(report(loaded))[-1]


def test_what_is_not_verified_is_marked(loaded: Loaded) -> None:
    text = "\n".join(report(loaded))
    marked = sum(entry.body.get("basis") is False for entry in Register(loaded).entries.values())
    assert text.count("not verified: no rule may rest on it") == marked > 0


# ---- the command


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDS_CONTENT", str(EXAMPLE))
    done = CliRunner().invoke(main, ["evidence"])
    assert done.exit_code == 0
    assert "G-3  A good teapot never drifts.\n    no rule: Documentation only" in done.output
    assert done.output.endswith("3 invented claims: 2 used by rules, 1 accounted for otherwise; "
                                "1 choices: 1 used by rules, 0 accounted for otherwise\n")  # fmt: skip
    assert CliRunner().invoke(main, ["evidence", "--plan", TINY]).output == done.output
    unused = CliRunner().invoke(main, ["evidence", "--unused"]).output
    assert "G-3" in unused
    assert "G-1" not in unused


def test_the_command_with_an_unknown_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDS_CONTENT", str(EXAMPLE))
    done = CliRunner().invoke(main, ["evidence", "--plan", "kettle"])
    assert done.exit_code == 1
    assert f"--plan: one of {TINY}" in done.output


def test_an_entry_without_a_reason_stands_out(tiny: Path) -> None:
    change(tiny, "plans/{plan}/evidence.yaml", "    role: ", "    remark: ")
    lines = list(report(load_plan(tiny, TINY)))
    assert "    no rule: no reason is given" in lines
    assert lines[-1].startswith("3 invented claims: 2 used by rules, 0 accounted for otherwise, 1 WITHOUT A REASON")


# ---- lint of the register

REGISTER, RULES = "plans/{plan}/evidence.yaml", "plans/{plan}/plan.yaml"
#: (what is broken, file, old, new, what lint says)
BROKEN = [
    ("topic that does not cite", REGISTER, "[cold-water]", "[cold-water, calibration-due]",
     "evidence.yaml: G-2.used_by: names calibration-due, whose rules do not cite it"),
    ("topic left out", REGISTER, "    tensions: [T1]\n    used_by: [calibration-due]\n", "    tensions: [T1]\n",
     "evidence.yaml: G-1.used_by: does not name calibration-due, whose rule cites it"),
    ("label taken from a rule", RULES, ", {type: justification, label: C-INTERVAL}", "",
     "evidence.yaml: C-INTERVAL.used_by: names calibration-due, whose rules do not cite it"),
    ("label given to a rule", RULES, "label: C-INTERVAL}", "label: C-INTERVAL}, {type: justification, label: G-3}",
     "evidence.yaml: G-3.used_by: does not name calibration-due, whose rule cites it"),
    ("empty list", REGISTER, "    role: ", "    used_by: []\n    role: ",
     "evidence.yaml: G-3.used_by: to be left out when no rule cites the entry"),
    ("no reason", REGISTER, '    role: "Documentation only: a sentence of praise, from which no rule follows."\n', "",
     "evidence.yaml: G-3: no rule cites it: a role or note must say why it is here"),
    ("tension that does not name the claim", REGISTER, "claims: [G-1, G-3]", "claims: [G-1]",
     "evidence.yaml: G-3.tensions: T1 does not name it"),
    ("claim that does not name the tension", REGISTER, "claims: [G-1, G-3]", "claims: [G-1, G-2, G-3]",
     "evidence.yaml: T1.claims: G-2 does not name it"),
    ("unknown tension", REGISTER, "    tensions: [T1]\n    used_by", "    tensions: [T1, T9]\n    used_by",
     "evidence.yaml: G-1.tensions: no tension T9"),
    ("tension of an unknown claim", REGISTER, "claims: [G-1, G-3]", "claims: [G-1, G-3, G-9]",
     "evidence.yaml: T1.claims: no entry G-9"),
    ("unknown source", REGISTER, "source: GUILD\n    figures: \"100", "source: GILD\n    figures: \"100",
     "evidence.yaml: G-2.source: no source GILD"),
    ("unknown further source", REGISTER, "    figures: \"100", "    further_sources: [CLUB]\n    figures: \"100",
     "evidence.yaml: G-2.source: no source CLUB"),
    ("no source", REGISTER, "    source: GUILD\n    figures: \"100", "    figures: \"100",
     "evidence.yaml: G-2.source: needs a source"),
]  # fmt: skip


def test_the_example_itself_is_fine(tiny: Path) -> None:
    assert problems(tiny, lint_static) == problems(tiny, lint_register) == problems(tiny, lint_figures) == []


@pytest.mark.parametrize(("file", "old", "new", "said"), [pytest.param(*rest, id=name) for name, *rest in BROKEN])
def test_lint_says_what_disagrees(tiny: Path, file: str, old: str, new: str, said: str) -> None:
    change(tiny, file, old, new)
    assert said in problems(tiny)
    assert said in problems(tiny, lint_static)


def test_an_entry_is_a_mapping(tiny: Path) -> None:
    change(tiny, REGISTER, "choices:\n", "choices:\n  C-ODD: words\n")
    with pytest.raises(ContentError, match=r"evidence\.yaml: C-ODD: an entry is a mapping"):
        problems(tiny)


# ---- lint of figures

CARD = "cards/{plan}/cold-water.md.j2"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (CARD, "5 % low", "7 % low", f"cards/{TINY}/cold-water.md.j2: 7: no evidence that the rules of cold-water"),
        (CARD, "5 % low", "5.5 % low", f"cards/{TINY}/cold-water.md.j2: 5.5: no evidence"),
        (CARD, "5 % low", "5-6 % low", f"cards/{TINY}/cold-water.md.j2: 6: no evidence"),
        # 2 % is in the register, but no rule of this card cites the claim
        (CARD, "5 % low", "2 % low", f"cards/{TINY}/cold-water.md.j2: 2: no evidence"),
        (RULES, "{type: justification, label: G-1}, ", "", f"cards/{TINY}/calibration-due.md.j2: 2: no evidence"),
        (REGISTER, "; drift 2 % a year", "", f"cards/{TINY}/calibration-due.md.j2: 2: no evidence"),
        ("cards/{plan}/_footer.md.j2", "*An", "*1 of 9: An", f"cards/{TINY}/_footer.md.j2: 9: no evidence"),
    ],
    ids=["other", "more exact", "range", "claim of another card", "label missing", "not in the claim", "footer"],
)
def test_a_figure_without_evidence(tiny: Path, file: str, old: str, new: str, said: str) -> None:
    change(tiny, file, old, new)
    assert any(found.startswith(said) for found in problems(tiny, lint_figures)), problems(tiny, lint_figures)


def test_a_figure_in_an_include(tiny: Path) -> None:
    (tiny / "cards" / TINY / "_part.md.j2").write_text("Only 4711 were made.\n", "utf-8")
    change(tiny, CARD, "- Ordered", '{% include "_part.md.j2" %}\n- Ordered')
    (found,) = problems(tiny, lint_figures)
    assert found.startswith(f"cards/{TINY}/_part.md.j2: 4711: no evidence that the rules of cold-water")


@pytest.mark.parametrize("where", ["100 degrees", "3rd edition", "1870"])
def test_figures_of_claim_source_and_choice_count(tiny: Path, where: str) -> None:
    change(tiny, REGISTER, "3rd edition", "edition of 1870, 3 volumes")
    change(tiny, CARD, "5 % low", f"5 % low at {where.removesuffix('rd edition')}")
    assert problems(tiny, lint_figures) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("77-86 % of 5,685", ["77", "86", "5,685"]),
        ("0.3-2.5 %; 13/47; below 0.1 %.", ["0.3", "2.5", "13", "47", "0.1"]),
        ("after 2\u20134 months", ["2", "4"]),
        ("a 3-month wait, 24-hour clock, 38-year-old", ["3", "24", "38"]),
        ("see S1, T2, 3D, 3T, 1.5T, F2503, C-3, COVID-19, XY-12-b, 2nd", []),
        ("Criteria (2022): all; (Miller 2012, abstract); (AAO-HNS 2013, abstract)", []),
        ("(1979, abstract) and (consensus 2021) and since 2021", ["1979", "2021", "2021"]),
        ("1. one\n2) two\n  3. three\n4 pots", ["4"]),
        ("It is 12. Then 7, then (8).", ["12", "7", "8"]),
    ],
)  # fmt: skip
def test_what_a_figure_is(text: str, found: list[str]) -> None:
    assert numbers(text) == found


def test_only_static_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.md.j2"
    text = '{% if f.x > 11 %}A {{ f.y[22] }}{{ "33" }} b{# 44 #}{% else %}55 c{% endif %}, {{ z }}66\n'
    path.write_text(text, "utf-8")
    assert numbers(static_text(path)) == ["55", "66"]


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.md.j2"
    path.write_text("{{ ` }}", "utf-8")
    with pytest.raises(ContentError, match=r"a\.md\.j2: line 1"):
        static_text(path)
