"""The same tests on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from a_database import Postgres, opened, postgres

from cds_hooks.store.database import Database


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A running PostgreSQL, the same for all tests of a run."""
    try:
        with postgres() as running:
            yield running
    except LookupError as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'cds.db'}"
    running: Postgres = request.getfixturevalue("server")
    return running.new_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A migrated database, once of each kind."""
    found = opened(url)
    yield found
    found.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite file `cds.db`, opened as a server does: it is not made anew when it vanishes."""
    opened(f"sqlite:///{tmp_path / 'cds.db'}").close()
    found = opened(f"sqlite:///{tmp_path / 'cds.db'}", create=False)
    yield found
    found.close()
