"""The OpenAPI document is true: what it allows is taken, what it forbids is refused, and each answer is as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from an_ehr import NOW, PLAN, client, loaded, patient, request, spasm
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cds_hooks.service import CdsService
from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app

APP = create_app(CdsService(loaded(), clock=lambda: NOW), Settings(data=Path("/nonexistent"), log="off"))
schema = schemathesis.openapi.from_wsgi("/openapi.json", APP)
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def document() -> Any:
    return APP.test_client().get("/openapi.json").get_json()


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_schemathesis(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)


def test_every_route_is_described(document: Any) -> None:
    ids = [entry["id"] for entry in APP.test_client().get("/cds-services").get_json()["services"]]
    routes = {
        rule.rule.replace("<service_id>", one) for rule in APP.url_map.iter_rules() for one in ids
        if "//" not in rule.rule and rule.rule != "/cds-services/"
    }  # fmt: skip
    assert set(document["paths"]) == routes


def validator(document: Any, schema: Any) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


def test_the_schemas_are_schemas(document: Any) -> None:
    for one in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(one)


@pytest.mark.parametrize("hook", ["patient-view", "order-select", "order-sign"])
def test_a_call_and_its_answer_are_as_described(document: Any, tmp_path: Path, hook: str) -> None:
    from test_service import PLAIN

    path = f"/cds-services/{PLAN}-{hook}"
    operation = document["paths"][path]["post"]
    body = request(hook, "seed", PLAIN, chart=[patient("seed"), spasm("seed")])
    asked = validator(document, operation["requestBody"]["content"]["application/json"]["schema"])
    asked.validate(body)
    answer = client(tmp_path).post(path, json=body)
    answered = validator(document, operation["responses"]["200"]["content"]["application/json"]["schema"])
    answered.validate(answer.get_json())
    assert answer.get_json()["cards"]
    assert not answered.is_valid({"cards": [{"summary": "no indicator", "source": {"label": "x"}}]})
    assert not answered.is_valid({"cards": [{**answer.get_json()["cards"][0], "detail": None}]})


#: What is wrong with a call according to the document, and is refused by the server too.
WRONG: dict[str, Any] = {
    "hook": [None, "", "order-dispatch", 7],
    "hookInstance": [None, "", "x", 7, {}],
    "context": [None, [], {}, {"userId": "Practitioner/1"}, {"userId": "x", "patientId": "1"}],
    "prefetch": [[], "x", 7],
    "fhirServer": ["", "x", "ftp://ehr.example.org", 7, "https://" + "a" * 2000],
    "fhirAuthorization": [[], "x", {}, {"access_token": ""}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_document_and_server_refuse_the_same(document: Any, name: str, value: Any) -> None:
    path = f"/cds-services/{PLAN}-patient-view"
    described = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = request("patient-view", "seed", chart=[patient("seed")]) | {"fhirServer": "https://ehr.example.org/fhir"}
    assert validator(document, described).is_valid(body)
    body[name] = value
    assert not validator(document, described).is_valid(body)
    assert APP.test_client().post(path, data=json.dumps(body), content_type="application/json").status_code == 400
