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

from cds_hooks.chart.reading import as_list
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
        return _fetched(answer, (), began)

    def rest(self, query: Query, first: Source, next_url: str) -> Source:
        began = time.perf_counter()
        answer = self.reader.follow(
            self.base, next_url, self.token, self.deadline, resource_type=query.type, pages_left=self.pages
        )
        found = _fetched(answer, first.resources, began)
        return Source(first.how, (*first.resources, *answer.resources), found.complete, answer.problem, found.fetch)

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
) -> dict[str, Source]:
    """The sources of all queries, by key; what cannot be had in time is `failed`, what cannot be asked `missing`."""
    sources: dict[str, Source] = {}
    began = time.perf_counter()
    pending: dict[str, Future[Source]] = {}
    for query in queries:
        value = prefetch.get(query.key, _ABSENT)
        given = _given(query, value) if value is not _ABSENT else None
        if given is not None:
            source, next_url = given
            sources[query.key] = source
            if next_url and server:
                pending[query.key] = pool.submit(server.rest, query, source, next_url)
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


def _given(query: Query, value: Any) -> tuple[Source, str | None] | None:
    """(source, next page) of a supplied prefetch value; None when it is no value at all (then as if absent)."""
    if value is None:
        return _NULL
    if not isinstance(value, dict):
        return None
    kind = value.get("resourceType")
    if kind == "OperationOutcome":
        return Source("failed", (), False, "the client could not read it"), None
    if kind == query.type:
        return Source("supplied", (value,)), None
    if kind != "Bundle":
        return None
    entries = as_list(value.get("entry"))
    if not entries and not value.get("total") and "link" not in value:
        return _EMPTY
    resources, extras = _sorted_out(entries, query.type)
    next_url = _next(value) if "link" in value else None
    total = value.get("total")
    cut = next_url is not None or (isinstance(total, int) and total > len(entries) - extras)
    return Source("supplied", resources, not cut, "first page only" if cut else None), next_url


def _sorted_out(entries: list[Any], kind: str) -> tuple[list[dict[str, Any]], int]:
    """The resources of a type, and how many entries came along without being matches: `total` does not count these."""
    found, extras = [], 0
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        resource = entry.get("resource")
        if isinstance(resource, dict) and resource.get("resourceType") == kind:
            found.append(resource)
        search = entry.get("search")
        if isinstance(search, dict) and search.get("mode") in ("include", "outcome"):
            extras += 1
    return found, extras


def _next(bundle: Mapping[str, Any]) -> str | None:
    """The URL of the next page; empty if there is a next link that names none."""
    for link in as_list(bundle.get("link")):
        if isinstance(link, dict) and link.get("relation") == "next":
            url = link.get("url")
            return url if isinstance(url, str) else ""
    return None
