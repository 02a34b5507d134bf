"""The database fails in every way we know: cards are answered, feedback hears 503, readiness tells, all comes back."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from a_database import SECRET, Postgres, Wanted
from flask.testing import FlaskClient
from sqlalchemy import event

from cds_hooks.loading import Loaded, load_all
from cds_hooks.service import CdsService
from cds_hooks.settings import Settings
from cds_hooks.store.opening import Store, open_store, prepare
from cds_hooks.web.app import create_app

SERVICE = "/cds-services/hemifacial-spasm-patient-view"
#: When users said so: these servers run by the real clock, and heed what was said lately.
SAID = datetime.now(UTC).isoformat()
STATUS = "http://terminology.hl7.org/CodeSystem/condition-clinical"
#: Seconds in which every answer must come, whatever the database does: the default deadline of a call, and a bit.
DEADLINE_S = 3.0


@pytest.fixture(scope="module")
def plans() -> list[Loaded]:
    return load_all()


def app_on(store: Store, plans: list[Loaded], tmp_path: Path) -> FlaskClient:
    service = CdsService(plans, memory=store.memory)
    return create_app(service, Settings(data=tmp_path, log="off")).test_client()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    prepare(Wanted(), tmp_path)
    opened = open_store(Wanted(), tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def client(store: Store, plans: list[Loaded], tmp_path: Path) -> FlaskClient:
    return app_on(store, plans, tmp_path)


def timed(ask: Callable[[], Any]) -> Any:
    began = time.monotonic()
    answer = ask()
    assert time.monotonic() - began < DEADLINE_S
    return answer


def feedback(client: FlaskClient, card: str | None = None) -> int:
    item = {"card": card or str(uuid.uuid4()), "outcome": "overridden", "outcomeTimestamp": SAID}
    answer = timed(lambda: client.post(f"{SERVICE}/feedback", json={"feedback": [item]}))
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) >= 1
        issue = answer.get_json()["issue"][0]
        assert (issue["severity"], issue["code"]) == ("error", "transient")
    return int(answer.status_code)


def ready(client: FlaskClient) -> int:
    time.sleep(1.1)  # what a probe found is good for a second
    return int(timed(lambda: client.get("/health/ready")).status_code)


def cards(client: FlaskClient) -> int:
    """How many cards a call gets that deserves one."""
    spasm = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p1"},
             "recordedDate": time.strftime("%Y-%m-%d"),
             "code": {"coding": [{"system": "http://snomed.info/sct", "code": "13753008"}]},
             "clinicalStatus": {"coding": [{"system": STATUS, "code": "active"}]}}  # fmt: skip
    empty = {"resourceType": "Bundle", "type": "searchset", "entry": []}
    keys = ("serviceRequests", "imagingStudies", "diagnosticReports", "procedures", "observations",
            "medicationRequests", "medicationAdministrations", "allergyIntolerances")  # fmt: skip
    prefetch = {"patient": {"resourceType": "Patient", "id": "p1", "birthDate": "1980-01-01"},
                **dict.fromkeys(keys, empty), "conditions": empty | {"entry": [{"resource": spasm}]}}  # fmt: skip
    body = {"hook": "patient-view", "hookInstance": str(uuid.uuid4()), "prefetch": prefetch,
            "context": {"userId": "Practitioner/u", "patientId": "p1"}}  # fmt: skip
    answer = timed(lambda: client.post(SERVICE, json=body))
    assert answer.status_code == 200
    return len(answer.get_json()["cards"])


def well(client: FlaskClient) -> None:
    assert (feedback(client), ready(client), cards(client)) == (200, 200, 1)


def ill(client: FlaskClient) -> None:
    assert (feedback(client), ready(client), cards(client)) == (503, 503, 1)


def test_the_file_is_deleted_and_restored(client: FlaskClient, tmp_path: Path) -> None:
    well(client)
    file, aside = tmp_path / "cds.db", tmp_path / "aside"
    os.rename(file, aside)
    ill(client)
    assert not file.exists(), "an empty database in place of a lost one would hide the loss"
    os.rename(aside, file)
    time.sleep(1.1)
    well(client)


def test_the_file_is_replaced_by_another(client: FlaskClient, tmp_path: Path) -> None:
    """As after going back to a backup: what is written from now on is written there."""
    prepare(Wanted(), tmp_path / "other")
    well(client)
    os.replace(tmp_path / "other" / "cds.db", tmp_path / "cds.db")
    for rest in tmp_path.glob("cds.db-*"):
        rest.unlink()
    card = str(uuid.uuid4())
    assert feedback(client, card) == 200
    with sqlite3.connect(tmp_path / "cds.db") as reader:
        assert card in {row[0] for row in reader.execute("SELECT card FROM feedback")}
    reader.close()


def test_the_disk_is_full(client: FlaskClient, store: Store, tmp_path: Path) -> None:
    """SQLite's own limit on the size of a file gives the same error as a disk without room."""
    full = threading.Event()

    def limited(connection: Any, record: Any, _: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages if full.is_set() else 1_000_000}")

    for mode in ("write", "keep"):
        event.listen(store.database.engine(mode), "checkout", limited)  # type: ignore[arg-type]
    well(client)
    full.set()
    statuses = {feedback(client) for _ in range(400)}
    assert 503 in statuses
    assert statuses <= {200, 503}
    assert cards(client) == 1
    full.clear()
    well(client)


