"""One hook call from end to end: the only place that knows the order of the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from functools import partial
from typing import Any, Final

from pydantic import ValidationError

from cds_hooks.answer.assembly import Decision, build, decide, settled
from cds_hooks.answer.suggestions import Requested
from cds_hooks.chart.chart import Chart
from cds_hooks.chart.gather import Fetch, Reader, Server, Source, fetches, gather
from cds_hooks.chart.search import Query
from cds_hooks.errors import CdsHooksError, Rejected, StorageError
from cds_hooks.loading import Loaded
from cds_hooks.protocol.caller import ANONYMOUS, Caller
from cds_hooks.protocol.discovery import ServiceEntry, discovery
from cds_hooks.protocol.feedback import FeedbackItem
from cds_hooks.protocol.hooks import HOOKS, Hook
from cds_hooks.protocol.request import HookRequest
from cds_hooks.protocol.response import Card, Response
from cds_hooks.reasoning.evaluation import Asked, Evaluation, Finding
from cds_hooks.reasoning.nothing import over_nothing
from cds_hooks.reasoning.plan import Plan, Rule
from cds_hooks.reasoning.trace import trace
from cds_hooks.recall import Recall, reasons_offered, unkept
from cds_hooks.store.port import Memory, NoMemory

Clock = Callable[[], datetime]


#: The minute since 1970 for which the offset was asked for, and the offset.
_offset: tuple[float, tzinfo | None] = (-1.0, None)


def now_here() -> datetime:
    """The current moment with the server's own offset: calendar days are those of its users.

    Asking the system for the offset takes longer than for the time; it changes with the minute at most.
    """
    global _offset
    seconds = time.time()
    minute = seconds // 60
    known, zone = _offset
    if known != minute:
        zone = datetime.fromtimestamp(seconds).astimezone().tzinfo
        _offset = minute, zone
    return datetime.fromtimestamp(seconds, zone)


@dataclass(slots=True)  # not frozen: made in each call, and nobody changes it
class Answered:
    """What came of a call: the JSON body, what the log may say, and what is counted (see web.port.Outcome)."""

    payload: dict[str, Any]
    log: dict[str, Any]
    topics: tuple[str, ...] = ()
    troubles: Mapping[str, int] = field(default_factory=dict)
    inputs: tuple[tuple[str, str], ...] = ()
    fetches: tuple[Fetch, ...] = ()
    undecided: tuple[str, ...] = ()
    snoozed: tuple[str, ...] = ()


@dataclass(slots=True)  # not frozen: made in each call, and nobody changes it
class Thought:
    """Everything known after the rules were asked."""

    evaluation: Evaluation
    findings: Sequence[Finding]
    decision: Decision
    requested: Requested

    def troubles(self) -> dict[str, int]:
        """Every kind of problem that was met and not passed on to the caller, with its count."""
        return {**self.evaluation.chart.problems, **self.evaluation.problems}


@dataclass(frozen=True, slots=True)
class _Service:
    loaded: Loaded
    hook: Hook
    queries: tuple[Query, ...]
    selecting: bool  # whether the hook names the orders that were just selected
    entry: ServiceEntry = field(repr=False)


class CdsService:
    """All services of one server: each plan on each of its hooks."""

    def __init__(
        self,
        plans: Sequence[Loaded],
        reader: Reader | None = None,
        *,
        clock: Clock = now_here,
        deadline_s: float = 2.5,
        pages: int = 5,
        pools: Callable[[str], Executor] | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Take the plans, what reads FHIR servers, the threads to use for one by its base URL (none: shared), and what
        remembers cards and feedback (none: nothing does)."""
        self._memory: Final[Memory] = memory or NoMemory()
        self._reader: Final = reader
        #: FHIR base URLs of a client -> a reader that goes nowhere else; as many as there are clients.
        self._confined: Final[dict[tuple[str, ...], Reader]] = {}
        self._clock: Final = clock
        self._deadline_s: Final = deadline_s
        self._pages: Final = pages
        shared = ThreadPoolExecutor(max_workers=64, thread_name_prefix="fhir")
        self._pools: Final = pools or (lambda base: shared)
        self._shared: Final = shared
        for loaded in plans:
            over_nothing(loaded.plan)  # found out now, not in the first call
        self._services: Final = {f"{loaded.plan.id}-{hook}": _offered(loaded, HOOKS[hook])
                                 for loaded in plans for hook in loaded.plan.hooks}  # fmt: skip

    # ---- what the door asks

    def discovery(self) -> dict[str, Any]:
        """The discovery body."""
        return discovery([service.entry for service in self._services.values()])

    def ids(self) -> tuple[str, ...]:
        """The ids of all services."""
        return tuple(self._services)

    def hook_of(self, service_id: str) -> Hook | None:
        """The hook of a service, None if there is no such service."""
        service = self._services.get(service_id)
        return service.hook if service else None

    def breakers(self) -> Mapping[tuple[str, str], int]:
        """How many circuit breakers stand how: (name of the FHIR server in the settings, state) → count."""
        return self._reader.breakers() if self._reader else {}

    def failing(self) -> dict[str, str]:
        """What is broken. Content is checked before the port opens, so it cannot be; what is kept outside can."""
        storage = self._memory.failing()
        return {"storage": storage} if storage else {}

    def feedback(self, service_id: str, items: tuple[FeedbackItem, ...], caller: Caller = ANONYMOUS) -> None:
        """Store feedback; raises Rejected(503) when that cannot be done. The same twice is the same as once."""
        offered = reasons_offered(self._services[service_id].loaded.plan)
        try:
            self._memory.feedback(caller, items, offered, self._clock())
        except StorageError:
            raise unkept(items) from None

    def call(self, service_id: str, request: HookRequest, caller: Caller = ANONYMOUS) -> Answered:
        """Answer a call. Raises Rejected(412) when required data can be had neither way."""
        service = self._services[service_id]
        started = time.perf_counter()
        thought = self._think(service, request, caller)
        thought_s = time.perf_counter() - started
        cards, broken = self._cards(service, thought)
        undecided = [one.rule for one in thought.findings if one.verdict is None]
        if cards:
            self._recall(service_id, request, caller).remember(thought.evaluation, cards, thought.decision.spoken)
        sources, troubles = thought.evaluation.chart.sources, thought.troubles()
        return Answered(
            Response(cards=tuple(cards.values())).payload() if cards else {"cards": []},
            _log(service.loaded.plan, thought, undecided, len(cards), broken, troubles, thought_s),
            tuple(rule.topic["code"] for rule in thought.decision.spoken if rule.id in cards),
            troubles,
            tuple([(key, source.how) for key, source in sources.items()]),
            fetches(sources) if request.fhir_server else (),
            tuple([rule.topic["code"] for rule in undecided]),
            tuple(rule.topic["code"] for rule in thought.decision.snoozed),
        )

    def explain(self, service_id: str, request: HookRequest, caller: Caller = ANONYMOUS) -> dict[str, Any]:
        """The trace of a call, as JSON."""
        service = self._services[service_id]
        thought = self._think(service, request, caller, whole=True)
        cards, broken = self._cards(service, thought)
        summaries = {rule: card.summary for rule, card in cards.items()}
        silenced = {**thought.decision.silenced, **broken}
        return trace(thought.evaluation, thought.findings, summaries, silenced, thought.troubles())

    # ---- the steps

    def _think(self, service: _Service, request: HookRequest, caller: Caller, *, whole: bool = False) -> Thought:
        plan = service.loaded.plan
        server, refusal = self._server(request, caller)
        context = {"patientId": request.patient_id, "encounterId": request.encounter_id, "userId": request.user_id}
        given = {name: value for name, value in context.items() if value is not None}
        pool = self._pools(server.base) if server else self._shared
        sources = gather(service.queries, request.prefetch, given, server, pool, unread=request.unread)
        _require(service.queries, sources, refusal)
        reader = partial(server.referenced, pool=pool) if server else None
        base = server.base if server else None
        chart = Chart(plan.retrieval, request.patient_id, sources, request.drafts, reader, base)
        asked = Asked(request.hook, request.user_id, _selected(service, request, chart))
        evaluation = Evaluation(plan, chart, asked, self._clock(), request.until, whole=whole)
        findings = evaluation.findings()
        _require_decision(service.queries, evaluation, findings)
        requested = Requested(request.patient_id, request.user_id, request.encounter_id)
        recall = self._recall(service.entry.id, request, caller)
        decision = decide(plan, findings, request.hook, lambda heard: recall.resting(evaluation, heard))
        return Thought(evaluation, findings, decision, requested)

    def _recall(self, service_id: str, request: HookRequest, caller: Caller) -> Recall:
        return Recall(self._memory, caller, request.patient_id, service_id)

    def _server(self, request: HookRequest, caller: Caller) -> tuple[Server | None, str | None]:
        """Where this call may fetch, or why it may not."""
        reader = self._reader_for(caller)
        if request.fhir_server is None or reader is None:
            return None, None
        refusal = reader.refusal(request.fhir_server)
        if refusal is not None:
            return None, refusal
        deadline = min(time.monotonic() + self._deadline_s, request.until)
        if request.pass_on:
            reader = reader.carrying(request.pass_on)
        return Server(reader, request.fhir_server, request.token, deadline, self._pages), None

    def _reader_for(self, caller: Caller) -> Reader | None:
        """The reader that goes only where this caller may send it."""
        bases = caller.fhir_servers
        if bases is None or self._reader is None:
            return self._reader
        found = self._confined.get(bases)
        if found is None:
            self._confined[bases] = found = self._reader.only(bases)
        return found

    def _cards(self, service: _Service, thought: Thought) -> tuple[dict[str, Card], dict[str, str]]:
        """(rule id → card, rule id → what is wrong). A card that cannot be built is left out, counted and logged."""
        cards: dict[str, Card] = {}
        broken: dict[str, str] = {}
        templates, label = service.loaded.cards, service.loaded.plan.label
        for rule in thought.decision.spoken:
            try:
                cards[rule.id] = build(rule, thought.evaluation, templates, thought.requested, label)
            except Rejected:  # no time left: to leave the card out would be silence
                raise
            except (CdsHooksError, ValueError) as error:  # a template or model that does not fit: not a lost call
                broken[rule.id] = f"its card cannot be built: {_reason(error)}"
                thought.evaluation.trouble("card")
        return dict(zip(cards, settled(list(cards.values())), strict=True)), broken


