"""Reads a FHIR server on behalf of one call: searches with their pages, and single resources.

Servers answer too much, too little, late, or something else. Here is only judged whether the answer is whole and of
the right type; subject, status, code and date of each resource are checked again by whoever asked for it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cds_hooks.chart.bundle import page_of
from cds_hooks.chart.origin import AllowList, BaseUrl
from cds_hooks.chart.peers import Peers
from cds_hooks.chart.resolving import Resolver
from cds_hooks.chart.transport import Answer, Transport

_REFERENCE = re.compile(r"([A-Za-z]+)/(?!\.+$)([^/?#]+)", re.ASCII)
_CONFINING = frozenset({"patient", "subject", "_id"})  # search parameters that keep a search to one chart
#: Seconds within which a server in good health answers; no answer in less time says nothing about it.
_FAIR_S = 0.5
# Not 500: a server may have a fault on one search and answer all others.
_ILL = frozenset({
    "timeout", "unreachable", "TLS error", "broken off", "status 429", "status 502", "status 503", "status 504",
})  # fmt: skip
_NO_SUCH_RESOURCE = frozenset({"status 404", "status 410"})


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a FHIR server had to give: resources as plain dicts, in the order of the server.

    `problem` is None if all went well, else one of a small set of words that hold no URL, id or token:

    - the request was not sent: "not allowed", "bad query", "bad token", "breaker open"
    - no usable answer: "timeout", "unreachable", "private address", "TLS error", "broken off", "redirect",
      "status <number>", "too large", "not JSON", "unexpected type"
    - some pages only: "foreign next link", "page loop", "page limit", "truncated", or one of the above
    - an answer with holes: "error in the answer", "damaged entry"
    """

    resources: tuple[dict[str, Any], ...]
    #: Whether this is everything that the server has; only then is "none" an answer.
    complete: bool
    problem: str | None


