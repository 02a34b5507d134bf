"""Feedback over HTTP."""

import pytest
from flask.testing import FlaskClient
from made_up import FakeService
from problem_shape import assert_problem

from cds_hooks.errors import Rejected

PATH = "/cds-services/made-up-patient-view/feedback"
ITEM = {
    "card": "4e0a3a1e-3283-4575-ab82-028d55fe2719",
    "outcome": "overridden",
    "outcomeTimestamp": "2026-01-02T03:04:05.123Z",
    "overrideReason": {"reason": {"code": "c"}},
}


def test_feedback_is_taken(client: FlaskClient, service: FakeService) -> None:
    response = client.post(PATH, json={"feedback": [ITEM, ITEM]})
    assert (response.status_code, response.data) == (200, b"{}")
    assert response.headers["Cache-Control"] == "no-store"
    assert [item.card for item in service.items] == [ITEM["card"]] * 2


def test_nothing_to_report(client: FlaskClient, service: FakeService) -> None:
    assert client.post(PATH, json={"feedback": []}).status_code == 200
    assert service.items == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"feedback": [{}]}', b'{"feedback": null}'])
def test_malformed_feedback(client: FlaskClient, service: FakeService, data: bytes) -> None:
    issue = assert_problem(client.post(PATH, data=data, content_type="application/json"), 400)
    assert "feedback" in str(issue) or data in (b"", b"{")
    assert service.items == []


def test_one_bad_item_refuses_all(client: FlaskClient, service: FakeService) -> None:
    issue = assert_problem(client.post(PATH, json={"feedback": [ITEM, {**ITEM, "outcome": "maybe"}]}), 400)
    assert issue["expression"] == ["feedback[1].outcome"]
    assert service.items == []


def test_too_much_feedback(client: FlaskClient) -> None:
    assert_problem(client.post(PATH, json={"feedback": [ITEM] * 10_000}), 413)


def test_other_media_types(client: FlaskClient) -> None:
    assert_problem(client.post(PATH, data=b'{"feedback": []}', content_type="text/plain"), 415)


def test_a_store_that_is_away(client: FlaskClient, service: FakeService) -> None:
    service.answer = Rejected("Feedback cannot be stored now; send it again.", status=503, code="transient")
    assert_problem(client.post(PATH, json={"feedback": [ITEM]}), 503)