def _offered(loaded: Loaded, hook: Hook) -> _Service:
    plan = loaded.plan
    keys = set(plan.keys_for(hook.name))
    queries = tuple(query for query in plan.retrieval.queries if query.key in keys)
    required = ", ".join(query.key for query in queries if query.required)
    entry = ServiceEntry(
        id=f"{plan.id}-{hook.name}", hook=hook, title=f"{plan.title}: {hook.name}", description=plan.description,
        prefetch={query.key: query.template for query in queries},
        usage_requirements=(
            f"Needs {required}, by prefetch or from the FHIR server. Without the other keys fewer rules can be decided;"
            " what is not known never counts as absent or safe."
        ),
    )  # fmt: skip
    return _Service(loaded, hook, queries, any(row.fills == "selections" for row in hook.fields), entry)


def _require(queries: Sequence[Query], sources: Mapping[str, Source], refusal: str | None) -> None:
    lacking = [query.key for query in queries if query.required and not sources[query.key].known]
    if lacking:
        why = f"; the fhirServer may not be called: {refusal}" if refusal else ""
        reasons = "; ".join(f"{key}: {sources[key].problem}" for key in lacking)
        raise Rejected(
            f"Required data could not be had, neither from the prefetch nor from the FHIR server ({reasons}){why}.",
            status=412, code="incomplete", expression=tuple(f"prefetch.{key}" for key in lacking),
        )  # fmt: skip


