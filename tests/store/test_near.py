"""Connections for the one question of each call: few, closed, and on the file that is there."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest

from cds_hooks.store.near import _KEPT, Near


class Opened:
    """Opens connections and remembers them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all: list[sqlite3.Connection] = []

    def __call__(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.all.append(connection)
        return connection

    def open(self) -> int:
        def usable(connection: sqlite3.Connection) -> bool:
            try:
                connection.execute("SELECT 1")
            except sqlite3.ProgrammingError:
                return False
            return True

        return sum(map(usable, self.all))


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    return Opened(path)


def test_threads_that_end_leave_nothing_open(opened: Opened) -> None:
    near = Near(opened, lambda: "file")
    for _ in range(50):
        thread = Thread(target=lambda: near.rows("SELECT a FROM t", []))
        thread.start()
        thread.join()
    assert len(opened.all) == 1
    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(lambda _: near.rows("SELECT a FROM t", [])[0][0], range(400))) == {1}
    assert opened.open() <= _KEPT
    near.close()
    assert opened.open() == 0


def test_another_file_is_opened_anew(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    now, file = [0.0], ["one"]
    monkeypatch.setattr("cds_hooks.store.near.time.monotonic", lambda: now[0])
    near = Near(opened, lambda: file[0])
    for now[0], file[0], connections in [(1.0, "one", 1), (2.0, "one", 1), (3.0, "two", 2), (4.0, "two", 2)]:
        near.rows("SELECT a FROM t", [])
        assert len(opened.all) == connections
        assert opened.open() == 1
    near.close()


def test_who_fails_is_closed_and_nobody_writes(opened: Opened) -> None:
    near = Near(opened, lambda: "file")
    for text in ("SELECT nothing FROM nowhere", "INSERT INTO t VALUES (2)"):
        with pytest.raises(sqlite3.Error):
            near.rows(text, [])
        assert opened.open() == 0
    assert near.rows("SELECT a FROM t", []) == [(1,)]
    near.close()
