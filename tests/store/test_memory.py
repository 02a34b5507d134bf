"""What is remembered of cards and feedback, and for whom."""

from __future__ import annotations

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from a_database import ELSEWHERE, NOW, OFFERED, Postgres, accepted, days, issued, memory, opened, overridden
from sqlalchemy import Connection, func, select

from cds_hooks.errors import StorageError
from cds_hooks.outbox import Outbox
from cds_hooks.protocol.caller import ANONYMOUS, Caller
from cds_hooks.store.database import Database
from cds_hooks.store.memory import _OVERRIDES, Row, StoredMemory
from cds_hooks.store.port import IssuedCard
from cds_hooks.store.tables import CHORES, FEEDBACK, ISSUED

HERE = Caller("hospital", "ward")


def rows(database: Database, table: Any) -> list[Any]:
    return database.run(lambda connection: list(connection.execute(select(table)).all()), "read")


def count(database: Database, table: Any) -> int:
    counted = select(func.count()).select_from(table)
    return database.run(lambda connection: connection.execute(counted).scalar_one(), "read")


def issue(
    remembered: StoredMemory, database: Database, *cards: IssuedCard, caller: Caller = HERE, who: str = "p1"
) -> None:
    before = count(database, ISSUED)
    assert remembered.issued(caller, who, cards, NOW) == 0
    until = time.monotonic() + 5
    while count(database, ISSUED) < before + len(cards):
        assert time.monotonic() < until, "the cards never came to the database"
        time.sleep(0.01)


def test_cards_are_stored_without_the_patient(database: Database) -> None:
    remembered = memory(database)
    card = issued(orders=remembered.fingerprint("orders", "an order"))
    issue(remembered, database, card, who="secret-patient-id")
    (row,) = rows(database, ISSUED)
    assert (row.card, row.rule, row.topic) == (card.card, "some-rule", "some-topic")
    assert (row.client, row.tenant) == ("hospital", "ward")
    assert row.issued_at == NOW.timestamp() * 1000
    assert row.suggestions == card.suggestions[0]
    assert "secret" not in repr(row)
    assert len(row.patient) == len(row.orders) == 32
    remembered.close()


def test_the_same_feedback_twice_is_one_row(database: Database) -> None:
    remembered, card = memory(database), str(uuid.uuid4())
    for _ in range(3):
        remembered.feedback(HERE, [overridden(card), overridden(card)], OFFERED, NOW)
    remembered.feedback(HERE, [overridden(card.upper())], OFFERED, NOW + days(1))  # an EHR that writes ids its own way
    (row,) = rows(database, FEEDBACK)
    assert (row.card, row.outcome, row.received_at) == (card, "overridden", NOW.timestamp() * 1000)


