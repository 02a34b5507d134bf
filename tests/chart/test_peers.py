"""Each FHIR server has threads and a breaker of its own; what one does is nothing to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import responses

from cds_hooks.chart.client import FhirClient
from cds_hooks.chart.origin import AllowList
from cds_hooks.chart.peers import MOST, Peers

LISTED = "https://ehr.example.org/fhir"
OTHER = "https://other.example.org/fhir"


@pytest.fixture
def client() -> Iterator[FhirClient]:
    allow = AllowList([LISTED, OTHER])
    peers = Peers(connections=2, failures=4, rest_s=0.2, name=allow.name)
    made = FhirClient(allow, attempts=1, peers=peers)
    yield made
    made.close()


def ask(client: FhirClient, base: str = LISTED, seconds: float = 5) -> str | None:
    deadline = time.monotonic() + seconds
    return client.search(base, "Condition?patient=1", None, deadline, resource_type="Condition").problem


def answer(base: str = LISTED, **how: object) -> None:
    responses.upsert(responses.GET, f"{base}/Condition", **how)  # type: ignore[arg-type]


@responses.activate
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_in_trouble_is_left_alone_and_tried_again(client: FhirClient, status: int) -> None:
    answer(status=status)
    assert [ask(client) for _ in range(6)] == [f"status {status}"] * 4 + ["breaker open"] * 2
    assert len(responses.calls) == 4
    answer(OTHER, json={"resourceType": "Bundle"})
    assert ask(client, OTHER) is None
    time.sleep(0.25)
    answer(json={"resourceType": "Bundle"})
    assert [ask(client) for _ in range(3)] == [None] * 3


@responses.activate
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 500, 501])
def test_a_server_that_answers_is_well(client: FhirClient, status: int) -> None:
    answer(status=status)
    assert {ask(client) for _ in range(8)} == {f"status {status}"}


@responses.activate
def test_a_timeout_counts_only_if_there_was_time(client: FhirClient) -> None:
    answer(body=TimeoutError())
    assert {ask(client, seconds=0.3) for _ in range(8)} == {"timeout"}
    assert [ask(client) for _ in range(5)] == ["timeout"] * 4 + ["breaker open"]


@responses.activate
def test_one_answer_is_enough(client: FhirClient) -> None:
    for _ in range(3):
        answer(status=503)
        assert [ask(client) for _ in range(3)] == ["status 503"] * 3
        answer(json={"resourceType": "Bundle"})
        assert ask(client) is None


def test_threads_are_per_server_and_bounded(client: FhirClient) -> None:
    hold, running = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        running.release()
        hold.wait(5)

    hanging = [client.pool(LISTED).submit(hang) for _ in range(5)]
    assert [running.acquire(timeout=2) for _ in range(2)] == [True, True]
    assert not running.acquire(timeout=0.05)  # two connections, no third
    assert client.pool(OTHER).submit(lambda: "free").result(2) == "free"
    assert client.pool("HTTPS://EHR.example.org:443/fhir/") is client.pool(LISTED)
    hold.set()
    assert [one.result(2) for one in hanging] == [None] * 5


def test_not_more_servers_are_remembered_than_anybody_has() -> None:
    peers = Peers()
    held = peers.of("http://127.0.0.1:1/fhir").pool
    for port in range(2, MOST + 3):
        peers.of(f"http://127.0.0.1:{port}/fhir")
    assert sum(peers.states().values()) == MOST
    assert held.submit(lambda: 1).result(2) == 1  # whoever still holds one can use it
    peers.close()


def test_names_come_from_the_settings() -> None:
    allow = AllowList([LISTED])
    assert allow.name(f"{LISTED}/tenant-1") == LISTED
    assert allow.name("http://127.0.0.1:1234/secret") == allow.name("nonsense") == "other"