def test_a_write_fails_for_lack_of_room_and_readiness_tells(client: FlaskClient, store: Store) -> None:
    def fail(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT"):
            raise sqlite3.OperationalError("database or disk is full")

    for mode in ("write", "keep"):
        event.listen(store.database.engine(mode), "before_cursor_execute", fail)  # type: ignore[arg-type]
    assert (feedback(client), ready(client), cards(client)) == (503, 503, 1)
    for mode in ("write", "keep"):
        event.remove(store.database.engine(mode), "before_cursor_execute", fail)  # type: ignore[arg-type]
    well(client)


def test_the_database_is_locked(client: FlaskClient, tmp_path: Path) -> None:
    """By a backup that went wrong, or somebody with a shell."""
    other = sqlite3.connect(tmp_path / "cds.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        ill(client)
    finally:
        other.execute("ROLLBACK")
        other.close()
    well(client)


def test_the_database_is_locked_for_a_moment(client: FlaskClient, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "cds.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.4, lambda: other.execute("ROLLBACK")).start()
    assert feedback(client) == 200, "who waits within the deadline is served"
    other.close()


def test_the_file_cannot_be_written(client: FlaskClient, store: Store) -> None:
    """Read-only for the server, which a test as root can say only by SQLite's own means."""
    def read_only(connection: Any, record: Any, _: Any) -> None:
        connection.execute("PRAGMA query_only=ON")

    for mode in ("write", "keep"):
        event.listen(store.database.engine(mode), "checkout", read_only)  # type: ignore[arg-type]
    ill(client)


def test_the_file_is_damaged(client: FlaskClient, store: Store, tmp_path: Path) -> None:
    well(client)
    store.database.close()
    for rest in tmp_path.glob("cds.db-*"):
        rest.unlink()
    (tmp_path / "cds.db").write_bytes(b"no database" * 1000)
    ill(client)


def test_nothing_of_the_patient_is_told(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "cds.db").unlink()
    time.sleep(0.01)
    item = {"card": str(uuid.uuid4()), "outcome": "overridden", "outcomeTimestamp": SAID,
            "overrideReason": {"userComment": "Mr. Secret"}}  # fmt: skip
    answer = client.post(f"{SERVICE}/feedback", json={"feedback": [item]})
    told = answer.get_data(as_text=True) + client.get("/health/ready").get_data(as_text=True)
    assert answer.status_code == 503
    assert "Secret" not in told
    assert str(tmp_path) not in told
    assert item["card"] not in told


def test_postgresql_is_restarted(server: Postgres, plans: list[Loaded], tmp_path: Path) -> None:
    wanted = Wanted(server.new_database(), secret_key=SECRET)
    prepare(wanted, tmp_path)
    store = open_store(wanted, tmp_path)
    client = app_on(store, plans, tmp_path)
    try:
        well(client)
        server.stop()
        try:
            ill(client)
        finally:
            server.start()
        time.sleep(1.1)
        well(client)
        server.stop()
        server.start()
        # The connections of the pool are stale; nobody need hear of it.
        well(client)
    finally:
        store.close()


def test_postgresql_hangs(server: Postgres, plans: list[Loaded], tmp_path: Path) -> None:
    """Connections stay open, and nothing comes over them: neither its own timeouts nor TCP's end the wait."""
    wanted = Wanted(server.new_database(), secret_key=SECRET)
    prepare(wanted, tmp_path)
    store = open_store(wanted, tmp_path)
    client = app_on(store, plans, tmp_path)
    try:
        well(client)
        server.halt(signal.SIGSTOP)
        try:
            ill(client)
            ill(client)
        finally:
            server.halt(signal.SIGCONT)
        time.sleep(1.1)
        well(client)
    finally:
        store.close()


def test_cards_of_an_outage_are_remembered_after_it(client: FlaskClient, store: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "cds.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert cards(client) == 1
    time.sleep(0.6)
    other.execute("ROLLBACK")
    until = time.monotonic() + 5
    while not (found := other.execute("SELECT rule FROM issued").fetchall()):
        assert time.monotonic() < until
        time.sleep(0.02)
    other.close()
    assert found == [("imaging-none-on-record",)]
