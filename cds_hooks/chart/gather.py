"""Collecting the data of one call: what the client sent, then what is missing, fetched side by side in one deadline.

Each query ends as a `Source` that remembers how its data came. Four forms of a prefetch value are told apart
(CDS Hooks 2.0, "prefetch"): supplied, null (the client looked and there is nothing), an OperationOutcome (the client
could not read it: not asked again), absent (fetch it, or do without).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cds_hooks.chart.bundle import Page, page_of
from cds_hooks.chart.search import Query


class Answer(Protocol):
    """What a FHIR client gives back; never raised, always returned."""

    @property
    def resources(self) -> Sequence[dict[str, Any]]: ...
    @property
    def complete(self) -> bool: ...
    @property
    def problem(self) -> str | None: ...


class Reader(Protocol):
    """A FHIR server as seen by one call. `deadline` is in seconds of time.monotonic()."""

    def refusal(self, base: str) -> str | None: ...
    def only(self, bases: tuple[str, ...]) -> Reader: ...
    def carrying(self, headers: Mapping[str, str]) -> Reader: ...
    def breakers(self) -> Mapping[tuple[str, str], int]: ...
    def search(
        self, base: str, query: str, token: str | None, deadline: float, *, resource_type: str
    ) -> Answer: ...
    def read(self, base: str, reference: str, token: str | None, deadline: float) -> Answer: ...
    def follow(
        self, base: str, next_url: str, token: str | None, deadline: float, *, resource_type: str, pages_left: int
    ) -> Answer: ...


@dataclass(slots=True)  # not frozen: that is slow; nobody changes one, and some are shared by all calls
class Source:
    """The data of one query and how they came: supplied, null, fetched, not-in-context, failed or missing."""

    how: str
    resources: Sequence[dict[str, Any]] = ()
    complete: bool = True
    problem: str | None = None
    #: When the request for it began, as a reading of time.perf_counter(), and the seconds it took; None without one.
    fetch: tuple[float, float] | None = None

    @property
    def known(self) -> bool:
        """Whether anything was learnt at all."""
        return self.how not in ("failed", "missing")


_ABSENT: Final = object()
#: What is asked for and not there, made once: the commonest values of a prefetch.
_NULL: Final = (Source("null"), None)
_EMPTY: Final = (Source("supplied"), None)


FIRST_PAGE: Final = "first page only"


@dataclass(frozen=True, slots=True)
class Fetch:
    """One query to a FHIR server: its key, when it began (time.perf_counter()), seconds, what went wrong if it did."""

    key: str
    began: float
    seconds: float
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """Where the call may fetch: the client's FHIR server, its token, and until when."""

    reader: Reader
    base: str
    token: str | None
    deadline: float
    pages: int = 5

    def search(self, query: Query, path: str) -> Source:
        began = time.perf_counter()
        answer = (
            self.reader.read(self.base, path, self.token, self.deadline)
            if query.reads
            else self.reader.search(self.base, path, self.token, self.deadline, resource_type=query.type)
        )
        if query.reads and not answer.problem and not answer.resources:
            return Source("failed", (), False, "not found", (began, time.perf_counter() - began))
        return _fetched(answer, (), began)

    def rest(self, query: Query, first: Source, next_url: str) -> Source:
        began = time.perf_counter()
        answer = self.reader.follow(
            self.base, next_url, self.token, self.deadline, resource_type=query.type, pages_left=self.pages
        )
        found = _fetched(answer, first.resources, began)
        holes = None if first.problem == FIRST_PAGE else first.problem
        problem = answer.problem or holes
        return Source(first.how, (*first.resources, *answer.resources), problem is None, problem, found.fetch)

    def anew(self, query: Query, first: Source, path: str) -> Source:
        """The whole search instead of a page that does not say where it goes on; the page if that fails."""
        found = self.search(query, path)
        better = found.complete or len(found.resources) > len(first.resources)
        return found if better else replace(first, fetch=found.fetch)

    def referenced(self, reference: str, pool: Executor) -> Sequence[dict[str, Any]] | None:
        """Read what a reference names, None if that cannot be had in time: whatever `pool` does, this ends then."""
        future = pool.submit(self.reader.read, self.base, reference, self.token, self.deadline)
        try:
            answer = future.result(max(0.0, self.deadline - time.monotonic()))
        except TimeoutError:
            future.cancel()
            return None
        return None if answer.problem else answer.resources


