"""The report: from rows in the database to what a person reads."""

from __future__ import annotations

import csv
import io
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from a_database import ELSEWHERE, NOW, accepted, days, issued, memory, opened, overridden
from click.testing import CliRunner, Result

from cds_hooks.cli import main
from cds_hooks.loading import Loaded, load_all
from cds_hooks.protocol.caller import ANONYMOUS, Caller
from cds_hooks.report.figures import NO_REASON, Row, figures
from cds_hooks.report.page import as_page
from cds_hooks.report.text import as_csv, as_table
from cds_hooks.store.database import Database
from cds_hooks.store.port import IssuedCard
from cds_hooks.store.tally import tally


@pytest.fixture(scope="module")
def plans() -> list[Loaded]:
    return load_all()


@pytest.fixture(scope="module")
def offered(plans: list[Loaded]) -> frozenset[tuple[str | None, str]]:
    return frozenset((one.get("system"), one["code"]) for one in plans[0].plan.override_reasons)


class History:
    """What has happened, in a database."""

    def __init__(self, database: Database, offered: frozenset[tuple[str | None, str]]) -> None:
        self._remembered, self._offered = memory(database), offered

    def card(
        self, topic: str = "imaging-standard-mri", *, caller: Caller = ANONYMOUS, age: float = 0, **more: str
    ) -> str:
        card: IssuedCard = replace(issued(topic, topic=topic), plan="hemifacial-spasm", **more)  # type: ignore[arg-type]
        self._remembered.issued(caller, "p", [card], NOW - days(age))
        return card.card

    def accept(self, card: str, caller: Caller = ANONYMOUS, age: float = 0) -> None:
        self._remembered.feedback(caller, [accepted(card, at=NOW - days(age))], self._offered, NOW)

    def override(self, card: str, caller: Caller = ANONYMOUS, age: float = 0, **why: object) -> None:
        self._remembered.feedback(caller, [overridden(card, NOW - days(age), **why)], self._offered, NOW)

    def close(self) -> None:
        self._remembered.close()


@pytest.fixture
def history(database: Database, offered: frozenset[tuple[str | None, str]]) -> Iterator[History]:
    found = History(database, offered)
    yield found
    found.close()


def rows(history: History, database: Database, plans: list[Loaded], **asked: object) -> list[Row]:
    history.close()  # what waits is written
    return figures(tally(database, **asked), plans)  # type: ignore[arg-type]


def test_every_card_is_counted_once(history: History, database: Database, plans: list[Loaded]) -> None:
    for _ in range(4):
        history.card()
    history.accept(history.card())
    history.override(history.card(), reason={"code": "patient-refuses"})
    twice = history.card()
    history.override(twice, age=2)
    history.accept(twice, age=1)
    history.override(str(uuid.uuid4()))  # of no card of ours
    (row,) = rows(history, database, plans)
    assert (row.issued, row.accepted, row.overridden, row.ignored) == (7, 2, 1, 4)
    assert row.title == next(rule.topic["display"] for rule in plans[0].plan.rules if rule.id == "imaging-standard-mri")
    assert row.reasons == {"Patient declines": 1}
    assert row.target == 50


def test_reasons_by_name_and_number(history: History, database: Database, plans: list[Loaded]) -> None:
    declined, done = {"code": "patient-refuses"}, {"code": "action-completed"}
    own = {"code": "own", "display": "Mr X"}
    for why in ({"reason": declined}, {"reason": own}, {}, {"userComment": "Mr X"}, {"reason": done},
                {"reason": declined}):  # fmt: skip
        history.override(history.card(), **why)
    (row,) = rows(history, database, plans)
    assert row.reasons == {NO_REASON: 3, "Patient declines": 2, "Already taken care of": 1}
    assert "Mr X" not in as_page([row], "t", date(2026, 11, 21)) + as_csv([row]) + "\n".join(as_table([row]))


def test_since_and_of_whom(history: History, database: Database, plans: list[Loaded]) -> None:
    history.card(age=100)
    history.card(age=1)
    history.card(caller=ELSEWHERE)
    foreign = history.card()
    history.override(foreign, caller=ELSEWHERE)
    history.close()

    def total(**asked: object) -> tuple[int, int]:
        found = figures(tally(database, **asked), plans)  # type: ignore[arg-type]
        return sum(row.issued for row in found), sum(row.overridden for row in found)

    assert total() == (4, 0), "feedback of another client about a card is of an unknown card"
    assert total(since=NOW - days(90)) == (3, 0)
    assert total(client="other-hospital") == (1, 0)
    assert total(client="") == (3, 0)


def test_versions_apart_and_the_latest_first(history: History, database: Database, plans: list[Loaded]) -> None:
    history.card(version="1.9.0", age=3)
    history.card(version="1.10.0", age=1)
    history.card(version="1.9.0", content="other", age=2)
    history.card("safety-mr-unsafe", version="1.10.0", age=9)
    history.card("no-longer-there", version="1.10.0", age=9)
    found = [(row.version, row.content, row.topic) for row in rows(history, database, plans)]
    assert found == [
        ("1.10.0", "c0ffee", "safety-mr-unsafe"), ("1.10.0", "c0ffee", "imaging-standard-mri"),
        ("1.10.0", "c0ffee", "no-longer-there"), ("1.9.0", "other", "imaging-standard-mri"),
        ("1.9.0", "c0ffee", "imaging-standard-mri"),
    ]  # fmt: skip


