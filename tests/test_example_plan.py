"""The example plan: another topic, all invented, served by the engine as it is; its walk-through is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import cds_hooks
from cds_hooks.cases import run_cases
from cds_hooks.evidence import lint_figures
from cds_hooks.lint import coverage, lint
from cds_hooks.loading import load_plan
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app
from cds_hooks.wsgi import build_service

HERE = Path(__file__).parent.parent
ROOT, NAME = HERE / "examples" / "plan-tiny", "teapot-calibration"
NOW = datetime.now().astimezone()
PATIENT = "p1"


# ---- the plan


def test_lint_finds_nothing() -> None:
    assert [str(error) for error in lint(ROOT, NOW)] == []
    assert [str(error) for error in lint_figures(load_plan(ROOT, NAME))] == []


@pytest.mark.parametrize("now", [NOW, datetime(2024, 2, 29, 23, 59, tzinfo=UTC)], ids=["today", "leap day"])
def test_all_cases_pass_and_cover_both_rules(now: datetime) -> None:
    loaded = load_plan(ROOT, NAME)
    results = run_cases(loaded, now)
    assert {result.case.id: result.problems for result in results if result.problems} == {}
    table = coverage(loaded, results)
    assert table.keys() == {"calibration-due", "cold-water"}
    assert all(kinds["firing"] and kinds["silent"] for kinds in table.values())


def test_no_code_of_the_example_is_a_real_one() -> None:
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "plans").rglob("*.yaml"))
    systems = set(re.findall(r"system: \"?([^\s\",}]+)", text))
    format_only = {"http://terminology.hl7.org/CodeSystem/library-type", "http://unitsofmeasure.org",
                   "http://terminology.hl7.org/CodeSystem/plan-definition-type",
                   "http://terminology.hl7.org/CodeSystem/action-type"}  # fmt: skip
    invented = {system for system in systems if system.startswith("urn:example:")}
    assert invented
    assert systems - invented - {"&types", "*types", "&topics", "*topics"} <= format_only


# ---- served


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FlaskClient]:
    """The application as its workers build it, with nothing set but the folder of the content."""
    monkeypatch.setenv("CDS_CONTENT", str(ROOT))
    settings = Settings(data=tmp_path)
    with create_app(build_service(settings), settings).test_client() as client:
        yield client


def teapot() -> dict[str, Any]:
    concept = {"coding": [{"system": "urn:example:teapots", "code": "teapot"}], "text": "Brown teapot"}
    return {"resourceType": "Device", "id": "t1", "status": "active", "type": concept,
            "patient": {"reference": f"Patient/{PATIENT}"}}  # fmt: skip


def order(water: str) -> dict[str, Any]:
    return {"resourceType": "ServiceRequest", "id": "o1", "status": "draft", "intent": "order",
            "subject": {"reference": f"Patient/{PATIENT}"}, "orderDetail": [{"text": water}], "priority": "routine",
            "code": {"coding": [{"system": "urn:example:teapots", "code": "calibration"}]}}  # fmt: skip


def bundle(*found: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": resource} for resource in found]}


def call(client: FlaskClient, hook: str, **context: Any) -> list[dict[str, Any]]:
    body = {
        "hook": hook, "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/u1", "patientId": PATIENT, **context},
        "prefetch": {"devices": bundle(teapot()), "procedures": bundle()},
    }  # fmt: skip
    answer = client.post(f"/cds-services/{NAME}-{hook}", json=body)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    cards: list[dict[str, Any]] = answer.get_json()["cards"]
    return cards


def test_discovery_offers_the_two_hooks_and_asks_for_what_the_rules_read(client: FlaskClient) -> None:
    services = {service["id"]: service for service in client.get("/cds-services").get_json()["services"]}
    assert services.keys() == {f"{NAME}-patient-view", f"{NAME}-order-select"}
    view, select = services[f"{NAME}-patient-view"], services[f"{NAME}-order-select"]
    assert view["prefetch"].keys() == {"devices", "procedures"}
    assert select["prefetch"].keys() == {"devices"}


def test_a_card_with_an_order_to_create(client: FlaskClient) -> None:
    (card,) = call(client, "patient-view")
    assert card["summary"] == "Teapot without calibration in the last 12 months"
    assert (card["indicator"], card["source"]["label"]) == ("info", "Teapot calibration (example)")
    assert card["source"]["topic"]["code"] == "calibration-due"
    ((action,),) = [suggestion["actions"] for suggestion in card["suggestions"]]
    assert action["type"] == "create"
    assert action["resource"] == {
        "resourceType": "ServiceRequest", "id": "calibration", "status": "draft", "intent": "order",
        "subject": {"reference": f"Patient/{PATIENT}"}, "requester": {"reference": "Practitioner/u1"},
        "code": {"coding": [{"system": "urn:example:teapots", "code": "calibration",
                             "display": "Calibration of a teapot"}], "text": "Teapot calibration"},
        "orderDetail": [{"text": "with boiling water"}],
    }  # fmt: skip


def test_a_card_with_an_order_to_update(client: FlaskClient) -> None:
    drafted = order("with cold water")
    (card,) = call(client, "order-select", selections=["ServiceRequest/o1"], draftOrders=bundle(drafted))
    assert (card["indicator"], card["source"]["topic"]["code"]) == ("warning", "cold-water")
    ((action,),) = [suggestion["actions"] for suggestion in card["suggestions"]]
    assert action["type"] == "update"
    assert action["resource"] == {**drafted, "orderDetail": [{"text": "with boiling water"}]}


def test_silence(client: FlaskClient) -> None:
    assert call(client, "order-select", selections=["ServiceRequest/o1"], draftOrders=bundle(order("boiling"))) == []


def test_the_engine_knows_nothing_of_the_example() -> None:
    """Nothing was added to it for this plan: no word, code or name of the plan stands in its source."""
    engine = Path(cds_hooks.__file__).parent
    words = re.compile(r"teapot|calibrat|urn:example|boiling", re.IGNORECASE)
    files = [path for path in engine.rglob("*") if path.suffix in (".py", ".j2", ".css")
             and "content" not in path.relative_to(engine).parts]  # fmt: skip
    assert len(files) > 30
    assert [str(path) for path in files if words.search(path.read_text("utf-8"))] == []


# ---- the walk-through

GUIDE, SECTION = HERE / "docs" / "writing-a-plan.md", "\n## A whole plan, step by step\n"
SHOWN = re.compile(r"^`((?:plans|cards)/[^`]+)`[^\n]*(?:\n[^\n`]+)*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section() -> str:
    text = GUIDE.read_text("utf-8")
    assert text.count(SECTION) == 1
    return re.split(r"^## ", text[text.index(SECTION) + len(SECTION):], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_guide_shows_every_file_as_it_is() -> None:
    shown = dict(SHOWN.findall(section()))
    files = {str(path.relative_to(ROOT)): path for path in ROOT.rglob("*") if path.is_file()}
    assert shown.keys() == files.keys()
    for name, path in files.items():
        assert shown[name] == path.read_text("utf-8"), name


def test_what_the_guide_says_that_the_commands_print(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from cds_hooks.cli import main

    monkeypatch.setenv("CDS_CONTENT", str(ROOT))
    printed = re.findall(r"```console\n\$ CDS_CONTENT=examples/plan-tiny \.venv/bin/cds-hooks (\w.*)\n((?s:.*?))```",
                         section())  # fmt: skip
    assert {line.split()[0] for line, _ in printed} == {"lint", "test", "evidence"}
    for line, output in printed:
        assert CliRunner().invoke(main, line.split()).output == output, line
