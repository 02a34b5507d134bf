"""What the service asks of a memory, and a memory that remembers nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cds_hooks.protocol.caller import Caller
from cds_hooks.protocol.feedback import FeedbackItem


@dataclass(slots=True)  # not frozen: made in each call, and nobody changes it
class IssuedCard:
    """A card that was sent: its ids, and what made it."""

    card: str
    suggestions: tuple[str, ...]
    service: str
    plan: str
    version: str
    #: Digest of the plan's content, and name and digest of the site's layer over it.
    content: str
    site: str
    rule: str
    topic: str
    indicator: str
    #: Fingerprint of the orders that the card is about.
    orders: str


@dataclass(frozen=True, slots=True)
class Override:
    """A user overrode a card of this rule of a plan, about these orders (a fingerprint), at this moment."""

    plan: str
    rule: str
    orders: str
    at: datetime
    #: Id of the feedback, by which it is found in the database.
    feedback: str


class Memory(Protocol):
    """Remembers what was said to whom. Safe to call from many threads. Moments carry their offset."""

    def fingerprint(self, kind: str, *words: str) -> str:
        """A keyed hash of words, the same for the same words wherever the key is the same; cheap."""

    def overrides(self, caller: Caller, patient_id: str, since: datetime) -> Sequence[Override]:
        """The cards that users of this caller overrode for this patient since then; raises StorageError."""

    def issued(self, caller: Caller, patient_id: str, cards: Sequence[IssuedCard], at: datetime) -> int:
        """Remember cards that are about to be sent. Never waits and never raises; tells how many it had to drop."""

    def feedback(
        self, caller: Caller, items: Sequence[FeedbackItem], offered: frozenset[tuple[str | None, str]], at: datetime
    ) -> None:
        """Store feedback; when this returns, it will survive a crash of the machine. Raises StorageError.

        `offered` are (system, code) of the reasons on our cards. The same item twice is stored once.
        """

    def failing(self) -> str | None:
        """Why nothing can be stored at present, in plain words; None if all is well. Cheap enough for each probe."""


class NoMemory:
    """Remembers nothing: for cases, tests and commands that answer a call without a server."""

    def fingerprint(self, kind: str, *words: str) -> str:
        return ""

    def overrides(self, caller: Caller, patient_id: str, since: datetime) -> Sequence[Override]:
        return ()

    def issued(self, caller: Caller, patient_id: str, cards: Sequence[IssuedCard], at: datetime) -> int:
        return 0

    def feedback(
        self, caller: Caller, items: Sequence[FeedbackItem], offered: frozenset[tuple[str | None, str]], at: datetime
    ) -> None:
        return

    def failing(self) -> str | None:
        return None
