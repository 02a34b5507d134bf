"""Makes the helpers of this folder importable from every test, and prints the table of attacks after the run."""

from collections.abc import Callable

import pytest

Told = Callable[[str, str, int | str, str], None]


@pytest.fixture
def attack(record_property: Callable[[str, object], None]) -> Told:
    """Put a row into the table of attacks: attack, what was sent, status, class of reason."""
    return lambda name, sent, status, reason: record_property("attack", (name, sent, str(status), reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the attacks that were tried, each with what became of it; one that was not fended off is told as such."""
    rows: list[tuple[str, ...]] = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call":
                found = [tuple(value) for name, value in report.user_properties if name == "attack"]
                rows += [(*row, "fended off" if outcome == "passed" else "SUCCEEDED") for row in found]
    if not rows:
        return
    table = [("attack", "what was sent", "status", "reason", "outcome"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    terminalreporter.section(f"{len(rows)} attacks")
    for row in table:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
