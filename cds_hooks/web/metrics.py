"""Counters for Prometheus. No label ever carries a string that a caller chose.

With several worker processes each sees its own numbers only, unless the launcher sets PROMETHEUS_MULTIPROC_DIR to an
empty folder *before* prometheus_client is imported; then a scrape of any worker gives the sum over all.

What a call adds is put into a queue and counted later, many at once: before each scrape, and by the pulse of the
process. A counter costs a lock and a write to a shared file, a call has some twenty of them.
"""

from __future__ import annotations

import os
import threading
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from cds_hooks.chart.gather import Fetch
from cds_hooks.web.port import Outcome

MEDIA_TYPE = CONTENT_TYPE_LATEST
#: The label for whatever has no name of ours.
UNKNOWN = "unknown"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_AT_MOST = 2000  # calls in the queue; beyond that whoever adds one counts them


#: What a call adds to the counters: service, status, seconds, and how each key of its prefetch came.
_Inputs = tuple[tuple[str, str], ...]
_Call = tuple[str, int, float, _Inputs]


def word_for(problem: str) -> str:
    """The problem of a fetch as one of few words. A status is a number that the server chose: its hundred is enough."""
    return f"status {problem[7]}xx" if problem.startswith("status ") else problem


class Metrics:
    """The counters of one app. Children are cached: looking one up by its labels costs more than counting."""

    def __init__(self) -> None:
        self._own = registry = CollectorRegistry()
        self._queue: deque[_Call] = deque()
        self._counting = threading.Lock()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"cds_hooks_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, *labels: str) -> Histogram:
            return Histogram(f"cds_hooks_{name}", what, labels, registry=registry, buckets=_SECONDS)

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            # livesum: the sum over the workers that are alive
            return Gauge(f"cds_hooks_{name}", what, labels, registry=registry, multiprocess_mode="livesum")

        calls = counter("calls", "Calls by service and HTTP status", "service", "status")
        cards = counter("cards", "Cards sent, by service and topic", "service", "topic")
        time = histogram("call_seconds", "Time to answer a call", "service")
        odd = counter("problems", "Oddities tolerated in requests, by field", "kind")
        told = counter("feedback", "Feedback items, by service and outcome", "service", "outcome")
        lost = counter("swallowed", "Problems met inside and not passed on, by kind", "service", "kind")
        slept = counter("snoozed", "Cards that a user overrode before, so not sent", "service", "topic")
        undecided = counter("undecided", "Rules that could not be decided, by service and topic", "service", "topic")
        came = counter("prefetch", "How each key of the prefetch came", "service", "key", "how")
        fetch = histogram("fetch_seconds", "Time of a query to a FHIR server, by key", "key")
        failed = counter("fetch_failures", "Queries to FHIR servers without a whole answer", "key", "problem")
        refused = counter("refused", "Requests turned away before they were read", "reason")
        breakers = gauge("breakers", "Circuit breakers of the workers by FHIR server and state", "server", "state")
        turned = counter("auth_failures", "Requests turned away at the gate, by class of reason", "reason")
        degraded = counter("auth_degraded", "Requests let in less surely than usual, by how", "kind")
        self._turned = cache(turned.labels)
        self._unsure = cache(degraded.labels)
        self._unlogged = counter("log_failures", "Log lines that could not be written")
        self._missed = counter("missed_beats", "Times that a worker could not look after itself")
        self._at_work = gauge("at_work", "Requests with a body that are being worked on")
        self._breakers: dict[tuple[str, str], Gauge] = {}
        self._breaker = breakers.labels
        self._lost = cache(lambda service, kind: lost.labels(service, kind))
        self._calls = cache(lambda service, status: calls.labels(service, status))
        self._cards = cache(lambda service, topic: cards.labels(service, topic))
        self._time = cache(time.labels)
        self._odd = cache(odd.labels)
        self._told = cache(lambda service, outcome: told.labels(service, outcome))
        self._slept = cache(lambda service, topic: slept.labels(service, topic))
        self._undecided = cache(lambda service, topic: undecided.labels(service, topic))
        self._came = cache(lambda service, key, how: came.labels(service, key, how))
        self._fetch = cache(fetch.labels)
        self._failed = cache(lambda key, problem: failed.labels(key, problem))
        self._refused = cache(refused.labels)

    def called(self, service: str, status: int, seconds: float, outcome: Outcome | None = None) -> None:
        """Count a call, and what came of it if it was answered."""
        self._queue.append((service, status, seconds, outcome.inputs if outcome else ()))
        if outcome is not None:
            self._told_of(service, outcome)
        if len(self._queue) > _AT_MOST:
            self.count()

    def _told_of(self, service: str, outcome: Outcome) -> None:
        """Count what most calls have none of."""
        for topic in outcome.topics:
            self._cards(service, topic).inc()
        for topic in outcome.snoozed:
            self._slept(service, topic).inc()
        for topic in outcome.undecided:
            self._undecided(service, topic).inc()
        for kind, count in outcome.troubles.items():
            self._lost(service, kind).inc(count)
        for fetch in outcome.fetches:
            self._fetched(fetch)

    def _fetched(self, fetch: Fetch) -> None:
        self._fetch(fetch.key).observe(fetch.seconds)
        if fetch.problem is not None:
            self._failed(fetch.key, word_for(fetch.problem)).inc()

    def count(self) -> None:
        """Count the calls in the queue."""
        with self._counting:
            calls, inputs = Tally[tuple[str, int]](), Tally[tuple[str, _Inputs]]()
            while self._queue:
                service, status, seconds, pairs = self._queue.popleft()
                calls[service, status] += 1
                inputs[service, pairs] += 1
                self._time(service).observe(seconds)
            for (service, status), times in calls.items():
                self._calls(service, str(status)).inc(times)
            for (service, pairs), times in inputs.items():
                for key, how in pairs:
                    self._came(service, key, how).inc(times)

    def standing(self, at_work: int, breakers: Mapping[tuple[str, str], int]) -> None:
        """Set what is a state rather than a number of events."""
        self._at_work.set(at_work)
        for pair in breakers.keys() - self._breakers.keys():
            self._breakers[pair] = self._breaker(*pair)
        for pair, gauge in self._breakers.items():
            gauge.set(breakers.get(pair, 0))

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

    def missed_beat(self) -> None:
        """Count a beat of the pulse that failed."""
        self._missed.inc()

    def refused(self, reason: str) -> None:
        """Count a request that was refused before it was read: "full", "slow body"."""
        self._refused(reason).inc()

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
        self.count()
        registry, folder = self._own, os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder:
            _forget_the_dead(Path(folder))
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _forget_the_dead(folder: Path) -> None:
    """Drop what workers that ended said of their state; what they counted stays."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]