def _require_decision(queries: Sequence[Query], evaluation: Evaluation, findings: Sequence[Finding]) -> None:
    """Refuse rather than stay silent when only part of the required data came and it leaves everything open."""
    partial = [query.key for query in queries if query.required and not evaluation.chart.whole(query.type)]
    if partial and findings and all(finding.verdict is not True for finding in findings):
        gates = {group.id: group for finding in findings for group in finding.rule.groups}
        if any(evaluation.gate(group) is None for group in gates.values()):
            raise Rejected(
                f"Only part of the required data could be read, which leaves the question open: {', '.join(partial)}.",
                status=412, code="incomplete", expression=tuple(f"prefetch.{key}" for key in partial),
            )  # fmt: skip


def _selected(service: _Service, request: HookRequest, chart: Chart) -> list[dict[str, Any]]:
    """The orders the call is about: those just selected, or all drafts on a hook that does not select."""
    if not service.selecting:
        return chart.drafts
    chosen = set(request.selections)
    return [draft for draft in chart.drafts if f"{draft.get('resourceType')}/{draft.get('id')}" in chosen]


def _wording(kind: str, message: str) -> str:
    """What a model says, in words: of a text it counts characters as if they were items of a list."""
    return message.partition(" after validation")[0].replace("items", "characters") if kind == "too_long" else message


def _reason(error: Exception) -> str:
    """What is wrong with a card, without its text: that may hold words of the chart."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {_wording(one['type'], one['msg'])}"
                         for one in error.errors(include_url=False, include_input=False))  # fmt: skip
    return str(error) if isinstance(error, CdsHooksError) else type(error).__name__


def _log(
    plan: Plan, thought: Thought, undecided: Sequence[Rule], cards: int, broken: Mapping[str, str],
    troubles: Mapping[str, int], seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """What the log line says of a call: counts and names of ours, nothing of the patient."""
    line: dict[str, Any] = {
        "plan": plan.id, "content": plan.digest[:12], "cards": cards, "think_ms": round(seconds * 1000, 3),
    }  # fmt: skip
    if plan.site:
        line["site"] = plan.site
    if undecided:
        line["unknown"] = [rule.id for rule in undecided]
    if thought.decision.silenced:
        line["silenced"] = sorted(thought.decision.silenced)
    if thought.decision.snoozed:
        line["snoozed"] = [rule.id for rule in thought.decision.snoozed]
    if broken:
        line["broken_cards"] = sorted(broken)
    sources = thought.evaluation.chart.sources
    odd = {
        key: source.how if source.complete or not source.known else f"{source.how}, {source.problem}"
        for key, source in sources.items()
        if source.how not in ("supplied", "null") or not source.complete
    }
    if odd:
        line["inputs"] = odd
    if troubles:
        line["troubles"] = troubles
    return line
