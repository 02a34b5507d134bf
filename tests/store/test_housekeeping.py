"""What is deleted and when, by one process at a time."""

from __future__ import annotations

import uuid
from typing import Any

from a_database import NOW, OFFERED, days, issued, memory, overridden
from sqlalchemy import select, update

from cds_hooks.protocol.caller import ANONYMOUS
from cds_hooks.store import housekeeping
from cds_hooks.store.database import Database
from cds_hooks.store.housekeeping import EVERY_S, Housekeeping
from cds_hooks.store.replay import SharedGuard
from cds_hooks.store.tables import FEEDBACK, ISSUED, REPLAY


class Clock:
    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def keeper(database: Database, clock: Clock, holder: str = "one") -> Housekeeping:
    return Housekeeping(database, keep_days=400, comment_days=90, holder=holder, clock=clock)


def stored(database: Database, column: Any) -> list[Any]:
    return database.run(lambda connection: sorted(connection.execute(select(column)).scalars(), key=str), "read")


def said(database: Database, age: float, *, tied: bool = True) -> str:
    """Feedback with a comment of so many days ago, and its card unless nobody knows the card."""
    remembered, card = memory(database), issued()
    if tied:
        remembered.issued(ANONYMOUS, "p", [card], NOW - days(age))
    remembered.feedback(ANONYMOUS, [overridden(card.card, userComment="words")], OFFERED, NOW - days(age))
    remembered.close()
    return card.card


def test_tokens_go_when_they_have_expired(database: Database) -> None:
    guard, clock = SharedGuard(database), Clock()
    for name, left in (("old", -5), ("fresh", 5)):
        guard.first_use("https://ehr.example.org", name, clock.now + left)
    assert keeper(database, clock).round() == {"tokens": 1, "words": 0, "cards": 0, "feedback": 0, "untied": 0}
    assert not guard.first_use("https://ehr.example.org", "fresh", clock.now + 5)


def test_words_go_before_the_rest(database: Database) -> None:
    old, fresh = said(database, 91), said(database, 89)
    assert keeper(database, Clock()).round() == {"tokens": 0, "words": 1, "cards": 0, "feedback": 0, "untied": 0}
    query = select(FEEDBACK.c.card, FEEDBACK.c.words)
    kept = database.run(lambda connection: {row.card: row.words for row in connection.execute(query)}, "read")
    assert kept == {old: None, fresh: '{"comment": "words"}'}


def test_cards_and_feedback_go_in_the_end(database: Database) -> None:
    said(database, 401)
    fresh = said(database, 399)
    counts = keeper(database, Clock()).round()
    assert counts is not None
    assert (counts["cards"], counts["feedback"]) == (1, 1)
    assert stored(database, ISSUED.c.card) == stored(database, FEEDBACK.c.card) == [fresh]


def test_feedback_that_nobody_can_tie_goes_after_a_week(database: Database) -> None:
    said(database, 8, tied=False)
    kept = sorted([said(database, 6, tied=False), said(database, 8)])
    counts = keeper(database, Clock()).round()
    assert counts is not None
    assert counts["untied"] == 1
    assert stored(database, FEEDBACK.c.card) == kept


def test_of_another_client_it_is_untied(database: Database) -> None:
    card = said(database, 8)
    database.run(lambda connection: connection.execute(update(ISSUED).values(client="other")), "write")
    counts = keeper(database, Clock()).round()
    assert counts is not None
    assert counts["untied"] == 1
    assert stored(database, ISSUED.c.card) == [card]


def test_more_than_a_batch(database: Database) -> None:
    rows = [{"token": uuid.uuid4().hex, "expires_at": 1} for _ in range(2 * housekeeping.BATCH + 1)]
    database.run(lambda connection: connection.execute(REPLAY.insert(), rows), "write")
    counts = keeper(database, Clock()).round()
    assert counts is not None
    assert counts["tokens"] == len(rows)
    assert stored(database, REPLAY.c.token) == []


def test_one_does_it_for_all(database: Database) -> None:
    clock = Clock()
    one, two = keeper(database, clock, "one"), keeper(database, clock, "two")
    assert one.round() is not None
    assert (two.round(), one.round()) == (None, None)
    clock.now += EVERY_S
    assert two.round() is not None
    assert one.round() is None


def test_a_clock_that_was_far_ahead_stops_nobody(database: Database) -> None:
    ahead, right = Clock(), Clock()
    ahead.now += 10 * 365 * 86_400
    assert keeper(database, ahead, "one").round() is not None
    assert keeper(database, right, "two").round() is not None
    assert keeper(database, right, "three").round() is None


def test_a_clock_that_is_a_little_ahead_is_heeded(database: Database) -> None:
    ahead, right = Clock(), Clock()
    ahead.now += 60
    assert keeper(database, ahead, "one").round() is not None
    assert keeper(database, right, "two").round() is None


def test_it_stops_when_told(sqlite: Database) -> None:
    running = keeper(sqlite, Clock())
    running.start()
    running.stop()
    rows = [{"token": uuid.uuid4().hex, "expires_at": 1} for _ in range(3)]
    sqlite.run(lambda connection: connection.execute(REPLAY.insert(), rows), "write")
    counts = running.round()
    assert counts is not None
    assert counts["tokens"] == 0
