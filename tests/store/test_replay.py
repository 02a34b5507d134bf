"""Each token once, whoever asks: threads, and guards of several processes on one database."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from a_database import opened
from sqlalchemy import select

from cds_hooks.store.database import Database
from cds_hooks.store.replay import SharedGuard
from cds_hooks.store.tables import REPLAY

LATER = time.time() + 300


def test_once_and_never_again(database: Database) -> None:
    guard = SharedGuard(database)
    assert guard.first_use("https://ehr.example.org", "t-1", LATER)
    assert not guard.first_use("https://ehr.example.org", "t-1", LATER)
    assert guard.first_use("https://other.example.org", "t-1", LATER), "another issuer's token of the same id"
    assert guard.first_use("https://ehr.example.org", "t-2", LATER)


def test_issuer_and_id_are_not_mixed_up(sqlite: Database) -> None:
    guard = SharedGuard(sqlite)
    assert guard.first_use("https://ehr.example.org/a", "b", LATER)
    assert guard.first_use("https://ehr.example.org/", "ab", LATER)
    assert guard.first_use("Ä\udc80", "\ud800", LATER), "whatever a token can hold"


def test_no_token_is_stored(sqlite: Database) -> None:
    SharedGuard(sqlite).first_use("https://ehr.example.org", "secret-token-id", LATER)
    (row,) = sqlite.run(lambda connection: list(connection.execute(select(REPLAY))), "read")
    assert "secret" not in row.token
    assert row.expires_at >= LATER, "kept at least until it is too old anyway"


def test_of_many_threads_one_is_first(url: str) -> None:
    """8 threads over two processes' worth of connections, each with the same 500 tokens."""
    databases = [opened(url), opened(url)]
    guards = [SharedGuard(databases[number % 2]) for number in range(8)]
    ready = threading.Barrier(8)

    def claim(guard: SharedGuard) -> list[str]:
        ready.wait()
        return [jti for jti in map(str, range(500)) if guard.first_use("https://ehr.example.org", jti, LATER)]

    with ThreadPoolExecutor(8) as pool:
        won = [jti for mine in pool.map(claim, guards) for jti in mine]
    assert sorted(won, key=int) == [str(number) for number in range(500)]
    for database in databases:
        database.close()
