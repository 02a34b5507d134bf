"""Databases for tests: a SQLite file, and a real PostgreSQL that the tests start by themselves."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cds_hooks.protocol.caller import Caller
from cds_hooks.protocol.feedback import FeedbackItem, parse_feedback
from cds_hooks.store.database import Database, parse_url
from cds_hooks.store.memory import StoredMemory
from cds_hooks.store.port import IssuedCard
from cds_hooks.store.schema import migrate
from cds_hooks.store.secret import Key

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
ELSEWHERE = Caller("other-hospital")
OFFERED = frozenset({("urn:reasons", "known"), ("urn:reasons", "refused")})
SECRET = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Wanted:
    """Storage settings."""

    url: str | None = None
    key_file: Path | None = None
    secret_key: str | None = field(default=None, repr=False)
    secret_password: str | None = field(default=None, repr=False)
    keep_days: int = 730
    comment_days: int = 90


def opened(url: str, *, create: bool = True) -> Database:
    """The database at the URL, migrated."""
    database = Database(parse_url(url), create=create)
    migrate(database, wait=5)
    return database


def memory(database: Database) -> StoredMemory:
    return StoredMemory(database, Key(SECRET), NOW.timestamp)


def issued(rule: str = "some-rule", orders: str = "", card: str | None = None, topic: str = "some-topic") -> IssuedCard:
    return IssuedCard(
        card=card or str(uuid.uuid4()), suggestions=(str(uuid.uuid4()),), service="plan-patient-view", plan="plan",
        version="1.0.0", content="c0ffee", site="", rule=rule, topic=topic, indicator="info", orders=orders,
    )  # fmt: skip


def overridden(card: str, at: datetime = NOW, **reason: object) -> FeedbackItem:
    item = {"card": card, "outcome": "overridden", "outcomeTimestamp": at.isoformat()}
    return parse_feedback({"feedback": [item | ({"overrideReason": reason} if reason else {})]})[0]


def accepted(card: str, *suggestions: str, at: datetime = NOW) -> FeedbackItem:
    item = {"card": card, "outcome": "accepted", "outcomeTimestamp": at.isoformat(),
            "acceptedSuggestions": [{"id": one} for one in suggestions or ("some-suggestion",)]}  # fmt: skip
    return parse_feedback({"feedback": [item]})[0]


def days(number: float) -> timedelta:
    return timedelta(days=number)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def binaries() -> Path | None:
    """The folder of PostgreSQL's own commands: Debian keeps them out of the path. None if there is no server."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class Postgres:
    """A PostgreSQL server of our own, on a free port of this machine, with its data in a temporary folder."""

    def __init__(self, folder: Path, commands: Path) -> None:
        self._folder, self._commands = folder, commands
        self._password = secrets.token_hex(8)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "password").write_text(self._password)
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            owner = pwd.getpwnam("postgres")
            for path in (folder, folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "-D", str(folder / "data"), "-U", "cds", "--auth=scram-sha-256", "-E", "UTF8",
                  "--no-sync", f"--pwfile={folder / 'password'}")  # fmt: skip

    def url(self, name: str = "postgres") -> str:
        return f"postgresql+psycopg://cds:{self._password}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._control("start", "-w", "-t", "30", "-l", str(self._folder / "log"), "-o", options)

    def stop(self) -> None:
        self._control("stop", "-m", "immediate", "-w")

    def halt(self, how: signal.Signals) -> None:
        """Stop all its processes where they are (SIGSTOP), or let them go on (SIGCONT)."""
        first = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        children = [path.read_text().split() for path in Path(f"/proc/{first}/task").glob("*/children")]
        others = [int(pid) for pids in children for pid in pids]
        for pid in (first, *others):
            os.kill(pid, how)

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        import psycopg

        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url().replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), *arguments)

    def _run(self, command: str, *arguments: str) -> None:
        argv = [str(self._commands / command), *arguments]
        user = "postgres" if os.getuid() == 0 else None
        subprocess.run(argv, check=True, user=user, group=user, extra_groups=[] if user else None, cwd=self._folder,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)  # fmt: skip


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server. Raises LookupError, in words for whoever wonders why a test was skipped, if there is none."""
    commands = binaries()
    if commands is None:
        raise LookupError("no PostgreSQL server on this machine; Debian: apt-get install postgresql")
    if os.getuid() == 0 and not any(entry.pw_name == "postgres" for entry in pwd.getpwall()):
        raise LookupError("PostgreSQL does not run as root, and there is no user postgres")
    with tempfile.TemporaryDirectory(prefix="cds-hooks-pg-") as folder:
        server = Postgres(Path(folder), commands)
        server.start()
        try:
            yield server
        finally:
            server.stop()
