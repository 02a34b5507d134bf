"""The report as a table for a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from cds_hooks.report.figures import Row

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_table(rows: Sequence[Row], client: str | None = None) -> Iterator[str]:
    """Lines for a terminal: one table for each version, the reasons below each topic; perhaps of one client only."""
    if not rows:
        yield f'no card was issued to a client "{client}" in this time' if client else "no card was issued in this time"
    width = max((len(row.topic) for row in rows), default=0) + 2
    for number, row in enumerate(rows):
        if number == 0 or row.edition != rows[number - 1].edition:
            yield from ([""] if number else [])
            yield f"{row.plan} {row.version} ({row.content})"
            yield f"{'topic':<{width}}{'issued':>8}{'accepted':>10}{'overridden':>12}{'ignored':>9}{'rate':>7}  target"
        rate = f"{row.rate:.0f} %" if row.rate is not None else "-"
        counts = f"{row.issued:>8}{row.accepted:>10}{row.overridden:>12}{row.ignored:>9}{rate:>7}"
        yield f"{row.topic:<{width}}{counts}  {judged(row)}"
        for reason, cards in row.reasons.items():
            yield f"    {cards:>4}  {reason}"


def judged(row: Row) -> str:
    """The rate against the target, in words."""
    if row.target is None:
        return row.verdict
    low, high = row.span
    words = {"below": "met", "above": "MISSED", "open": "too few answers to tell"}[row.verdict]
    return f"< {row.target} %: {words} (between {low:.0f} and {high:.0f} %)" if row.answered else f"< {row.target} %: -"


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each topic and version, and for each of its reasons; a first line with the names of the columns."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["plan", "version", "content", "topic", "reason", "issued", "accepted", "overridden", "ignored",
                     "override_rate_percent", "target_percent", "verdict"])  # fmt: skip
    for row in rows:
        rate = "" if row.rate is None else f"{row.rate:.1f}"
        told = [row.plan, row.version, row.content, row.topic]
        writer.writerow([*map(_plain, told), "", row.issued, row.accepted, row.overridden, row.ignored, rate,
                         "" if row.target is None else row.target, row.verdict])  # fmt: skip
        for reason, cards in row.reasons.items():
            writer.writerow([*map(_plain, told), _plain(reason), "", "", cards, "", "", "", ""])
    return out.getvalue()


def _plain(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
