"""A whole run, with everything that can be logged, counted and traced; and nothing of the patient in any of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from a_server import Ehr
from an_ehr import CPT, ICD, LOINC, NOW, PLAN, SNOMED, bundle, concept, order, patient, request, spasm
from flask.testing import FlaskClient
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cds_hooks.settings import Fhir, Settings
from cds_hooks.web.app import PULSE, create_app
from cds_hooks.web.tracing import Tracing
from cds_hooks.wsgi import build_service

TOKEN = "eyJ-access-token-of-the-call"
#: What belongs to the patient, the user or the EHR, and must be found nowhere.
SECRETS = [
    "pat-4711", "Seldom", "Sally", "1988-02-29", "enc-4712", "ord-4713", "cond-4714", "user-4715", TOKEN,
    "bearer-of-ehr", "13753008", "G51.32", "70551", "comment of the user", "words-of-a-query",
]  # fmt: skip
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Run:
    client: FlaskClient
    log: io.BytesIO
    spans: InMemorySpanExporter
    tracing: Tracing


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    log, spans = io.BytesIO(), InMemorySpanExporter()
    settings = Settings(data=tmp_path, fhir=Fhir(deadline_ms=1000))
    tracing = Tracing(spans)
    app = create_app(build_service(settings, validate=False), settings, log, tracing=tracing)
    made = Run(app.test_client(), log, spans, tracing)
    yield made
    tracing.close()


def sally() -> list[dict[str, Any]]:
    person = patient("pat-4711") | {"name": [{"family": "Seldom", "given": ["Sally"]}], "birthDate": "1988-02-29"}
    return [person, spasm("pat-4711", "cond-4714")]


def asked(hook: str, **members: Any) -> dict[str, Any]:
    reason = {"reasonCode": [concept((SNOMED, "13753008"), (ICD, "G51.32"))]}
    drafts = () if hook == "patient-view" else (order("ord-4713", (CPT, "70551"), (LOINC, "24590-2"), **reason),)
    body = request(hook, "pat-4711", *drafts, chart=sally(), **members)
    body["context"] |= {"userId": "Practitioner/user-4715", "encounterId": "enc-4712"}
    return body


def chart(handler: Any) -> None:
    """Some searches work, some do not; reads are refused."""
    if "Condition" in handler.path:
        handler.reply(bundle(sally()[1]))
    elif "Observation" in handler.path:
        handler.reply(b"<html>Sally Seldom</html>", 500)
    else:
        handler.reply({"resourceType": "OperationOutcome"}, 403)


def whole_run(run: Run) -> None:
    def post(path: str, body: Any, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": "Bearer bearer-of-ehr", "traceparent": TRACE, **headers}
        return run.client.post(f"{path}?q=words-of-a-query", data=data, headers=given, content_type="application/json")

    with Ehr(chart) as ehr:
        auth = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 300, "scope": "user/Condition.read",
                "subject": "user-4715", "patient": "pat-4711"}  # fmt: skip
        for hook in ("patient-view", "order-select", "order-sign"):
            path, body = f"/cds-services/{PLAN}-{hook}", asked(hook)
            told = post(path, body)
            assert told.status_code == 200
            fetched = {name: value for name, value in body.items() if name != "prefetch"}
            fetched |= {"fhirServer": ehr.base, "fhirAuthorization": auth}
            assert post(path, fetched).status_code == 200
            assert post(path, fetched | {"fhirServer": "https://pat-4711.example.org"}).status_code == 412
            assert post(path, {**body, "hookInstance": "pat-4711"}).status_code == 400
            assert post(path, {**body, "context": {"patientId": "Seldom, Sally"}}).status_code == 400
            assert post(path, json.dumps(body).encode()[:-5]).status_code == 400
            assert post(f"/cds-services/pat-4711-{hook}", body).status_code == 404
            for card in told.get_json()["cards"]:
                item = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": NOW.isoformat(),
                        "overrideReason": {"userComment": "comment of the user on Sally Seldom"}}  # fmt: skip
                assert post(f"{path}/feedback", {"feedback": [item]}).status_code == 200
            assert post(f"/explain/{PLAN}-{hook}", body, **{"X-Request-ID": "pat 4711, Seldom"}).status_code == 200
        assert {one.get("traceparent", "")[:36] for one in ehr.seen} == {TRACE[:36]}
        assert {one["traceparent"][36:52] for one in ehr.seen}.isdisjoint({TRACE[36:52]})  # below our own span
        assert all(one["x-request-id"] for one in ehr.seen)
    run.client.application.extensions[PULSE].beat()


def test_nothing_of_the_patient_is_logged_counted_or_traced(run: Run) -> None:
    whole_run(run)
    run.tracing.flush()
    spans = run.spans.get_finished_spans()
    told = {
        "log": run.log.getvalue().decode(),
        "metrics": run.client.get("/metrics").get_data(as_text=True),
        "spans": "\n".join(span.to_json() for span in spans),
    }
    assert told["log"].count('"event":"request"') > 20
    assert 'cds_hooks_prefetch_total{how="fetched"' in told["metrics"]
    assert {span.name for span in spans} >= {"fetch", "/cds-services/<service_id>"}
    found = [(where, secret) for where, text in told.items() for secret in SECRETS if secret in text]
    assert found == []
    assert "127.0.0.1" not in told["log"] + told["metrics"] + told["spans"]


def test_the_net_catches_what_it_is_for(run: Run) -> None:
    """All of the secrets do travel in the run: none is looked for in vain."""
    sent = json.dumps([asked(hook) for hook in ("patient-view", "order-select")])
    elsewhere = {TOKEN, "bearer-of-ehr", "comment of the user", "words-of-a-query"}
    assert [secret for secret in SECRETS if secret not in sent] == [one for one in SECRETS if one in elsewhere]


def test_spans_tell_what_took_time(run: Run) -> None:
    whole_run(run)
    run.tracing.flush()
    spans = run.spans.get_finished_spans()
    calls = [span for span in spans if span.name == "/cds-services/<service_id>"]
    assert {format(span.context.trace_id, "032x") for span in calls} == {TRACE[3:35]}
    assert {format(span.parent.span_id, "016x") for span in calls if span.parent} == {TRACE[36:52]}
    assert {span.attributes["http.response.status_code"] for span in calls if span.attributes} >= {200, 400, 412}
    known = {span.context.span_id for span in calls}
    fetches = [span for span in spans if span.name == "fetch"]
    assert {span.parent.span_id for span in fetches if span.parent} <= known
    assert {span.attributes["cds_hooks.key"] for span in fetches if span.attributes} >= {"conditions", "observations"}
    assert {span.status.description for span in fetches} == {None, "status 4xx", "status 5xx"}
    for span in fetches:
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0 <= span.end_time - span.start_time < 5_000_000_000


def test_without_tracing_nothing_of_it_is_imported() -> None:
    import subprocess
    import sys

    program = "import sys, cds_hooks.wsgi; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
