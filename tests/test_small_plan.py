"""The small plan of the guide: its files, written out as printed, give what the guide says that the commands print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cds_hooks.answer.templates import escaped
from cds_hooks.cli import main

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "writing-a-plan.md").read_text("utf-8")
SECTION = GUIDE.partition("\n## A small plan, from start to end\n")[2].partition("\n## ")[0]
FOLDER = "/tmp/eyes"  # noqa: S108 -- where the guide puts them; here it is replaced
#: The name of a file, and the first block after it.
FILES = dict(re.findall(r"`([\w./-]+\.(?:yaml|j2|json))`(?:(?!```).)*?```(?!console)\w+\n(.*?)^```$", SECTION,
                        re.MULTILINE | re.DOTALL))  # fmt: skip
PRINTED = re.findall(rf"^```console\n\$ CDS_CONTENT={FOLDER} \.venv/bin/cds-hooks ([^\n]*)\n(.*?)^```$", SECTION,
                     re.MULTILINE | re.DOTALL)  # fmt: skip


@pytest.fixture
def eyes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    monkeypatch.setenv("CDS_CONTENT", str(tmp_path))
    monkeypatch.setenv("CDS_HOOKS_DATA", str(tmp_path / "data"))
    return tmp_path


def test_no_block_of_the_guide_is_passed_over() -> None:
    assert len(FILES) + len(PRINTED) == SECTION.count("```") / 2
    assert {command.split()[0] for command, _ in PRINTED} == {"lint", "test", "explain"}


@pytest.mark.parametrize(("command", "output"), PRINTED, ids=[command for command, _ in PRINTED])
def test_what_the_guide_says_that_the_commands_print(eyes: Path, command: str, output: str) -> None:
    """Digest of the content included: it depends on the files alone."""
    assert CliRunner().invoke(main, command.replace(FOLDER, str(eyes)).split()).output == output


def test_what_lint_says_of_a_parameter_that_nobody_describes(eyes: Path) -> None:
    plan = eyes / "plans" / "eye-check" / "plan.yaml"
    text = plan.read_text("utf-8")
    assert text.count("{url: description, ") == 1
    plan.write_text(re.sub(r".*\{url: description, .*\n", "", text), "utf-8")
    (line,) = [line for line in GUIDE.splitlines() if "parameter has the parts" in line]
    assert line in CliRunner().invoke(main, ["lint"]).output.splitlines()


def test_text_of_the_chart_comes_out_as_the_guide_says() -> None:
    (said,) = re.findall(r'a chart that\nsays "([^"]+)" a card has `([^`]+)`', GUIDE)
    assert escaped(said[0]) == said[1] != said[0]
