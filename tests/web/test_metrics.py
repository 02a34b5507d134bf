"""The counters, and that no caller can put words into them."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_up import Answer, FakeService, call_body

from cds_hooks.chart.gather import Fetch
from cds_hooks.errors import Rejected
from cds_hooks.web.app import PULSE
from cds_hooks.web.metrics import Metrics

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


def test_inputs_fetches_and_what_stayed_open(
    client: FlaskClient, service: FakeService, value: Callable[[str], float]
) -> None:
    service.answer = Answer(
        inputs=(("patient", "supplied"), ("conditions", "fetched"), ("observations", "failed")),
        fetches=(
            Fetch("conditions", 0.0, 0.2), Fetch("observations", 0.0, 0.3, "status 503"),
            Fetch("observations", 0.0, 2.5, "timeout"),
        ),
        undecided=("t1", "t2"),
        troubles={"card": 2},
    )  # fmt: skip
    for _ in range(3):
        client.post(PATH, json=call_body())
    here = 'service="made-up-patient-view"'
    assert value(f'cds_hooks_prefetch_total{{how="supplied",key="patient",{here}}}') == 3
    assert value(f'cds_hooks_prefetch_total{{how="fetched",key="conditions",{here}}}') == 3
    assert value(f'cds_hooks_prefetch_total{{how="failed",key="observations",{here}}}') == 3
    assert value('cds_hooks_fetch_seconds_count{key="conditions"}') == 3
    assert value('cds_hooks_fetch_seconds_sum{key="conditions"}') == pytest.approx(0.6)
    assert value('cds_hooks_fetch_failures_total{key="observations",problem="status 5xx"}') == 3
    assert value('cds_hooks_fetch_failures_total{key="observations",problem="timeout"}') == 3
    assert value(f'cds_hooks_undecided_total{{{here},topic="t2"}}') == 3
    assert value(f'cds_hooks_swallowed_total{{kind="card",{here}}}') == 6


def test_a_long_queue_is_counted_without_a_scrape() -> None:
    metrics = Metrics()
    for _ in range(5000):
        metrics.called("s", 200, 0.001)
    assert len(metrics._queue) <= 2000
    assert 'cds_hooks_calls_total{service="s",status="200"} 5000.0' in metrics.scrape().decode()


def test_calls_are_counted_once_however_many_count() -> None:
    metrics = Metrics()

    def work() -> None:
        for _ in range(1000):
            metrics.called("s", 200, 0.001)
            metrics.count()

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert 'cds_hooks_calls_total{service="s",status="200"} 8000.0' in metrics.scrape().decode()


def test_how_it_stands(make_app: Callable[..., Flask], service: FakeService, value: Callable[[str], float]) -> None:
    app = make_app()
    client = app.test_client()

    def state(name: str) -> float:
        lines = client.get("/metrics").get_data(as_text=True).splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    service.breaking = {("https://ehr.example.org/fhir", "open"): 2}
    app.extensions[PULSE].beat()
    assert state('cds_hooks_breakers{server="https://ehr.example.org/fhir",state="open"}') == 2
    service.breaking = {("https://ehr.example.org/fhir", "closed"): 2}
    app.extensions[PULSE].beat()
    assert state('cds_hooks_breakers{server="https://ehr.example.org/fhir",state="open"}') == 0
    assert state('cds_hooks_breakers{server="https://ehr.example.org/fhir",state="closed"}') == 2
    assert state("cds_hooks_at_work") == 0


def test_what_a_dead_worker_said_of_its_state_is_forgotten(tmp_path: Path) -> None:
    program = (
        "from cds_hooks.web.metrics import Metrics\n"
        "metrics = Metrics()\n"
        "metrics.called('s', 200, 0.1)\n"
        "metrics.standing(7, {('x', 'open'): 1})\n"
        "print(metrics.scrape().decode())\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    for calls in (1, 2):
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert "cds_hooks_at_work 7.0" in run.stdout
        assert 'cds_hooks_breakers{server="x",state="open"} 1.0' in run.stdout
        assert f'cds_hooks_calls_total{{service="s",status="200"}} {calls}.0' in run.stdout