class FhirClient:
    """Reads FHIR servers with GET. Returns every failure instead of raising it. Safe to use from many threads.

    A deadline is a reading of `clock`, in seconds. A token is sent with each request below the base URL, and nothing
    is ever requested that is not below it.
    """

    def __init__(
        self,
        allow: AllowList,
        *,
        max_pages: int = 5,
        max_bytes: int = 20_000_000,
        attempts: int = 3,
        connections: int = 64,
        peers: Peers | None = None,
        clock: Callable[[], float] = time.monotonic,
        resolver: Resolver | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """Set the limits: pages per search, decoded bytes per page, attempts per page, connections per server.

        `resolver` says which addresses the names of servers may lead to, `ca_file` whose certificates are trusted.
        """
        self._allow = allow
        self._max_pages = max_pages
        self._clock = clock
        self._peers = peers or Peers(connections=connections)
        self._pass_on: Mapping[str, str] = {}
        self._transport = Transport(
            max_bytes=max_bytes, attempts=attempts, pool=connections, clock=clock, resolver=resolver,
            ca_file=ca_file,
        )

    def refusal(self, base: str) -> str | None:
        """Why this FHIR base URL may not be called, in plain words that do not repeat it; None if it may."""
        return self._allow.refusal(base)

    def only(self, bases: tuple[str, ...]) -> FhirClient:
        """A client over the same connections that may call these base URLs and no other; none at all means nothing.

        Raises ValueError if one of them is no plain http or https base URL.
        """
        confined = copy(self)
        confined._allow = AllowList(bases, here=False)
        return confined

    def pool(self, base: str) -> Executor:
        """The threads in which requests to a base URL are to be sent, so that no server holds those of another."""
        root = BaseUrl.parse(base)
        return self._peers.of(str(root) if root else "").pool

    def breakers(self) -> Mapping[tuple[str, str], int]:
        """How many breakers stand how: (name of the server, state) -> count."""
        return self._peers.states()

    def carrying(self, headers: Mapping[str, str]) -> FhirClient:
        """A client over the same connections that adds these headers, checked by the caller, to each request."""
        carrying = copy(self)
        carrying._pass_on = headers
        return carrying

    def search(self, base: str, query: str, token: str | None, deadline: float, *, resource_type: str) -> Fetched:
        """Search (`Condition?patient=123&_count=200`, percent-encoded or not) and follow the pages.

        Keeps resources of the type that matched the search, not those included. A server that refuses the query with
        400 is asked once more with fewer parameters: it may give more than was asked for.
        """
        root = self._root(base)
        if root is None:
            return _nothing("not allowed")
        url = root.resolve(query.lstrip("/"))
        if url is None:
            return _nothing("bad query")
        answer = self._get(root, url, token, deadline)
        fewer = _fewer(url)
        if answer.problem == "status 400" and fewer != url:
            url, answer = fewer, self._get(root, fewer, token, deadline)
        trail = _Trail(resource_type, url, self._max_pages - 1, totals=True)
        return self._gather(trail, answer, root, token, deadline)

    def read(self, base: str, reference: str, token: str | None, deadline: float) -> Fetched:
        """Read one resource (`Patient/123`). "No such resource" (404, 410) is an answer, not a problem."""
        root = self._root(base)
        if root is None:
            return _nothing("not allowed")
        named = _REFERENCE.fullmatch(reference)
        url = root.resolve(f"{named[1]}/{quote(named[2], safe='', errors='replace')}") if named else None
        if named is None or url is None:
            return _nothing("bad query")
        answer = self._get(root, url, token, deadline)
        if answer.problem in _NO_SUCH_RESOURCE:
            return Fetched((), True, None)
        if answer.problem is None and not _is(answer.document, named[1]):
            return _nothing("unexpected type")
        return _nothing(answer.problem) if answer.problem else Fetched((answer.document,), True, None)

    def follow(
        self, base: str, next_url: str, token: str | None, deadline: float, *, resource_type: str, pages_left: int
    ) -> Fetched:
        """Go on from the `next` link of a Bundle that came another way, for at most `pages_left` pages.

        The Bundle's `total` is not checked: how many entries came before is not known here.
        """
        root = self._root(base)
        if root is None:
            return _nothing("not allowed")
        url = root.resolve(next_url)
        if url is None:
            return _nothing("foreign next link")
        if pages_left < 1:
            return _nothing("page limit")
        trail = _Trail(resource_type, url, pages_left - 1, totals=False)
        return self._gather(trail, self._get(root, url, token, deadline), root, token, deadline)

    def close(self) -> None:
        """Close the connections."""
        self._peers.close()
        self._transport.close()

    def _root(self, base: str) -> BaseUrl | None:
        return None if self.refusal(base) else BaseUrl.parse(base)

    def _gather(self, trail: _Trail, answer: Answer, root: BaseUrl, token: str | None, deadline: float) -> Fetched:
        """Take the first answer and follow its next links until there is none or something stands against it."""
        while (url := trail.take(answer, root)) is not None:
            answer = self._get(root, url, token, deadline)
        return trail.fetched()

    def _get(self, root: BaseUrl, url: str, token: str | None, deadline: float) -> Answer:
        """GET a URL below the root, unless the server has not answered for a while."""
        breaker = self._peers.of(str(root)).breaker
        if not breaker.lets_through():
            return Answer(problem="breaker open")
        given = deadline - self._clock()
        answer = self._transport.get(url, token, deadline, self._pass_on)
        if answer.problem != "timeout" or given >= _FAIR_S:
            breaker.heard(well=not _is_ill(answer.problem))
        return answer


class _Trail:
    """The pages of one search so far. Belongs to one call, hence to one thread."""

    def __init__(self, resource_type: str, url: str, pages_left: int, *, totals: bool) -> None:
        self._type = resource_type
        self._seen = {url}
        self._left = pages_left
        self._totals = totals
        self._resources: list[dict[str, Any]] = []
        self._matches = 0
        self._holes: str | None = None
        self._total: int | None = None
        self._problem: str | None = None

    def take(self, answer: Answer, root: BaseUrl) -> str | None:
        """Add one page; the URL of the next one, or None at the end."""
        if answer.problem or not _is(answer.document, "Bundle"):
            self._problem = answer.problem or "unexpected type"
            return None
        page = page_of(answer.document, self._type)
        self._resources += page.resources
        self._matches += page.matches
        self._holes = self._holes or page.problem
        # The count may change between pages; the page read last says it best.
        self._total = self._total if page.total is None else page.total
        if page.next is None:
            if self._totals and self._total is not None and self._matches < self._total:
                self._problem = "truncated"
            return None
        return self._step(root.resolve(page.next))

    def _step(self, url: str | None) -> str | None:
        if url is None:
            self._problem = "foreign next link"
        elif url in self._seen:
            self._problem = "page loop"
        elif self._left < 1:
            self._problem = "page limit"
        else:
            self._seen.add(url)
            self._left -= 1
            return url
        return None

    def fetched(self) -> Fetched:
        problem = self._problem or self._holes
        return Fetched(tuple(self._resources), problem is None, problem)


def _is_ill(problem: str | None) -> bool:
    """Whether this is the answer of a server in trouble, rather than one that refuses or knows nothing."""
    return problem in _ILL


def _nothing(problem: str) -> Fetched:
    return Fetched((), False, problem)


def _is(document: Any, resource_type: str) -> bool:
    return isinstance(document, dict) and document.get("resourceType") == resource_type


def _fewer(url: str) -> str:
    """The search with only the parameter that keeps it to one chart, else with only the first one."""
    path, mark, query = url.partition("?")
    parameters = query.split("&")
    confining = [each for each in parameters if each.partition("=")[0].partition(":")[0] in _CONFINING]
    return path + mark + (confining or parameters)[0]
