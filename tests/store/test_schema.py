"""The schema, from nothing to now, by several instances at once, and of a release that is newer."""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from a_database import SECRET, Wanted, opened
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from cds_hooks.errors import ContentError
from cds_hooks.store.database import Database, parse_url
from cds_hooks.store.opening import key_of, open_store, prepare
from cds_hooks.store.schema import migrate, scripts
from cds_hooks.store.secret import NAME, own_key
from cds_hooks.store.tables import METADATA


def test_migrations_lead_to_the_tables(database: Database) -> None:
    with database.engine("read").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_second_time_changes_nothing(database: Database) -> None:
    migrate(database)
    with database.engine("read").connect() as connection:
        stored = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    assert stored == [scripts().get_current_head()]


def test_several_start_at_once(url: str) -> None:
    code = (
        "import sys; from cds_hooks.store.database import Database, parse_url\n"
        "from cds_hooks.store.schema import migrate\n"
        "migrate(Database(parse_url(sys.argv[1]), create=True))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE) for _ in range(4)]
    assert [(one.wait(60), one.communicate()[1]) for one in started] == [(0, b"")] * 4


def test_a_newer_schema_is_refused(database: Database) -> None:
    def newer(connection: object) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))  # type: ignore[attr-defined]

    database.run(newer, "write")
    with pytest.raises(ContentError, match="schema of a newer release") as refused:
        migrate(database)
    assert "install that release" in refused.value.reason


def test_a_failed_migration_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A table in the way of the last step: the steps before it are undone."""
    def clear(connection: object) -> None:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(text(f"DROP TABLE {table.name}"))  # type: ignore[attr-defined]
        connection.execute(text("DELETE FROM alembic_version"))  # type: ignore[attr-defined]
        connection.execute(text("CREATE TABLE chores (other INTEGER)"))  # type: ignore[attr-defined]

    database.run(clear, "write")
    with pytest.raises(ContentError, match=r"storage\.url"):
        migrate(database, wait=0)
    with database.engine("read").connect() as connection, pytest.raises(Exception, match="issued"):
        connection.execute(text("SELECT * FROM issued"))


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "cds.db").write_text("this is no database, but a text of some length" * 100)
    with pytest.raises(ContentError, match=r"storage\.url: the database cannot be"):
        migrate(Database(parse_url(f"sqlite:///{tmp_path / 'cds.db'}")), wait=0)


def test_a_database_that_starts_late_is_waited_for(server: object) -> None:
    nobody = Database(parse_url("postgresql://cds:wrong@127.0.0.1:1/cds"))
    began = time.monotonic()
    with pytest.raises(ContentError) as refused:
        migrate(nobody, wait=0.5)
    assert 0.4 < time.monotonic() - began < 5
    assert "127.0.0.1" not in str(refused.value)
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("url", [
    "mysql://root@localhost/x", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true", "nonsense",
    "postgresql+psycopg2://x/y", "",
])  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ContentError, match=r"storage\.url"):
        parse_url(url)


# --- The key, and opening --------------------------------------------------------------------------------------------


def test_sqlite_makes_its_own_key_once(tmp_path: Path) -> None:
    prepare(Wanted(), tmp_path / "data")
    key, file = tmp_path / "data" / NAME, tmp_path / "data" / "cds.db"
    first = key.read_text()
    assert len(first.strip()) == 64
    assert [stat.S_IMODE(path.stat().st_mode) for path in (key, file)] == [0o600, 0o600]
    prepare(Wanted(), tmp_path / "data")
    assert key.read_text() == first
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["cds.db", NAME]


def test_several_processes_make_one_key(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: own_key(tmp_path).fingerprint("x", "y"), range(8)))
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_postgresql_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="need one key"):
        key_of(Wanted("postgresql+psycopg://cds@db.example.org/cds"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    with pytest.raises(ContentError, match="32 characters"):
        key_of(Wanted(key_file=tmp_path / "key"), tmp_path)
    with pytest.raises(ContentError, match="32 characters"):
        key_of(Wanted(secret_key="short"), tmp_path)
    with pytest.raises(ContentError, match="cannot be read"):
        key_of(Wanted(key_file=tmp_path / "nowhere"), tmp_path)


def test_the_same_key_from_file_and_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET + "\n")
    one, two = key_of(Wanted(key_file=tmp_path / "key"), tmp_path), key_of(Wanted(secret_key=SECRET), tmp_path)
    assert one.fingerprint("patient", "a", "b") == two.fingerprint("patient", "a", "b")
    assert one.fingerprint("patient", "a", "b") != one.fingerprint("patient", "ab", "")
    assert one.fingerprint("patient", "a") != one.fingerprint("orders", "a")


def test_a_worker_starts_while_the_database_is_away(tmp_path: Path) -> None:
    store = open_store(Wanted(), tmp_path)
    assert store.memory.failing() is not None
    assert not (tmp_path / "cds.db").exists(), "an empty database in place of a lost one would hide the loss"
    opened(f"sqlite:///{tmp_path / 'cds.db'}").close()
    time.sleep(1.1)
    assert store.memory.failing() is None
    store.close()
