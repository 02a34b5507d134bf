"""What is deleted, and when. One process does it for all that share the database; the others see that it is done.

    used tokens             when they have expired
    words of feedback       `comment_days` after they came: comments may identify a patient
    feedback without a card after a week: nobody can tie it to anything (a card of another server, or a made-up id)
    cards and feedback      after `keep_days`
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from sqlalchemy import ColumnElement, Connection, Delete, Table, Update, and_, delete, or_, select, update

from cds_hooks.errors import StorageError
from cds_hooks.store.database import Database
from cds_hooks.store.tables import CHORES, FEEDBACK, ISSUED, REPLAY
from cds_hooks.store.tying import HAS_CARD, tie_late
from cds_hooks.store.writing import insert_or_take

#: Seconds between two rounds, in all processes together.
EVERY_S: Final = 900
ORPHAN_DAYS: Final = 7
#: By how much the clocks of processes that share a database may differ (milliseconds).
_SKEW_MS: Final = 300_000
_DAY_MS: Final = 86_400_000
#: Rows in one transaction: few enough that nobody waits long for it.
BATCH: Final = 500
_PAUSE_S: Final = 0.02


class Housekeeping:
    """Deletes what is due. `clock` gives seconds since 1970."""

    def __init__(
        self, database: Database, *, keep_days: int, comment_days: int, holder: str,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._database: Final = database
        self._keep: Final = keep_days * _DAY_MS
        self._comments: Final = comment_days * _DAY_MS
        self._holder: Final = holder
        self._clock: Final = clock
        self._stop: Final = threading.Event()

    def start(self) -> None:
        """Do rounds in a thread of its own until `stop`."""
        threading.Thread(target=self._rounds, name="housekeeping", daemon=True).start()

    def stop(self) -> None:
        """End the thread after the batch in hand."""
        self._stop.set()

    def round(self) -> dict[str, int] | None:
        """Delete what is due; how many rows of which kind. None if another process has done it. Raises StorageError."""
        now = int(self._clock() * 1000)
        if not self._taken(now):
            return None
        tie_late(self._database, now - ORPHAN_DAYS * _DAY_MS)
        return {name: self._all(statement) for name, statement in self._due(now)}

    def _rounds(self) -> None:
        while not self._stop.wait(random.uniform(0.5, 1.0) * EVERY_S / 10):  # noqa: S311 - spreads the processes
            try:
                self.round()
            except StorageError:
                continue  # readiness tells; the next round deletes it

    def _taken(self, now: int) -> bool:
        until = now + EVERY_S * 1000
        values = {"name": "housekeeping", "holder": self._holder, "until": until}
        # Nobody takes it for longer than that: what lies further ahead is from a clock that was wrong.
        free = or_(CHORES.c.until <= now, CHORES.c.until > until + _SKEW_MS)
        take = insert_or_take(CHORES, self._database.sqlite, values, free)
        return self._database.run(lambda connection: connection.execute(take).rowcount == 1, "write")

    def _due(self, now: int) -> Iterator[tuple[str, Delete | Update]]:
        heard = FEEDBACK.c.received_at
        yield "tokens", _batch(REPLAY, REPLAY.c.expires_at < now // 1000)
        spoken = and_(heard < now - self._comments, FEEDBACK.c.words.is_not(None))
        some = select(FEEDBACK.c.id).where(spoken).limit(BATCH).scalar_subquery()
        yield "words", update(FEEDBACK).where(FEEDBACK.c.id.in_(some)).values(words=None)
        yield "cards", _batch(ISSUED, ISSUED.c.issued_at < now - self._keep)
        yield "feedback", _batch(FEEDBACK, heard < now - self._keep)
        yield "untied", _batch(FEEDBACK, and_(heard < now - ORPHAN_DAYS * _DAY_MS, ~HAS_CARD))

    def _all(self, statement: Delete | Update) -> int:
        total = 0

        def some(connection: Connection) -> int:
            return connection.execute(statement).rowcount

        while not self._stop.is_set():
            done = self._database.run(some, "write")
            total += done
            if done < BATCH:
                break
            time.sleep(_PAUSE_S)
        return total


def _batch(table: Table, due: ColumnElement[bool]) -> Delete:
    (key,) = table.primary_key
    return delete(table).where(key.in_(select(key).where(due).limit(BATCH).scalar_subquery()))
