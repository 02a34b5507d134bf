"""The report as one HTML file: a bar for each topic, the rate of overrides against the target, and the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from html import escape
from itertools import groupby
from typing import Final

from cds_hooks.report.figures import Row

_COLOURS: Final = {"accepted": "#1b7f5c", "overridden": "#c2410c", "ignored": "#cbd2d9"}
_WORDS: Final = {"below": "target met", "above": "target missed", "open": "too few answers to tell",
                 "no target": "no target"}  # fmt: skip
_LABEL, _BAR, _GAP, _RATE, _LINE, _TOP = 330, 300, 90, 260, 34, 34  # pixels
_WIDTH: Final = _LABEL + _BAR + _GAP + _RATE + 30

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem } small, .aside { color: #52606d }
svg { width: 100%; height: auto } table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #e4e7eb; text-align: right; vertical-align: top }
th:first-child, td:first-child, td.words, th.words { text-align: left }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 1.2em }
ul { margin: 0; padding-left: 1.1rem } .above { color: #9b2c00; font-weight: 600 }
"""


def as_page(rows: Sequence[Row], title: str, today: date) -> str:
    """A whole page without scripts and without anything from elsewhere."""
    key = "".join(f'<span class="key" style="background:{colour}"></span>{name}' for name, colour in _COLOURS.items())
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<h1>{escape(title)}</h1><p class="aside">Made on {today.isoformat()}.{key}</p>',
        '<p class="aside">Left: what became of the cards. Right: of 100 answered cards, how many were overridden; the'
        " dot is the rate, its line is where it lies with 95 % confidence, the line across all of them is the target to"
        " stay below.</p>",
    ]
    if not rows:
        parts.append("<p>No card was issued in this time.</p>")
    for edition, members in groupby(rows, key=lambda row: row.edition):
        group = list(members)
        plan, version, content = (escape(part) for part in edition)
        parts += [f"<h2>{plan} {version} <small>({content})</small></h2>", *_chart(group), *_table(group)]
    return "\n".join(parts) + "\n"


def _chart(rows: Sequence[Row]) -> Iterator[str]:
    most = max(1, *(row.issued for row in rows))
    height = _TOP + _LINE * len(rows) + 26
    right = _LABEL + _BAR + _GAP
    yield f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" font-size="13" aria-label="Cards and overrides by topic">'
    yield f'<text x="{_LABEL}" y="16" fill="#52606d">cards issued</text>'
    yield f'<text x="{right}" y="16" fill="#52606d">overridden, of those answered</text>'
    for percent in (0, 25, 50, 75, 100):
        x = right + _RATE * percent / 100
        yield f'<path d="M{x} {_TOP - 8}h1v{height - _TOP - 16}h-1z" fill="#e4e7eb"/>'
        yield f'<text x="{x}" y="{height - 8}" text-anchor="middle" fill="#52606d">{percent} %</text>'
    for number, row in enumerate(rows):
        yield from _bar(row, _TOP + _LINE * number, most)
        yield from _dot(row, _TOP + _LINE * number, right)
    yield "</svg>"


def _bar(row: Row, y: float, most: int) -> Iterator[str]:
    yield f'<text x="{_LABEL - 12}" y="{y + 15}" text-anchor="end">{escape(_short(row.title))}'
    yield f"<title>{escape(row.title)} ({escape(row.topic)})</title></text>"
    x = float(_LABEL)
    for name, colour in _COLOURS.items():
        cards = getattr(row, name)
        width = _BAR * cards / most
        if cards:
            yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="22" fill="{colour}">'
            yield f"<title>{cards} {name}</title></rect>"
        x += width
    yield f'<text x="{x + 6:.1f}" y="{y + 15}" fill="#52606d">{row.issued}</text>'


def _dot(row: Row, y: float, left: float) -> Iterator[str]:
    if row.target is not None:
        x = left + _RATE * row.target / 100
        yield f'<path d="M{x - 1} {y - 4}h2v30h-2z" fill="#1f2933"/>'
    if row.rate is None:
        yield f'<text x="{left + 6}" y="{y + 15}" fill="#7b8794">nobody answered</text>'
        return
    low, high = (left + _RATE * end / 100 for end in row.span)
    colour = {"above": _COLOURS["overridden"], "below": _COLOURS["accepted"]}.get(row.verdict, "#52606d")
    yield f'<path d="M{low:.1f} {y + 10}H{high:.1f}v2H{low:.1f}z" fill="{colour}"/>'
    yield f'<circle cx="{left + _RATE * row.rate / 100:.1f}" cy="{y + 11}" r="5" fill="{colour}">'
    yield f"<title>{row.rate:.0f} % overridden: {_WORDS[row.verdict]}</title></circle>"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield ('<table><tr><th>topic</th><th>issued</th><th>accepted</th><th>overridden</th><th>ignored</th>'
           '<th>rate</th><th class="words">target</th><th class="words">reasons</th></tr>')  # fmt: skip
    for row in rows:
        rate = "-" if row.rate is None else f"{row.rate:.0f} %"
        target = _WORDS[row.verdict] if row.target is None else f"&lt; {row.target} %: {_WORDS[row.verdict]}"
        reasons = "".join(f"<li>{cards} {escape(reason)}</li>" for reason, cards in row.reasons.items())
        counts = "".join(f"<td>{cards}</td>" for cards in (row.issued, row.accepted, row.overridden, row.ignored))
        yield (f"<tr><td>{escape(row.title)}<br><small>{escape(row.topic)}</small></td>{counts}<td>{rate}</td>"
               f'<td class="words {row.verdict}">{target}</td>'
               f'<td class="words">{f"<ul>{reasons}</ul>" if reasons else ""}</td></tr>')  # fmt: skip
    yield "</table>"


def _short(text: str) -> str:
    return text if len(text) <= 46 else text[:45].rstrip() + "…"