def test_many_send_the_same_at_once(database: Database) -> None:
    remembered = memory(database)
    cards = [str(uuid.uuid4()) for _ in range(40)]
    items = [overridden(card) for card in cards]
    ready = threading.Barrier(8)

    def send(number: int) -> None:
        ready.wait()
        # In another order each: rows that are locked in turn would lock each other out.
        remembered.feedback(HERE, items[number:] + items[:number], OFFERED, NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    assert sorted(row.card for row in rows(database, FEEDBACK)) == sorted(cards)


def test_what_a_user_said_is_kept(database: Database) -> None:
    remembered, one, two, three = memory(database), *(str(uuid.uuid4()) for _ in range(3))
    remembered.feedback(HERE, [
        overridden(one, reason={"code": "known", "system": "urn:reasons"}, userComment="Frau Ä.\n\U0001f642"),
        overridden(two, reason={"code": "refused"}),
        overridden(three, reason={"code": "own", "system": "urn:theirs", "display": "Mr Y said so"}),
    ], OFFERED, NOW)  # fmt: skip
    found = {row.card: row for row in rows(database, FEEDBACK)}
    assert (found[one].reason_system, found[one].reason_code) == ("urn:reasons", "known")
    assert json.loads(found[one].words) == {"comment": "Frau Ä.\n\U0001f642"}
    assert (found[two].reason_system, found[two].reason_code, found[two].words) == ("urn:reasons", "refused", None)
    assert found[three].reason_code is None
    assert json.loads(found[three].words)["reason"]["display"] == "Mr Y said so"


def test_accepted_suggestions_are_kept(database: Database) -> None:
    remembered, card = memory(database), str(uuid.uuid4())
    remembered.feedback(HERE, [accepted(card, "s-1", "s-2")], OFFERED, NOW)
    (row,) = rows(database, FEEDBACK)
    assert (row.outcome, json.loads(row.suggestions), row.words) == ("accepted", ["s-1", "s-2"], None)


def test_ids_that_are_none_of_ours_are_not_stored(database: Database) -> None:
    remembered = memory(database)
    remembered.feedback(HERE, [overridden("Mr. X, ward 3"), overridden("x" * 36)], OFFERED, NOW)
    assert rows(database, FEEDBACK) == []


def test_an_override_is_recalled(database: Database) -> None:
    remembered, card = memory(database), issued("r", orders="o")
    assert remembered.overrides(HERE, "p1", NOW - days(90)) == ()
    issue(remembered, database, card, issued("r2"))
    assert remembered.overrides(HERE, "p1", NOW - days(90)) == ()
    remembered.feedback(HERE, [overridden(card.card, NOW - days(1))], OFFERED, NOW)
    (found,) = remembered.overrides(HERE, "p1", NOW - days(90))
    assert (found.plan, found.rule, found.orders, found.at) == ("plan", "r", "o", NOW - days(1))
    assert found.feedback == rows(database, FEEDBACK)[0].id
    assert remembered.overrides(HERE, "p1", NOW - days(0.5)) == ()
    assert remembered.overrides(HERE, "p2", NOW - days(90)) == ()
    remembered.close()


def test_feedback_may_come_before_the_card(database: Database) -> None:
    """The card is still in the queue of the worker that sent it, or in the transaction of another instance."""
    remembered, card = memory(database), issued()
    remembered.feedback(HERE, [overridden(card.card)], OFFERED, NOW)
    assert remembered.overrides(HERE, "p1", NOW - days(90)) == ()
    issue(remembered, database, card)
    assert len(remembered.overrides(HERE, "p1", NOW - days(90))) == 1
    remembered.close()


@pytest.mark.parametrize("caller", [ELSEWHERE, ANONYMOUS, replace(HERE, tenant=None), replace(HERE, tenant="other")])
def test_others_cannot_speak_about_a_card(database: Database, caller: Caller) -> None:
    remembered, card = memory(database), issued()
    issue(remembered, database, card)
    remembered.feedback(caller, [overridden(card.card)], OFFERED, NOW)
    assert remembered.overrides(HERE, "p1", NOW - days(90)) == ()
    assert remembered.overrides(caller, "p1", NOW - days(90)) == (), "nor is their patient of the same id silenced"
    remembered.close()


def test_the_latest_word_counts(database: Database) -> None:
    remembered, card = memory(database), issued()
    issue(remembered, database, card)
    later, earlier = accepted(card.card, at=NOW - days(1)), overridden(card.card, NOW - days(2))
    remembered.feedback(HERE, [later, earlier], OFFERED, NOW)
    assert remembered.overrides(HERE, "p1", NOW - days(90)) == ()
    remembered.feedback(HERE, [overridden(card.card, NOW - days(0.5))], OFFERED, NOW)
    assert len(remembered.overrides(HERE, "p1", NOW - days(90))) == 1
    remembered.close()


def test_a_clock_that_is_ahead_does_not_prolong_silence(database: Database) -> None:
    remembered, card = memory(database), issued()
    issue(remembered, database, card)
    remembered.feedback(HERE, [overridden(card.card, NOW + days(3650))], OFFERED, NOW)
    (found,) = remembered.overrides(HERE, "p1", NOW - days(90))
    assert found.at == NOW
    remembered.close()


def test_another_key_knows_nobody(sqlite: Database) -> None:
    from cds_hooks.store.secret import Key

    remembered, card = memory(sqlite), issued()
    issue(remembered, sqlite, card)
    remembered.feedback(HERE, [overridden(card.card)], OFFERED, NOW)
    stranger = StoredMemory(sqlite, Key("another key of thirty-two letters"))
    assert stranger.overrides(HERE, "p1", NOW - days(90)) == ()
    remembered.close()


# --- The queue of issued cards ---------------------------------------------------------------------------------------


def test_what_waits_is_written_when_it_closes() -> None:
    written: list[Row] = []
    outbox = Outbox(written.extend, "made-up", flush_s=30)
    assert outbox.put([{"n": number} for number in range(2500)]) == 0
    outbox.close()
    assert written == [{"n": number} for number in range(2500)]
    assert outbox.put([{"n": 1}]) == 1


def test_a_full_queue_drops_and_says_so() -> None:
    def down(_: object) -> None:
        raise StorageError("down")

    outbox = Outbox(down, "made-up", bound=10, flush_s=0.01)
    assert outbox.put([{}] * 8) == 0
    assert outbox.put([{}] * 8) == 6
    assert outbox.put([{}] * 8) == 8
    outbox.close()


def test_rows_wait_while_the_database_is_down() -> None:
    written: list[Row] = []
    down = threading.Event()
    down.set()

    def write(batch: Any) -> None:
        if down.is_set():
            raise StorageError("down")
        written.extend(batch)

    outbox = Outbox(write, "made-up", flush_s=0.01)
    outbox.put([{"n": 1}])
    time.sleep(0.05)
    outbox.put([{"n": 2}])
    down.clear()
    until = time.monotonic() + 5
    while len(written) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert written == [{"n": 1}, {"n": 2}]
    outbox.close()


def test_the_cards_a_patient_ever_got_are_not_walked(tmp_path: Path) -> None:
    """A chart is opened many times, and each time the same question is asked."""
    found = opened(f"sqlite:///{tmp_path / 'cds.db'}")
    told: list[str] = []

    def ask(connection: Connection) -> None:
        compiled = _OVERRIDES.compile(connection.engine)
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.string}", ("p", 0))
        told.extend(row[-1] for row in rows)

    found.run(ask, "read")
    assert any("feedback_patient" in step for step in told)
    assert not any(step.startswith("SCAN issued") for step in told)
    found.close()


