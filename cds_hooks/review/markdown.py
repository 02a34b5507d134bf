"""The Markdown of a card as HTML: paragraphs, bullets, tables, bold, italics. All else is shown as it stands."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from markupsafe import Markup

#: Escaped punctuation is kept out of harm's way in the private-use area; what the text itself has there is dropped.
_AWAY: Final = 0xE000
_STRAY: Final = re.compile(r"[\ue000-\ue07f]")
_ESCAPED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
_RULE: Final = re.compile(r"\|[-:| ]+\|?")


def as_html(text: str) -> Markup:
    """Safe HTML: nothing of the text becomes a tag, an attribute or a link."""
    hidden = _ESCAPED.sub(lambda match: chr(_AWAY + ord(match[1])), _STRAY.sub("", text))
    blocks = "".join(_block(kind, list(lines)) for kind, lines in groupby(hidden.splitlines(), _kind))
    return Markup(_STRAY.sub(lambda match: html.escape(chr(ord(match[0]) - _AWAY)), blocks))  # noqa: S704 - escaped above


def _kind(line: str) -> str:
    if not line.strip():
        return ""
    return {"-": "ul", "|": "table"}.get(line[0], "p") if line[:2] == "- " or line[0] == "|" else "p"


def _block(kind: str, lines: list[str]) -> str:
    if kind == "ul":
        return "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>"
    if kind == "table":
        return "<table>" + "".join(_rows(lines)) + "</table>"
    return f"<p>{_inline(' '.join(lines))}</p>" if kind else ""


def _rows(lines: list[str]) -> Iterator[str]:
    header = len(lines) > 1 and _RULE.fullmatch(lines[1]) is not None
    for number, line in enumerate(lines):
        if header and number == 1:
            continue
        tag = "th" if header and number == 0 else "td"
        cells = line.strip().strip("|").split("|")
        yield "<tr>" + "".join(f"<{tag}>{_inline(cell.strip())}</{tag}>" for cell in cells) + "</tr>"


def _inline(text: str) -> str:
    safe = html.escape(text)
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", safe)