def row(accepted: int = 0, overridden: int = 0, target: int | None = 50, **more: object) -> Row:
    return Row("p", "1", "c", "topic", "Title", target, accepted, overridden, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("taken", "turned_down", "verdict"), [
    (0, 0, "open"), (1, 0, "open"), (0, 1, "open"), (3, 0, "open"), (4, 0, "below"), (0, 4, "above"), (50, 50, "open"),
    (58, 42, "open"), (600, 400, "below"), (400, 600, "above"), (9, 1, "below"), (1, 9, "above"),
])  # fmt: skip
def test_few_answers_decide_nothing(taken: int, turned_down: int, verdict: str) -> None:
    judged = row(taken, turned_down)
    assert judged.verdict == verdict
    low, high = judged.span
    assert 0 <= low <= (judged.rate or 0) <= high <= 100


def test_wilson_as_published() -> None:
    """Newcombe, Stat Med 1998;17:857-872, table I: 81 of 263 gives 0.2553 to 0.3662 (without continuity correction)."""
    low, high = row(263 - 81, 81).span
    assert (round(low, 2), round(high, 2)) == (25.53, 36.62)


def test_without_a_target() -> None:
    assert row(1, 1, None).verdict == "no target"
    assert "no target" in "\n".join(as_table([row(1, 1, None)]))


def test_csv_that_a_spreadsheet_cannot_run() -> None:
    text = as_csv([row(1, 2, reasons={"=HYPERLINK(1)": 2})])
    header, *lines = csv.reader(io.StringIO(text))
    assert dict(zip(header, lines[0], strict=True))["override_rate_percent"] == "66.7"
    assert lines[1][4] == "'=HYPERLINK(1)"


def test_the_page_is_one_file_of_literal_text() -> None:
    odd = Row("<b>p", "1&2", "c", "t", 'T"<script>', 50, 3, 9, 2, {"<img>": 9})
    page = as_page([odd, row()], "Report <1>", date(2026, 11, 21))
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>p" not in page
    assert not re.search(r"(src|href)=|url\(|@import|https?://", page.replace("http://www.w3.org/2000/svg", ""))
    assert page.count("<rect") == 3
    assert "nobody answered" in page
    assert "75 % overridden: " in page


def test_nothing_to_report(plans: list[Loaded]) -> None:
    assert figures([], plans) == []
    assert "\n".join(as_table([])) == "no card was issued in this time"
    assert list(as_table([], "nobody")) == ['no card was issued to a client "nobody" in this time']
    assert "No card was issued" in as_page([], "t", date(2026, 11, 21))


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, offered: frozenset[tuple[str | None, str]]) -> Path:
    database = opened(f"sqlite:///{tmp_path / 'cds.db'}")
    history = History(database, offered)
    now = (datetime.now().astimezone() - NOW) / timedelta(days=1)
    history.override(history.card(age=1 - now))
    history.card(age=100 - now)
    history.close()
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments])


def test_as_a_table(folder: Path) -> None:
    shown = run("--data", str(folder))
    assert shown.exit_code == 0, shown.output
    assert re.search(r"imaging-standard-mri +2 +0 +1 +1 +100 %", shown.output)
    again = run("--db", f"sqlite:///{folder / 'cds.db'}", "--since", "90d")
    assert re.search(r"imaging-standard-mri +1 +0 +1 +0 +100 %", again.output)


def test_as_csv_and_as_a_page(folder: Path) -> None:
    assert run("--data", str(folder), "--csv").output.startswith("plan,version,")
    shown = run("--data", str(folder), "--since", "2000-01-01", "--out", str(folder / "r.html"))
    assert shown.exit_code == 0
    assert "<svg" in (folder / "r.html").read_text("utf-8")


@pytest.mark.parametrize("since", ["yesterday", "90", "-3d", "", "9999999999999d", "2026-13-01"])
def test_a_time_that_is_none(folder: Path, since: str) -> None:
    shown = run("--data", str(folder), "--since", since)
    assert shown.exit_code == 1
    assert "--since: a date" in shown.output


def test_no_database(tmp_path: Path) -> None:
    shown = run("--data", str(tmp_path / "nowhere"))
    assert shown.exit_code == 1
    assert f"{tmp_path / 'nowhere' / 'cds.db'}: nothing was stored there" in shown.output
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("arguments", [("--csv", "--out", "r.csv"), ("--out", "r.csv"), ("--out", "r.txt")])
def test_a_page_is_a_page(folder: Path, arguments: tuple[str, ...]) -> None:
    shown = run("--data", str(folder), *arguments)
    assert shown.exit_code == 1
    assert "--out writes a page" in shown.output
    assert not Path(arguments[-1]).exists()
