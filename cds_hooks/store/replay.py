"""The replay guard in the database: what one worker or instance has accepted, every other refuses."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from sqlalchemy import Connection

from cds_hooks.store.database import Database
from cds_hooks.store.tables import REPLAY
from cds_hooks.store.writing import insert_new


class SharedGuard:
    """See `trust.replay.ReplayGuard`. One insert for each token; the primary key decides who was first."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database
        self._insert: Final = insert_new(REPLAY, database.sqlite)

    def first_use(self, issuer: str, jti: str, expires: float) -> bool:
        """Note this token, and tell whether it is the first time; raises StorageError.

        `expires` is in seconds since 1970. What is stored is a hash without a key: a jti is long and random, and a
        change of the key must not make used tokens good again.
        """
        told = f"{len(issuer)}:{issuer}{jti}".encode("utf-8", "surrogatepass")
        # Rounded up: a token must not be forgotten while it is still good.
        row = {"token": sha256(told).hexdigest(), "expires_at": int(expires) + 1}

        def note(connection: Connection) -> bool:
            return connection.execute(self._insert, row).rowcount == 1

        return self._database.run(note, "write")
