"""Several workers, several instances, one database: what one has seen, all have seen."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from a_database import SECRET, Postgres
from an_instance import FEEDBACK, PLAN, Server, feedback, serving
from made_up_clients import bearer, jwks, signed
from test_snooze import body as hook_body

PUBLIC = "https://cds.example.org"
ISSUER = "https://ehr.example.org"
CALL = f"/cds-services/{PLAN}-patient-view"


def token(path: str, jti: str | None = None) -> str:
    now = int(time.time())
    return bearer(signed(iss=ISSUER, aud=PUBLIC + path, iat=now, exp=now + 300, jti=jti or str(uuid.uuid4())))


def configured(folder: Path, storage: str = "") -> Path:
    """Settings with one client; its keys are in a file."""
    folder.mkdir(exist_ok=True)
    (folder / "jwks.json").write_text(json.dumps(jwks()))
    file = folder / "settings.toml"
    file.write_text(f"""
public_url = "{PUBLIC}"
{storage}
[[clients]]
name = "hospital"
issuer = "{ISSUER}"
jwks_file = "{folder / 'jwks.json'}"
""")
    return file


def call(server: Server, authorization: str, of: str = "p1") -> tuple[int, Any]:
    asked = hook_body("patient-view", of=of)
    asked["prefetch"]["conditions"]["entry"][0]["resource"]["recordedDate"] = time.strftime("%Y-%m-%d")
    return server.post(CALL, asked, Authorization=authorization)


def send(server: Server, card: str, **more: str) -> int:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return server.post(FEEDBACK, feedback(card, at=now), Authorization=token(FEEDBACK), **more)[0]


# --- Two workers on one file -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("workers")
    with serving(folder / "data", configured(folder)) as server:
        # Each worker reads the client's keys with its first call; few calls wait for that, and others are refused.
        for _ in range(20):
            server.post(CALL, {}, Authorization=token(CALL))
        yield server, folder / "data" / "cds.db"


def rows(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_the_same_feedback_to_two_workers_is_one_row(workers: tuple[Server, Path]) -> None:
    server, path = workers
    assert len(server.workers()) == 2
    card = str(uuid.uuid4())
    body = feedback(card)
    with ThreadPoolExecutor(8) as pool:  # each on a connection of its own: the workers share them
        answers = list(pool.map(lambda _: server.post(FEEDBACK, body, Authorization=token(FEEDBACK)), range(40)))
    assert answers == [(200, {})] * 40
    assert rows(path, f"SELECT outcome FROM feedback WHERE card = '{card}'") == [("overridden",)]  # noqa: S608


def test_each_of_many_tokens_is_let_in_once(workers: tuple[Server, Path]) -> None:
    """8 threads, each with the same tokens (with 500 of them in test_replay, below the HTTP)."""
    server, _ = workers
    tokens = [token(CALL, f"once-{number}") for number in range(100)]
    empty = {"hook": "patient-view"}  # refused after the token: 400 says that it was let in

    def use(_: int) -> list[int]:
        return [server.post(CALL, empty, Authorization=one)[0] for one in tokens]

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(use, range(8)))
    by_token = [Counter(column) for column in zip(*statuses, strict=True)]
    assert by_token == [Counter({401: 7, 400: 1})] * 100


def test_stopped_in_the_moment_of_a_card_it_is_still_remembered(tmp_path: Path) -> None:
    with serving(tmp_path / "data", configured(tmp_path)) as server:
        status, answer = call(server, token(CALL))
        server.stop()
    assert status == 200
    stored = rows(tmp_path / "data" / "cds.db", "SELECT card, client, rule FROM issued")
    assert stored == [(answer["cards"][0]["uuid"], "hospital", "imaging-none-on-record")]


# --- Two instances on one PostgreSQL ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def instances(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server, str]]:
    folder = tmp_path_factory.mktemp("instances")
    url = server.new_database()
    (folder / "key").write_text(SECRET)
    (folder / "password").write_text(url.split(":")[2].split("@")[0])
    bare = url.replace(url.split(":")[2].split("@")[0], "").replace("cds:@", "cds@")
    storage = f'[storage]\nurl = "{bare}"\nkey_file = "{folder / "key"}"\npassword_file = "{folder / "password"}"\n'
    config = configured(folder, storage)
    with ExitStack() as both:
        # Started at the same moment: one migrates, the other waits for it.
        with ThreadPoolExecutor(2) as pool:
            one, two = pool.map(both.enter_context, [serving(folder / name, config) for name in ("one", "two")])
        yield one, two, url


def asked(url: str, query: str) -> list[Any]:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]


def test_a_replayed_token_is_refused_by_the_other_instance(instances: tuple[Server, Server, str]) -> None:
    one, two, _ = instances
    used = token(CALL)
    assert call(one, used)[0] == 200
    assert [call(two, used)[0], call(one, used)[0]] == [401, 401]
    assert call(two, token(CALL))[0] == 200


def test_feedback_to_the_other_instance_is_tied_to_the_card(instances: tuple[Server, Server, str]) -> None:
    one, two, url = instances
    _, answer = call(one, token(CALL), of="tied")
    (card,) = answer["cards"]
    assert send(two, card["uuid"]) == 200, "at once, perhaps before the card itself is in the database"
    until = time.monotonic() + 5
    tie = "SELECT f.outcome, i.rule FROM feedback f JOIN issued i USING (card, client, tenant) WHERE card = %s"
    while not (tied := asked(url, tie.replace("%s", f"'{card['uuid']}'"))):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert tied == [("overridden", "imaging-none-on-record")]
    assert [call(server, token(CALL), of="tied")[1] for server in (one, two)] == [{"cards": []}] * 2
    assert call(two, token(CALL), of="somebody-else")[1]["cards"] != []


def test_nothing_in_the_database_names_the_patient(instances: tuple[Server, Server, str]) -> None:
    one, _, url = instances
    call(one, token(CALL, "jti-in-the-clear"), of="name-of-a-patient")
    time.sleep(0.5)
    tables = ("issued", "feedback", "replay", "chores")
    everything = "".join(str(asked(url, f"SELECT * FROM {table}")) for table in tables)  # noqa: S608
    assert "imaging-none-on-record" in everything
    assert "name-of-a-patient" not in everything
    assert "jti-in-the-clear" not in everything
