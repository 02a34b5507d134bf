"""The schema: brought up to date before the port opens, by one process at a time, or refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from cds_hooks.errors import ContentError
from cds_hooks.store.database import Database, reason

_FOLDER: Final = Path(__file__).parent / "migrations"
#: Any number, the same in all releases: who holds this advisory lock may migrate.
_LOCK: Final = 0x6364_7368
#: Seconds for another instance to finish its migration, and for a database that starts beside us.
_WAIT: Final = 30.0


def scripts() -> ScriptDirectory:
    """The migrations of this release."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def migrate(database: Database, *, wait: float = _WAIT) -> None:
    """Bring the schema up to date, all or nothing; raise ContentError saying in a sentence why it cannot be done.

    Two instances that start at once take turns. A database that cannot be reached is tried again until `wait` seconds
    are over.
    """
    until = time.monotonic() + wait
    while True:
        try:
            with database.engine("keep").connect() as connection, connection.begin():
                _locked(connection, _upgrade)
            return
        except OperationalError as error:
            if time.monotonic() > until:
                raise _refused(f"cannot be used: {reason(error)}") from None
            time.sleep(0.2)
        except DBAPIError as error:
            raise _refused(f"cannot be brought up to date: {reason(error)}") from None
        except SQLAlchemyError as error:
            raise _refused(f"cannot be used: {type(error).__name__}") from None


def _locked(connection: Connection, work: Callable[[Connection], None]) -> None:
    """Do the work while no other process migrates. SQLite: the transaction itself has the file for itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    work(connection)


def _upgrade(connection: Connection) -> None:
    known = scripts()
    config = Config()
    with EnvironmentContext(config, known) as environment:
        # transactional_ddl: SQLite can undo DDL too, as long as nobody commits in between.
        environment.configure(connection, transactional_ddl=True, fn=lambda revision, _: _steps(known, revision))
        environment.run_migrations()


def _steps(known: ScriptDirectory, revision: tuple[str, ...]) -> list[object]:
    ours = {script.revision for script in known.walk_revisions()}
    if not set(revision) <= ours:
        raise _refused(
            "has the schema of a newer release than this one; install that release again, or go back to a copy of the"
            " database from before it"
        )
    return list(known._upgrade_revs("head", revision))  # type: ignore[arg-type]


def _refused(why: str) -> ContentError:
    return ContentError("settings", "storage.url", f"the database {why}")
