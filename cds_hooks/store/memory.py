"""The memory of a running server."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from cds_hooks.errors import StorageError
from cds_hooks.outbox import Outbox
from cds_hooks.protocol.caller import Caller
from cds_hooks.protocol.feedback import FeedbackItem, Reason
from cds_hooks.store.database import Database
from cds_hooks.store.port import IssuedCard, Override
from cds_hooks.store.secret import Key
from cds_hooks.store.tables import CHORES, FEEDBACK, ISSUED, millis, moment
from cds_hooks.store.tying import tie, tie_late
from cds_hooks.store.writing import insert_new, insert_or_take

#: Seconds for which an answer to "can anything be stored?" is good: probes come from several sides.
_PROBE_S: Final = 1.0
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

#: A row of a table, as SQLAlchemy takes it.
Row = Mapping[str, Any]

#: Feedback that waits for its card longer than this (milliseconds) is left to the housekeeping.
_RECENT_MS: Final = 3_600_000
_OVERRIDES: Final = (
    select(ISSUED.c.card, ISSUED.c.plan, ISSUED.c.rule, ISSUED.c.orders, FEEDBACK.c.outcome,
           FEEDBACK.c.said_at, FEEDBACK.c.id)
    .select_from(FEEDBACK)
    .join(ISSUED, ISSUED.c.card == FEEDBACK.c.card)
    .where(FEEDBACK.c.patient == bindparam("patient"), FEEDBACK.c.said_at >= bindparam("since"))
    .order_by(FEEDBACK.c.said_at, FEEDBACK.c.received_at, FEEDBACK.c.id)
)  # fmt: skip


class StoredMemory:
    """See `port.Memory`."""

    def __init__(self, database: Database, key: Key, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970."""
        self._clock: Final = clock
        self._database: Final = database
        self._key: Final = key
        self._last: Final = threading.local()
        self._outbox: Final = Outbox(self._write_issued, "issued-cards")
        self._insert_issued: Final = insert_new(ISSUED, database.sqlite)
        self._insert_feedback: Final = insert_new(FEEDBACK, database.sqlite)
        self._probing: Final = threading.Lock()
        self._probed = 0.0
        self._broken: str | None = None

    def fingerprint(self, kind: str, *words: str) -> str:
        """See Memory."""
        return self._key.fingerprint(kind, *words)

    def overrides(self, caller: Caller, patient_id: str, since: datetime) -> Sequence[Override]:
        """See Memory. What was said last about a card counts: who accepts later no longer overrides."""
        wanted = {"patient": self._patient(caller, patient_id), "since": millis(since)}
        latest = {card: said for card, *said in self._database.look(_OVERRIDES, wanted)}
        return tuple(Override(plan, rule, orders, moment(said_at), feedback)
                     for plan, rule, orders, outcome, said_at, feedback in latest.values() if outcome == "overridden")

    def issued(self, caller: Caller, patient_id: str, cards: Sequence[IssuedCard], at: datetime) -> int:
        """See Memory."""
        patient, when = self._patient(caller, patient_id), millis(at)
        return self._outbox.put([
            {
                "card": card.card.lower(), "client": caller.name, "tenant": caller.tenant or "",
                "service": card.service, "plan": card.plan, "version": card.version, "content": card.content,
                "site": card.site, "rule": card.rule, "topic": card.topic, "indicator": card.indicator,
                "patient": patient, "orders": card.orders, "suggestions": " ".join(card.suggestions),
                "issued_at": when,
            }
            for card in cards
        ])  # fmt: skip

    def feedback(
        self, caller: Caller, items: Sequence[FeedbackItem], offered: frozenset[tuple[str | None, str]], at: datetime
    ) -> None:
        """See Memory. The ids of our cards are UUIDs; what names another kind of card is no feedback on ours."""
        rows = {row["id"]: row for item in items if _UUID.fullmatch(item.card)
                for row in [self._said(caller, item, offered, at)]}  # fmt: skip
        if not rows:
            return
        # In the order of their keys: two transactions with the same rows must not wait for each other.
        batch = [rows[identity] for identity in sorted(rows)]

        def store(connection: Connection) -> None:
            connection.execute(self._insert_feedback, batch)
            tie(connection, millis(at), rows.keys())

        self._database.run(store, "keep")
        with suppress(StorageError):  # it is kept; the housekeeping ties what could not be tied now
            tie_late(self._database, millis(at))

    def failing(self) -> str | None:
        """See Memory: writes a row, because a database may be readable and full."""
        if time.monotonic() - self._probed > _PROBE_S and self._probing.acquire(blocking=False):
            try:
                self._broken = self._probe()
                self._probed = time.monotonic()
            finally:
                self._probing.release()
        return self._broken

    def close(self) -> None:
        """Write what waits; close the connections."""
        self._outbox.close()
        self._database.close()

    def _patient(self, caller: Caller, patient_id: str) -> str:
        """The same id in another client's or tenant's records is another patient."""
        asked = caller, patient_id
        last: tuple[Any, str] | None = getattr(self._last, "patient", None)
        if last is None or last[0] != asked:  # a call with a card asks twice
            fingerprint = self._key.fingerprint("patient", caller.name, caller.tenant or "", patient_id)
            self._last.patient = last = asked, fingerprint
        return last[1]

    def _write_issued(self, rows: Sequence[Row]) -> None:
        def store(connection: Connection) -> None:
            connection.execute(self._insert_issued, list(rows))
            tie(connection, since)

        since = int(self._clock() * 1000) - _RECENT_MS
        self._database.run(store, "write")
        tie_late(self._database, since)

    def _probe(self) -> str | None:
        values = {"name": "probe", "holder": "", "until": int(self._clock() * 1000)}
        statement = insert_or_take(CHORES, self._database.sqlite, values, CHORES.c.until >= 0)
        try:
            self._database.run(lambda connection: connection.execute(statement), "write")
        except StorageError as error:
            return str(error)
        return None

    def _said(
        self, caller: Caller, item: FeedbackItem, offered: frozenset[tuple[str | None, str]], at: datetime
    ) -> dict[str, Any]:
        """The row of an item. Only a reason that our cards offer is kept as a code; all else are the user's words."""
        override = item.overrideReason if item.outcome == "overridden" else None
        reason = override.reason if override else None
        ours = _ours(reason, offered) if reason else None
        words: dict[str, Any] = {}
        if override and override.userComment:
            words["comment"] = override.userComment
        if reason and not ours:
            words["reason"] = reason.model_dump(exclude_none=True)
        accepted = [one.id for one in item.acceptedSuggestions] if item.outcome == "accepted" else []
        row = {
            "card": item.card.lower(), "client": caller.name, "tenant": caller.tenant or "", "outcome": item.outcome,
            "reason_system": ours[0] if ours else None, "reason_code": ours[1] if ours else None,
            "words": json.dumps(words) if words else None, "suggestions": json.dumps(accepted),
        }  # fmt: skip
        said = millis(item.outcomeTimestamp)
        identity = self._key.fingerprint("feedback", str(said), *(str(row[name]) for name in sorted(row)))
        received = millis(at)
        return row | {"id": identity, "said_at": min(said, received), "received_at": received}


def _ours(reason: Reason, offered: frozenset[tuple[str | None, str]]) -> tuple[str | None, str] | None:
    """The offered reason that is meant: by system and code, or by code alone where the client leaves out the system."""
    return next((pair for pair in offered if pair[1] == reason.code and reason.system in (pair[0], None)), None)
