"""How many requests with a body are worked on at once, and what the others are told."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from made_up import Answer, FakeService, call_body
from problem_shape import assert_problem

from cds_hooks.errors import Rejected

PATH = "/cds-services/made-up-patient-view"


class Slow(FakeService):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.inside = threading.Semaphore(0)

    def call(self, *args: Any) -> Answer:
        self.inside.release()
        self.go.wait(10)
        return super().call(*args)


@pytest.fixture
def service() -> Slow:
    return Slow()


def test_more_than_there_are_places_for(make_app: Callable[..., Flask], service: Slow) -> None:
    app = make_app(server={"threads": 3})
    client = app.test_client()
    answers: list[int] = []
    callers = [
        threading.Thread(target=lambda: answers.append(app.test_client().post(PATH, json=call_body()).status_code))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    assert all(service.inside.acquire(timeout=5) for _ in callers)
    refused = client.post(PATH, json=call_body())
    assert assert_problem(refused, 503)["code"] == "throttled"
    assert refused.headers["Retry-After"] == "2"
    assert_problem(client.post(f"{PATH}/feedback", json={"feedback": []}), 503)
    for path in ("/health/ready", "/health/live", "/metrics", "/cds-services"):
        assert client.get(path).status_code == 200
    service.go.set()
    for caller in callers:
        caller.join()
    assert answers == [200] * 3
    assert client.post(PATH, json=call_body()).status_code == 200
    assert b'cds_hooks_refused_total{reason="full"} 2.0' in client.get("/metrics").data


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), Rejected("no")])
def test_a_place_is_given_back_whatever_happens(
    make_app: Callable[..., Flask], service: Slow, error: Exception
) -> None:
    service.go.set()
    service.answer = error
    client = make_app(server={"threads": 1}).test_client()
    for _ in range(3):
        assert client.post(PATH, json=call_body()).status_code in (400, 500)
        assert client.post("/cds-services/no-such", json=call_body()).status_code == 404
        assert client.post(PATH, data=b"{").status_code == 400
