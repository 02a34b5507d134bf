"""Counters for Prometheus. No label ever carries a string that a caller chose.

With several worker processes each sees its own numbers only, unless the launcher sets PROMETHEUS_MULTIPROC_DIR to an
empty folder *before* prometheus_client is imported; then a scrape of any worker gives the sum over all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MEDIA_TYPE = CONTENT_TYPE_LATEST
#: The label for whatever has no name of ours.
UNKNOWN = "unknown"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one app. Children are cached: looking one up by its labels costs more than counting."""

    def __init__(self) -> None:
        self._own = registry = CollectorRegistry()
        calls = Counter("cds_hooks_calls", "Calls by service and HTTP status", ("service", "status"), registry=registry)
        cards = Counter("cds_hooks_cards", "Cards sent, by service and topic", ("service", "topic"), registry=registry)
        time = Histogram(
            "cds_hooks_call_seconds", "Time to answer a call", ("service",), registry=registry, buckets=_SECONDS
        )
        odd = Counter("cds_hooks_problems", "Oddities tolerated in requests, by field", ("kind",), registry=registry)
        told = Counter(
            "cds_hooks_feedback", "Feedback items, by service and outcome", ("service", "outcome"), registry=registry
        )
        lost = Counter(
            "cds_hooks_swallowed", "Problems met inside and not passed on, by kind", ("service", "kind"),
            registry=registry,
        )  # fmt: skip
        turned = Counter(
            "cds_hooks_auth_failures", "Requests turned away at the gate, by class of reason", ("reason",),
            registry=registry,
        )  # fmt: skip
        unsure = Counter(
            "cds_hooks_auth_degraded", "Requests let in less surely than usual, by how", ("kind",), registry=registry
        )
        self._unlogged = Counter("cds_hooks_log_failures", "Log lines that could not be written", registry=registry)
        self._turned = cache(turned.labels)
        self._unsure = cache(unsure.labels)
        self._lost = cache(lambda service, kind: lost.labels(service, kind))
        self._calls = cache(lambda service, status: calls.labels(service, status))
        self._cards = cache(lambda service, topic: cards.labels(service, topic))
        self._time = cache(time.labels)
        self._odd = cache(odd.labels)
        self._told = cache(lambda service, outcome: told.labels(service, outcome))

    def called(self, service: str, status: int, seconds: float) -> None:
        """Count a call."""
        self._calls(service, status).inc()
        self._time(service).observe(seconds)

    def answered(self, service: str, topics: Iterable[str]) -> None:
        """Count the cards of an answer."""
        for topic in topics:
            self._cards(service, topic).inc()

    def swallowed(self, service: str, troubles: Mapping[str, int]) -> None:
        """Count what was swallowed while answering: a card that could not be built, an entry of an unknown type."""
        for kind, count in troubles.items():
            self._lost(service, kind).inc(count)

    def turned_away(self, reason: str) -> None:
        """Count a request that was refused at the gate."""
        self._turned(reason).inc()

    def let_in(self, notes: Iterable[str]) -> None:
        """Count the ways in which a request was let in less surely than usual; none is nothing to count."""
        for note in notes:
            self._unsure(note).inc()

    def unlogged(self) -> None:
        """Count a log line that could not be written."""
        self._unlogged.inc()

    def tolerated(self, problems: Iterable[str]) -> None:
        """Count the problems of a request by the field that each begins with; our own words, hence few."""
        for problem in problems:
            field = problem.partition(" ")[0].partition(".")[0].partition("[")[0]
            self._odd(field).inc()

    def reported(self, service: str, outcomes: Iterable[str]) -> None:
        """Count feedback items."""
        for outcome in outcomes:
            self._told(service, outcome).inc()

    def scrape(self) -> bytes:
        """Return all numbers in the text format, over all workers if they share a folder."""
        registry = self._own
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
