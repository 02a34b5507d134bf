"""From settings to a store that is ready: which database, which key, and the schema."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cds_hooks.errors import ContentError
from cds_hooks.store.database import Database, parse_url
from cds_hooks.store.housekeeping import Housekeeping
from cds_hooks.store.memory import StoredMemory
from cds_hooks.store.replay import SharedGuard
from cds_hooks.store.schema import migrate
from cds_hooks.store.secret import Key, checked, own_key, read_key

FILE: Final = "cds.db"


class Wanted(Protocol):
    """What the settings say of storage. Without `url` it is a SQLite file in the data folder."""

    @property
    def url(self) -> str | None: ...
    @property
    def key_file(self) -> Path | None: ...
    @property
    def secret_key(self) -> str | None: ...
    @property
    def secret_password(self) -> str | None: ...
    @property
    def keep_days(self) -> int: ...
    @property
    def comment_days(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Store:
    """The parts of a store that a running server needs."""

    database: Database
    memory: StoredMemory
    guard: SharedGuard
    housekeeping: Housekeeping

    def close(self) -> None:
        """Write what waits; close the connections."""
        self.housekeeping.stop()
        self.memory.close()


def database_of(wanted: Wanted, data: Path, *, create: bool = False) -> Database:
    """The database that the settings name; raises ContentError if they name none that can be used."""
    url = parse_url(wanted.url or f"sqlite:///{data.absolute() / FILE}")
    if url.get_backend_name() == "sqlite":
        path = Path(str(url.database))
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # comments may hold patient data
        except OSError as error:
            raise ContentError(str(path.parent), "", f"cannot write here: {error.strerror or error}") from None
    elif wanted.secret_password is not None:
        url = url.set(password=wanted.secret_password)
    return Database(url, create=create)


def key_of(wanted: Wanted, data: Path) -> Key:
    """The key of the hashes; raises ContentError if it is missing where it must be given."""
    if wanted.secret_key is not None:
        return checked(wanted.secret_key, "environment", "CDS_HOOKS_STORAGE__KEY")
    if wanted.key_file is not None:
        return read_key(wanted.key_file)
    if parse_url(wanted.url or "sqlite:///x").get_backend_name() != "sqlite":
        reason = "several instances on PostgreSQL need one key: name a file that holds it, the same for all of them"
        raise ContentError("settings", "storage.key_file", reason)
    return own_key(data)


def prepare(wanted: Wanted, data: Path, *, wait: float = 30.0) -> None:
    """Before the port opens: make or migrate the database, and the key. Raises ContentError."""
    database = database_of(wanted, data, create=True)
    key_of(wanted, data)
    try:
        migrate(database, wait=wait)
    finally:
        database.close()


def open_store(wanted: Wanted, data: Path) -> Store:
    """The store of one process. Opens no connection: a database that is down keeps no worker from starting."""
    database, key = database_of(wanted, data), key_of(wanted, data)
    housekeeping = Housekeeping(
        database, keep_days=wanted.keep_days, comment_days=wanted.comment_days, holder=uuid.uuid4().hex
    )
    return Store(database, StoredMemory(database, key), SharedGuard(database), housekeeping)