def _fetched(answer: Answer, before: Sequence[dict[str, Any]], began: float) -> Source:
    took = (began, time.perf_counter() - began)
    if answer.problem and not answer.resources and not before:
        return Source("failed", (), False, answer.problem, took)
    return Source("fetched", answer.resources, answer.complete, answer.problem, took)


def gather(
    queries: Sequence[Query],
    prefetch: Mapping[str, Any],
    context: Mapping[str, str],
    server: Server | None,
    pool: Executor,
    clock: Callable[[], float] = time.monotonic,
    unread: frozenset[str] = frozenset(),
) -> dict[str, Source]:
    """The sources of all queries, by key; what cannot be had in time is `failed`, what cannot be asked `missing`.

    `unread` are fields of the context that hold no usable id: there is something, but it cannot be asked for.
    """
    sources: dict[str, Source] = {}
    began = time.perf_counter()
    pending: dict[str, Future[Source]] = {}
    for query in queries:
        value = prefetch.get(query.key, _ABSENT)
        given = _given(query, value, context) if value is not _ABSENT else None
        if given is not None:
            source, page = given
            sources[query.key] = source
            if server and page is not None and page.cut:
                if page.next:
                    pending[query.key] = pool.submit(server.rest, query, source, page.next)
                elif (path := query.filled(context)) is not None:  # there is more, and nobody says where
                    pending[query.key] = pool.submit(server.anew, query, source, path)
        elif query.reads in unread:
            sources[query.key] = Source("missing", (), False, "the context names it in an unusable form")
        elif (path := query.filled(context)) is None:
            sources[query.key] = Source("not-in-context")
        elif server is None:
            sources[query.key] = Source("missing", (), False, "neither in the prefetch nor readable")
        else:
            sources[query.key] = Source("failed", (), False, "timeout")
            pending[query.key] = pool.submit(server.search, query, path)
    if pending and server:
        done, _ = wait(pending.values(), timeout=max(0.0, server.deadline - clock()))
        for key, future in pending.items():
            if future in done:
                sources[key] = future.result()
            else:
                future.cancel()
                sources[key] = replace(sources[key], fetch=(began, time.perf_counter() - began))
    return sources


def fetches(sources: Mapping[str, Source]) -> tuple[Fetch, ...]:
    """What was asked of the FHIR server for these sources."""
    return tuple(Fetch(key, *source.fetch, source.problem) for key, source in sources.items() if source.fetch)


def _given(query: Query, value: Any, context: Mapping[str, str]) -> tuple[Source, Page | None] | None:
    """(source, page of a search) of a supplied prefetch value; None when it is no value at all (then as if absent)."""
    if value is None:
        return _NULL
    if not isinstance(value, dict):
        return None
    kind = value.get("resourceType")
    if kind == "OperationOutcome":
        return Source("failed", (), False, "the client could not read it"), None
    if kind == query.type:
        if query.reads and value.get("id", context.get(query.reads)) != context.get(query.reads):
            return None  # another one than the context names
        return Source("supplied", (value,)), None
    if kind != "Bundle":
        return None
    if value.get("entry") in (None, []) and not value.get("total") and "link" not in value:
        return _EMPTY
    page = page_of(value, query.type)
    problem = page.problem or (FIRST_PAGE if page.cut else None)
    return Source("supplied", page.resources, problem is None, problem), page