def test_a_question_that_fails_is_asked_again_with_all_care(database: Database) -> None:
    """The short way has no handling of errors of its own; the long way tells what is wrong, and recovers."""
    wanted = {"patient": "p", "since": 0}
    assert database.look(_OVERRIDES, wanted) == []
    database.engine("write").dispose()
    with database.engine("write").begin() as connection:
        connection.exec_driver_sql("ALTER TABLE feedback RENAME TO gone")
    with pytest.raises(StorageError):
        database.look(_OVERRIDES, wanted)
    with database.engine("write").begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO feedback")
    assert list(database.look(_OVERRIDES, wanted)) == []


def test_an_outbox_without_a_thread_gets_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Row] = []
    box = Outbox(written.extend, "made-up", flush_s=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no more threads")))
        assert box.put([{"n": 1}]) == 0
    assert box.put([{"n": 2}]) == 0
    box.close()
    assert [row["n"] for row in written] == [1, 2]


def test_nothing_ends_the_outbox() -> None:
    """Whatever goes wrong while writing, the rows wait and are tried again."""
    written: list[Row] = []
    faults: list[Exception] = [UnicodeEncodeError("utf-8", "x", 0, 1, "odd"), ValueError(), StorageError("full")]

    def write(rows: Any) -> None:
        if faults:
            raise faults.pop()
        written.extend(rows)

    box = Outbox(write, "made-up", flush_s=0.01)
    box.put([{"n": 1}])
    ends = time.monotonic() + 10
    while not written and time.monotonic() < ends:
        time.sleep(0.02)
    box.close()
    assert [row["n"] for row in written] == [1]



def test_transactions_that_wait_for_each_other_both_end_well(server: Postgres) -> None:
    """PostgreSQL ends one of them; it is done once more."""
    found = opened(server.new_database())

    def add(connection: Connection) -> None:
        connection.execute(CHORES.insert(), [{"name": name, "holder": "", "until": 0} for name in "ab"])

    found.run(add, "write")
    both, tries = threading.Barrier(2, timeout=5), []

    def touch(first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            tries.append(first)
            again = len(tries) > 2
            connection.execute(CHORES.update().where(CHORES.c.name == first).values(until=1))
            if not again:
                both.wait()
            connection.execute(CHORES.update().where(CHORES.c.name == second).values(until=1))

        found.run(work, "keep")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(touch, "a", "b"), pool.submit(touch, "b", "a")]:
            done.result(20)
    assert len(tries) == 3
    found.close()
