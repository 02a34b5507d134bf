"""Makes the helpers of this folder importable from every test; prints the tables of attacks and faults after a run."""

from collections.abc import Callable

import pytest

Told = Callable[[str, str, int | str, str], None]

#: Kind of row -> heading of each column; the last one says how the test ended.
TABLES = {
    "attack": ("attack", "what was sent", "status", "reason", "outcome"),
    "fault": ("fault", "status", "cards", "ms", "what the trace says", "outcome"),
}
ENDS = {"attack": ("fended off", "SUCCEEDED"), "fault": ("survived", "FAILED")}


@pytest.fixture
def attack(record_property: Callable[[str, object], None]) -> Told:
    """Put a row into the table of attacks: attack, what was sent, status, class of reason."""
    return lambda name, sent, status, reason: record_property("attack", (name, sent, str(status), reason))


@pytest.fixture
def fault(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Put a row into the table of faults: fault, status, cards, milliseconds, what the trace says."""
    return lambda *cells: record_property("fault", tuple(map(str, cells)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was tried, each with what became of it; one that was not survived is told as such."""
    for kind in TABLES:
        _print(terminalreporter, kind)


def _print(terminalreporter: pytest.TerminalReporter, kind: str) -> None:
    rows: list[tuple[str, ...]] = []
    for outcome, word in zip(("passed", "failed"), ENDS[kind], strict=True):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call":
                rows += [(*value, word) for name, value in report.user_properties if name == kind]
    if not rows:
        return
    table = [TABLES[kind], *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section(f"{len(rows)} {kind}s")
    for row in table:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
