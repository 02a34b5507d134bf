"""The counters, and that no caller can put words into them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from made_up import Answer, FakeService, call_body

from cds_hooks.errors import Rejected

PATH = "/cds-services/made-up-patient-view"
ITEM = {"card": "c", "outcome": "overridden", "outcomeTimestamp": "2026-01-02T03:04:05Z"}


@pytest.fixture
def value(client: FlaskClient) -> Callable[[str], float]:
    """The value of a sample by its whole name, 0 if there is none."""

    def read(sample: str) -> float:
        text = client.get("/metrics").get_data(as_text=True)
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample + " ")), 0)

    return read


def test_calls_cards_and_time(client: FlaskClient, service: FakeService, value: Callable[[str], float]) -> None:
    client.post(PATH, json=call_body())
    service.answer = Answer(topics=("t1", "t1", "t2"))
    client.post(PATH, json=call_body())
    client.post(PATH, json={})
    service.answer = Rejected("Something is missing.", status=412)
    client.post(PATH, json=call_body())
    assert value('cds_hooks_calls_total{service="made-up-patient-view",status="200"}') == 2
    assert value('cds_hooks_calls_total{service="made-up-patient-view",status="400"}') == 1
    assert value('cds_hooks_calls_total{service="made-up-patient-view",status="412"}') == 1
    assert value('cds_hooks_cards_total{service="made-up-patient-view",topic="t1"}') == 2
    assert value('cds_hooks_cards_total{service="made-up-patient-view",topic="t2"}') == 1
    assert value('cds_hooks_call_seconds_count{service="made-up-patient-view"}') == 4


def test_only_calls_count_as_calls(client: FlaskClient) -> None:
    client.get("/cds-services")
    client.options(PATH)
    client.get(PATH)
    client.post(f"{PATH}/feedback", json={"feedback": []})
    assert "cds_hooks_calls_total{" not in client.get("/metrics").get_data(as_text=True)


def test_problems_are_counted_by_field(client: FlaskClient, value: Callable[[str], float]) -> None:
    body = call_body("order-select", prefetch=None)
    body["context"]["encounterId"] = 7
    body["context"]["draftOrders"]["entry"] += [None] * 30
    body["context"]["selections"] += ["Task/secret"]
    client.post("/cds-services/made-up-order-select", json=body)
    assert value('cds_hooks_problems_total{kind="prefetch"}') == 1
    assert value('cds_hooks_problems_total{kind="encounterId"}') == 1
    assert value('cds_hooks_problems_total{kind="draftOrders"}') == 11
    assert value('cds_hooks_problems_total{kind="selections"}') == 1


def test_feedback_is_counted_by_outcome(client: FlaskClient, value: Callable[[str], float]) -> None:
    client.post(f"{PATH}/feedback", json={"feedback": [ITEM, ITEM]})
    assert value('cds_hooks_feedback_total{outcome="overridden",service="made-up-patient-view"}') == 2


def test_no_label_is_a_callers_word(client: FlaskClient, value: Callable[[str], float]) -> None:
    client.post("/cds-services/secret-service", json=call_body())
    client.post("/cds-services/secret-service/feedback", json={"feedback": [ITEM]})
    client.post(PATH, json=call_body(hook="secret-hook"))
    client.get("/secret-page")
    text = client.get("/metrics").get_data(as_text=True)
    assert "secret" not in text
    assert value('cds_hooks_calls_total{service="unknown",status="404"}') == 1


def test_processes_that_share_a_folder_are_added_up(tmp_path: Path) -> None:
    """Two processes, for the setting is read when prometheus_client is imported."""
    program = (
        "from cds_hooks.web.metrics import Metrics\n"
        "metrics = Metrics()\n"
        "metrics.called('s', 200, 0.1)\n"
        "print(metrics.scrape().decode())\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        for _ in range(2)
    ]
    assert 'cds_hooks_calls_total{service="s",status="200"} 1.0' in runs[0].stdout
    assert 'cds_hooks_calls_total{service="s",status="200"} 2.0' in runs[1].stdout
