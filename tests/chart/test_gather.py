"""Collecting data: the four forms of a prefetch value, next pages, one deadline, and what cannot be had."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from cds_hooks.chart.gather import Server, Source, gather
from cds_hooks.chart.search import Query

CONDITIONS = Query("conditions", "Condition", 10)
PATIENT = Query("patient", "Patient")
ENCOUNTER = Query("encounter", "Encounter")
CONTEXT = {"patientId": "p1"}
NEXT = "https://ehr.example.org/fhir?page=2"


@dataclass(frozen=True)
class Reply:
    resources: tuple[dict[str, Any], ...] = ()
    complete: bool = True
    problem: str | None = None


@dataclass
class FakeReader:
    """A FHIR server that answers what a test puts in, and remembers what it was asked."""

    reply: Callable[[], Reply] = Reply
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def refusal(self, base: str) -> str | None:
        return None

    def only(self, bases: tuple[str, ...]) -> Self:
        return self

    def carrying(self, headers: Mapping[str, str]) -> Self:
        return self

    def breakers(self) -> Mapping[tuple[str, str], int]:
        return {}

    def search(self, base: str, query: str, token: str | None, deadline: float, *, resource_type: str) -> Reply:
        self.asked.append(("search", base, query, str(token), resource_type))
        return self.reply()

    def read(self, base: str, reference: str, token: str | None, deadline: float) -> Reply:
        self.asked.append(("read", base, reference, str(token)))
        return self.reply()

    def follow(
        self, base: str, next_url: str, token: str | None, deadline: float, *, resource_type: str, pages_left: int
    ) -> Reply:
        self.asked.append(("follow", next_url, resource_type, str(pages_left)))
        return self.reply()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def condition(identity: str) -> dict[str, Any]:
    return {"resourceType": "Condition", "id": identity}


def bundle(*resources: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": one} for one in resources], **more}


def outcome(severity: str) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "exception"}]}


def server(reader: FakeReader, seconds: float = 5) -> Server:
    return Server(reader, "https://ehr.example.org/fhir", "secret", time.monotonic() + seconds, pages=3)


def taken(pool: ThreadPoolExecutor, value: Any, at: Server | None = None) -> Source:
    return gather([CONDITIONS], {"conditions": value}, CONTEXT, at, pool)["conditions"]


# --- What the client sent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "how", "count", "complete"),
    [
        (bundle(condition("a"), condition("b")), "supplied", 2, True),
        (condition("a"), "supplied", 1, True),
        (bundle(), "supplied", 0, True),
        ({"resourceType": "Bundle"}, "supplied", 0, True),
        ({"resourceType": "Bundle", "total": 0}, "supplied", 0, True),
        (None, "null", 0, True),
        ({"resourceType": "OperationOutcome", "issue": []}, "failed", 0, False),
        # less than there is
        (bundle(condition("a"), total=2), "supplied", 1, False),
        (bundle(total=2), "supplied", 0, False),
        ({"resourceType": "Bundle", "total": 3}, "supplied", 0, False),
        (bundle(condition("a"), link=[{"relation": "next", "url": NEXT}]), "supplied", 1, False),
        # all there is, oddly said
        (bundle(condition("a"), total=1, link=[{"relation": "self", "url": "x"}]), "supplied", 1, True),
        (bundle(condition("a"), total="many"), "supplied", 1, True),
        (bundle(condition("a"), link="x"), "supplied", 1, True),
        ({"resourceType": "Bundle", "entry": {"resource": condition("a")}}, "supplied", 1, True),
        (bundle(condition("a"), {"resourceType": "Patient", "id": "p1"}), "supplied", 1, True),
        (bundle(condition("a"), outcome("information")), "supplied", 1, True),
        (bundle(outcome("warning")), "supplied", 0, True),
        (bundle({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "informational"}]}),
         "supplied", 0, True),
        # no usable answer: not "there is none"
        (bundle(condition("a"), None), "supplied", 1, False),
        (bundle(condition("a"), "x"), "supplied", 1, False),
        (bundle(condition("a"), {}), "supplied", 1, False),
        ({"resourceType": "Bundle", "entry": [None, 5, "x", {}]}, "supplied", 0, False),
        ({"resourceType": "Bundle", "entry": "x"}, "supplied", 0, False),
        ({"resourceType": "Bundle", "entry": False}, "supplied", 0, False),
        (bundle({"resourceType": "Patient", "id": "p1"}), "supplied", 0, False),
        (bundle(bundle(condition("a"))), "supplied", 0, False),
        (bundle(outcome("error")), "supplied", 0, False),
        (bundle({"resourceType": "OperationOutcome"}), "supplied", 0, False),
        (bundle(condition("a"), outcome("fatal")), "supplied", 1, False),
        ({"resourceType": "Bundle", "entry": [{"resource": outcome("error"), "search": {"mode": "outcome"}}]},
         "supplied", 0, False),
        ({"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": {"status": "500"}}]},
         "supplied", 0, False),
        # no value at all: as if absent
        ("x", "missing", 0, False),
        ([], "missing", 0, False),
        (7, "missing", 0, False),
        ({}, "missing", 0, False),
        ({"resourceType": "Patient", "id": "p1"}, "missing", 0, False),
    ],
)
def test_forms_of_a_prefetch_value(pool: ThreadPoolExecutor, value: Any, how: str, count: int, complete: bool) -> None:
    source = taken(pool, value)
    assert (source.how, len(source.resources), source.complete) == (how, count, complete)
    assert source.known is (how not in ("failed", "missing"))
    assert (source.problem is None) is complete


# FHIR R4, Bundle.total: entries that were included or are outcomes do not count, so they must not hide a gap.
@pytest.mark.parametrize(
    "extra",
    [
        {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}},
        {"resource": {"resourceType": "Patient", "id": "p1"}, "search": {"mode": "include"}},
    ],
    ids=["outcome", "include"],
)
def test_total_counts_matches_only(pool: ThreadPoolExecutor, extra: dict[str, Any]) -> None:
    value = bundle(condition("a"), total=2)
    value["entry"].append(extra)
    assert taken(pool, value).complete is False


def test_what_the_client_could_not_read_is_not_asked_again(pool: ThreadPoolExecutor) -> None:
    reader = FakeReader()
    assert taken(pool, {"resourceType": "OperationOutcome"}, server(reader)).how == "failed"
    assert taken(pool, None, server(reader)).how == "null"
    assert reader.asked == []


@pytest.mark.parametrize("value", [bundle(condition("a"), total=2), bundle(link=[{"relation": "next"}])])
@pytest.mark.parametrize(
    ("reply", "found", "complete"),
    [
        (Reply((condition("a"), condition("b"))), 2, True),
        (Reply((), False, "status 500"), None, False),
        (Reply((condition("a"), condition("b")), False, "page limit"), 2, False),
    ],
)
def test_a_page_that_does_not_say_where_it_goes_on_is_asked_for_anew(
    pool: ThreadPoolExecutor, value: Any, reply: Reply, found: int | None, complete: bool
) -> None:
    source = taken(pool, value, server(reader := FakeReader(lambda: reply)))
    assert len(reader.asked) == 1
    assert (len(source.resources), source.complete) == (len(value["entry"]) if found is None else found, complete)


def test_a_damaged_first_page_stays_damaged(pool: ThreadPoolExecutor) -> None:
    value = bundle(condition("a"), None, link=[{"relation": "next", "url": NEXT}])
    source = taken(pool, value, server(FakeReader(lambda: Reply((condition("b"),)))))
    assert (len(source.resources), source.complete, source.problem) == (2, False, "damaged entry")


@pytest.mark.parametrize(("identity", "how"), [("e1", "supplied"), (None, "supplied"), ("e9", "missing")])
def test_a_read_counts_only_for_what_the_context_names(
    pool: ThreadPoolExecutor, identity: str | None, how: str
) -> None:
    value = {"resourceType": "Encounter"} | ({"id": identity} if identity else {})
    source = gather([ENCOUNTER], {"encounter": value}, CONTEXT | {"encounterId": "e1"}, None, pool)["encounter"]
    assert (source.how, source.complete) == (how, how == "supplied")


def test_what_the_context_names_unreadably_is_unknown_not_absent(pool: ThreadPoolExecutor) -> None:
    reader = FakeReader()
    unread = frozenset({"encounterId"})
    source = gather([ENCOUNTER], {}, CONTEXT, server(reader), pool, unread=unread)["encounter"]
    assert (source.how, source.complete, reader.asked) == ("missing", False, [])


def test_what_the_context_names_and_the_server_lacks_is_unknown(pool: ThreadPoolExecutor) -> None:
    context = CONTEXT | {"encounterId": "e1"}
    source = gather([ENCOUNTER], {}, context, server(FakeReader(lambda: Reply())), pool)["encounter"]
    assert (source.how, source.complete, source.problem) == ("failed", False, "not found")


# --- What is fetched ------------------------------------------------------------------------------------------------


def test_absent_keys_are_fetched(pool: ThreadPoolExecutor) -> None:
    reader = FakeReader(lambda: Reply((condition("a"),)))
    found = gather([PATIENT, CONDITIONS], {}, CONTEXT, server(reader), pool)
    base = "https://ehr.example.org/fhir"
    assert sorted(reader.asked) == [
        ("read", base, "Patient/p1", "secret"),
        ("search", base, "Condition?patient=p1&_sort=-recorded-date&_count=10", "secret", "Condition"),
    ]
    assert {key: source.how for key, source in found.items()} == {"patient": "fetched", "conditions": "fetched"}
    assert found["conditions"].resources == (condition("a"),)


@pytest.mark.parametrize(
    ("reply", "how", "complete"),
    [
        (Reply(), "fetched", True),
        (Reply((), False, "status 403"), "failed", False),
        (Reply((condition("a"),), False, "page limit"), "fetched", False),
    ],
)
def test_how_a_fetch_went(pool: ThreadPoolExecutor, reply: Reply, how: str, complete: bool) -> None:
    source = gather([CONDITIONS], {}, CONTEXT, server(FakeReader(lambda: reply)), pool)["conditions"]
    assert (source.how, source.complete, source.problem) == (how, complete, reply.problem)


def test_absent_without_a_server_is_missing_not_empty(pool: ThreadPoolExecutor) -> None:
    source = gather([CONDITIONS], {}, CONTEXT, None, pool)["conditions"]
    assert (source.how, source.complete, source.known) == ("missing", False, False)


def test_what_the_context_does_not_name_is_not_there(pool: ThreadPoolExecutor) -> None:
    reader = FakeReader()
    source = gather([ENCOUNTER], {}, CONTEXT, server(reader), pool)["encounter"]
    assert (source.how, source.complete, reader.asked) == ("not-in-context", True, [])


@pytest.mark.parametrize(
    ("reply", "ids", "complete"),
    [
        (Reply((condition("b"),)), ["a", "b"], True),
        (Reply((condition("b"),), False, "page limit"), ["a", "b"], False),
        (Reply((), False, "timeout"), ["a"], False),
        (Reply(), ["a"], True),
    ],
)
def test_a_next_page_is_followed(pool: ThreadPoolExecutor, reply: Reply, ids: list[str], complete: bool) -> None:
    reader = FakeReader(lambda: reply)
    first = bundle(condition("a"), link=[{"relation": "next", "url": NEXT}])
    source = taken(pool, first, server(reader))
    assert reader.asked == [("follow", NEXT, "Condition", "3")]
    assert [one["id"] for one in source.resources] == ids
    assert (source.how, source.complete) == ("supplied", complete)


def test_an_empty_first_page_with_a_failing_next_one_is_not_whole(pool: ThreadPoolExecutor) -> None:
    first = bundle(link=[{"relation": "next", "url": NEXT}])
    source = taken(pool, first, server(FakeReader(lambda: Reply((), False, "timeout"))))
    assert (source.resources, source.complete) == ((), False)


def test_one_deadline_for_all(pool: ThreadPoolExecutor) -> None:
    """A server that does not answer costs the deadline once, and leaves what was supplied as it is."""
    release = threading.Event()

    def hang() -> Reply:
        release.wait(5)
        return Reply((condition("late"),))

    first = bundle(condition("a"), link=[{"relation": "next", "url": NEXT}])
    queries = [CONDITIONS, PATIENT, Query("devices", "Device"), Query("procedures", "Procedure")]
    started = time.monotonic()
    found = gather(queries, {"conditions": first}, CONTEXT, server(FakeReader(hang), 0.2), pool)
    spent = time.monotonic() - started
    release.set()
    assert 0.15 < spent < 1
    assert ([one["id"] for one in found["conditions"].resources], found["conditions"].complete) == (["a"], False)
    for key in ("patient", "devices", "procedures"):
        assert (found[key].how, found[key].problem) == ("failed", "timeout")


def test_a_deadline_in_the_past_waits_for_nothing(pool: ThreadPoolExecutor) -> None:
    release = threading.Event()

    def hang() -> Reply:
        release.wait(5)
        return Reply()

    started = time.monotonic()
    assert gather([CONDITIONS], {}, CONTEXT, server(FakeReader(hang), -1), pool)["conditions"].how == "failed"
    assert time.monotonic() - started < 0.5
    release.set()
