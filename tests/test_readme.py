"""What the README prints and counts is what the commands, the server and the plan say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cds_hooks.cli import main
from cds_hooks.reasoning.content import read_yaml
from cds_hooks.report.figures import Row
from cds_hooks.report.text import as_table
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app
from cds_hooks.wsgi import build_service

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PLAN = ROOT / "plans" / "hemifacial-spasm"


def example(*arguments: str) -> str:
    return subprocess.run([sys.executable, str(ROOT / "examples" / "request.py"), *arguments], check=True,
                          capture_output=True, text=True).stdout  # fmt: skip


def shown(told: str, printed: str) -> bool:
    """Whether the README tells what was printed; `…` stands for whatever was cut."""
    return bool(re.fullmatch(".*".join(map(re.escape, told.split("…"))), printed, re.DOTALL))


# ---- the first answer


def differences(told: Any, given: Any, where: str = "answer") -> Iterator[str]:
    if where.endswith(".uuid"):
        return
    if isinstance(told, dict) and isinstance(given, dict) and told.keys() == given.keys():
        for key in told:
            yield from differences(told[key], given[key], f"{where}.{key}")
    elif isinstance(told, list) and isinstance(given, list) and len(told) == len(given):
        for number, pair in enumerate(zip(told, given, strict=True)):
            yield from differences(*pair, f"{where}[{number}]")
    elif not (told == given or (isinstance(told, str) and isinstance(given, str) and shown(told, given))):
        yield f"{where}: {told!r} is told, {given!r} is given"


def test_the_first_answer_is_the_one_that_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CDS_CONTENT", str(ROOT))
    settings = Settings(data=tmp_path, log="off")
    (told,) = re.findall(r"^```json\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    asked = json.loads(example("seed-patient-view"))
    with create_app(build_service(settings), settings).test_client() as client:
        answer = client.post("/cds-services/hemifacial-spasm-patient-view", json=asked)
    assert list(differences(json.loads(told), answer.get_json())) == []


# ---- why, or why not

CONSOLE = re.compile(r"^```console\n\$ python3 examples/request\.py (.*) \|\n"
                     r" +\.venv/bin/cds-hooks (explain - .*)\n((?s:.*?))^```$", re.MULTILINE)  # fmt: skip
EXPLAINED = CONSOLE.findall(README)


def test_there_is_a_rule_that_speaks_one_that_does_not_and_one_that_cannot_tell() -> None:
    assert len(EXPLAINED) == README.count("cds-hooks explain - ") == 3
    assert [re.findall(r"^[\w-]+: (card|not fired|unknown)$", told, re.MULTILINE) for *_, told in EXPLAINED] == [
        ["card"], ["not fired"], ["unknown"]]  # fmt: skip


@pytest.mark.parametrize(("asked", "command", "told"), EXPLAINED, ids=[asked for asked, *_ in EXPLAINED])
def test_explain_prints_what_is_told(
    asked: str, command: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Save the digest of the content, which changes with every letter of a plan."""
    monkeypatch.setenv("CDS_HOOKS_DATA", str(tmp_path))
    printed = CliRunner().invoke(main, command.split(), input=example(*asked.split())).output
    digest = re.compile(r"(?<=\()[0-9a-f]{12}(?=\) on )")
    assert digest.search(printed)
    assert digest.search(told)
    assert shown(digest.sub("", told), digest.sub("", printed)), printed


def test_an_example_that_nobody_reads_ends_without_a_word() -> None:
    """As when the command after it has failed: that has said why, and a traceback would bury it."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([sys.executable, str(ROOT / "examples" / "request.py"), "unrelated"], check=False,
                           stdout=writer, stderr=subprocess.PIPE, text=True)  # fmt: skip
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


# ---- the report


def test_the_report_has_the_form_that_is_told() -> None:
    """The figures are made up; what the command would make of them is not."""
    (told,) = re.findall(r"^```\n(\S+ \S+ \(\w+\)\ntopic .*?)^```$", README, re.DOTALL | re.MULTILINE)
    plan, version, content = told.partition("\n")[0].split()
    rows: list[Row] = []
    for line in told.splitlines()[2:]:
        if reason := re.match(r" +(\d+)  (.+)", line):
            rows[-1].reasons[reason[2]] = int(reason[1])
        else:
            topic, _, accepted, overridden, ignored, *_ = line.split()
            rows.append(
                Row(plan, version, content.strip("()"), topic, "", 50, int(accepted), int(overridden), int(ignored))
            )
    assert "\n".join(as_table(rows)) + "\n" == told
    assert all(sum(row.reasons.values()) == row.overridden for row in rows)


# ---- the topics


def rules(actions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for action in actions:
        if "code" in action:
            yield action
        else:
            yield from rules(action.get("action", []))


def test_the_topics_are_told_in_the_words_of_their_rules() -> None:
    """One row for each topic in the order of the plan; several rules of a topic one after the other."""
    short = {"patient-view": "view", "order-select": "select", "order-sign": "sign"}
    loud = {"routine": "info", "urgent": "warning", "asap": "warning", "stat": "critical"}
    rows: dict[str, tuple[list[str], list[str], list[str]]] = {}
    (plan,) = read_yaml(PLAN / "plan.yaml")
    for rule in rules(plan["action"]):
        hooks, loudness, words = rows.setdefault(rule["code"][0]["coding"][0]["code"], ([], [], []))
        hooks += [short[trigger["name"]] for trigger in rule["trigger"]]
        loudness.append(loud[rule["priority"]])
        words.append(" ".join(rule["description"].split()))
    expected = [
        f"| `{topic}` | {', '.join(hook for hook in short.values() if hook in hooks)} "
        f"| {', '.join(dict.fromkeys(loudness))} | {' '.join(words)} |"
        for topic, (hooks, loudness, words) in rows.items()
    ]
    table = re.search(r"^\| topic \| on \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert table
    assert table[1].splitlines() == expected


# ---- the figures on the evidence


def test_the_evidence_is_counted_right() -> None:
    register = yaml.safe_load((PLAN / "evidence.yaml").read_text("utf-8"))
    nothing_to_read = ("seed", "own-search", "general-knowledge")
    outside = [source for source in register["sources"].values() if source["kind"] not in nothing_to_read]
    entries = register["evidence"].values()
    counted = {
        r"(\d+) \*\*claims\*\*": len(register["claims"]),
        r"(\d+) entries of \*\*evidence\*\*": len(register["evidence"]),
        r"from (\d+) sources": len(outside),
        r"(\d+) as abstract or excerpt only": sum(source["read"] == "abstract" for source in outside),
        r"(\d+) was not found": sum(source["read"] == "not-verified" for source in outside),
        r"(\d+) of the entries are not verified": sum(entry.get("basis") is False for entry in entries),
        r"(\d+) \*\*choices\*\*": len(register["choices"]),
        r"\((\d+) `tensions`\)": len(register["tensions"]),
    }
    limits = re.sub(r"\s+", " ", README.partition("\n## Evidence and its limits\n")[2].partition("\n## ")[0])
    assert {pattern: re.findall(pattern, limits) for pattern in counted} == {
        pattern: [str(number)] for pattern, number in counted.items()}  # fmt: skip
    assert "one paper was read in full" in limits
    assert sum(source["read"] == "full" for source in outside) == 1
