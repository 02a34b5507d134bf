"""What the door asks of the house behind it. Whoever has these methods can be served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cds_hooks.chart.gather import Fetch
from cds_hooks.protocol.caller import Admission, Caller
from cds_hooks.protocol.feedback import FeedbackItem
from cds_hooks.protocol.hooks import Hook
from cds_hooks.protocol.request import HookRequest


class Outcome(Protocol):
    """What came of one call."""

    @property
    def payload(self) -> dict[str, Any]:
        """The JSON body of the answer: {"cards": [...]}."""

    @property
    def log(self) -> dict[str, Any]:
        """What the log line may say: counts, timings, topics; no patient data."""

    @property
    def topics(self) -> tuple[str, ...]:
        """The topic code of each card; codes of our content, so they may become metric labels."""

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """How each key of the prefetch came: supplied, null, fetched, failed, missing, not-in-context."""

    @property
    def fetches(self) -> tuple[Fetch, ...]:
        """What was asked of a FHIR server."""

    @property
    def undecided(self) -> tuple[str, ...]:
        """The topic codes of the rules that could not be decided."""

    @property
    def snoozed(self) -> tuple[str, ...]:
        """The topic code of each card that was not sent because a user had overridden it."""

    @property
    def troubles(self) -> Mapping[str, int]:
        """Kind of problem that was swallowed -> how often; the kinds are words of ours, so they may become labels."""


class Gate(Protocol):
    """Tells who calls. It must be safe to call from several threads."""

    @property
    def guards_discovery(self) -> bool:
        """Whether discovery asks for a token as well."""

    def admit(self, authorization: str | None, *paths: str) -> Admission:
        """Return who sends this Authorization header to the endpoint of these paths; raise Unauthorized."""


class Service(Protocol):
    """All services of one server. Any method may raise Rejected; it must be safe to call from several threads."""

    def discovery(self) -> dict[str, Any]:
        """Return the discovery body. Asked once, at start."""

    def hook_of(self, service_id: str) -> Hook | None:
        """Return the hook that this service is for, or None if there is no such service."""

    def call(self, service_id: str, request: HookRequest, caller: Caller) -> Outcome:
        """Answer a call; raise Rejected(412) if required data can be had neither way."""

    def explain(self, service_id: str, request: HookRequest, caller: Caller) -> dict[str, Any]:
        """Return the trace of a call, JSON-ready."""

    def feedback(self, service_id: str, items: tuple[FeedbackItem, ...], caller: Caller) -> None:
        """Take feedback; the same twice, and feedback about unknown cards, is no error."""

    def breakers(self) -> Mapping[tuple[str, str], int]:
        """Return how many circuit breakers stand how: (name of the FHIR server in the settings, state) -> count."""

    def failing(self) -> dict[str, str]:
        """Return what is broken: name -> reason, in words free of patient data. Empty: ready."""
