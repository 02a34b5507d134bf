"""What commands say when they are asked for something that is not there."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cds_hooks.cli import main


def said(*arguments: str) -> str:
    shown = CliRunner().invoke(main, list(arguments))
    assert shown.exit_code == 1, shown.output
    assert shown.exception is None or isinstance(shown.exception, SystemExit)
    return shown.output


def test_the_cases_of_no_plan() -> None:
    assert "PLAN: one of " in said("test", "nobody")


@pytest.mark.parametrize(
    ("text", "told"),
    [("[]", "a hook request is a JSON object"), ("{", "is no JSON"), ('"x"', "a JSON object"), ("\xff", "is no JSON")],
)
def test_explaining_what_is_no_request(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(text.encode("latin-1"))
    shown = said("explain", str(path))
    assert told in shown
    assert str(path) in shown


def test_explaining_a_rule_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    body = {
        "hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/a", "patientId": "p"},
        "prefetch": {"conditions": None, "patient": {"resourceType": "Patient", "id": "p"}},
    }  # fmt: skip
    path.write_text(json.dumps(body), "utf-8")
    assert "there is no nobody, but " in said("explain", str(path), "--rule", "nobody")
    assert "hook" in said("explain", str(path), "--plan", "nobody")


@pytest.mark.parametrize("command", ["serve", "explain"])
def test_a_site_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("CDS_HOOKS_SITE", str(tmp_path / "none"))
    monkeypatch.setenv("CDS_HOOKS_DATA", str(tmp_path / "data"))
    (tmp_path / "request.json").write_text("{}", "utf-8")
    rest = [str(tmp_path / "request.json")] if command == "explain" else ["--port", "1"]
    assert f"{tmp_path / 'none'}: there is no such folder" in said(command, *rest)
