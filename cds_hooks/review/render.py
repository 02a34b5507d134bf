"""The page in its two formats. Whatever the content or a chart says is escaped; only the templates write markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from cds_hooks.answer.templates import Words
from cds_hooks.review.markdown import as_html
from cds_hooks.review.page import Named, Review

_HERE: Final = Path(__file__).parent
_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>|#~&])")
_LEADING: Final = re.compile(r"^(\d*)([-+=]|[.)](?=\s|$))")
_LINKLIKE: Final = re.compile(r"(?i)(://|\bwww\.|(?<=\w)@)")
_OPTIONS: Final[dict[str, Any]] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}


def to_html(review: Review) -> str:
    """One HTML page that needs nothing from anywhere."""
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, **_OPTIONS)
    environment.filters.update({"card": as_html, "anchor": anchor})
    return environment.get_template("review.html.j2").render(page=review, css=_style()) + "\n"


def to_markdown(review: Review) -> str:
    """The same as Markdown with GitHub's tables."""
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(_HERE), autoescape=False, finalize=literal, **_OPTIONS
    )  # fmt: skip
    environment.filters.update({"raw": Words, "quote": _quoted, "code": _code, "anchor": lambda it: Words(anchor(it))})
    return re.sub(r"\n{3,}", "\n\n", environment.get_template("review.md.j2").render(page=review)).strip() + "\n"


def anchor(named: Named) -> str:
    """The place on the page that shows something."""
    return f"{named.kind}-{named.id}"


def literal(value: Any) -> Any:
    """A string of the content as literal Markdown in one line; no address becomes a link by itself."""
    if isinstance(value, Words | int) or value is None:
        return "" if value is None else value
    text = _LEADING.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", " ".join(str(value).split())))
    return _LINKLIKE.sub(lambda match: match[0][:-1] + "\\" + match[0][-1] if match[0] != "://" else "\\://", text)


def _quoted(markdown: str) -> Words:
    """A card's own Markdown as a quotation; HTML in it stays text."""
    safe = re.sub(r"(?<!\\)<", "&lt;", markdown)
    return Words("\n".join(f"> {line}".rstrip() for line in safe.splitlines()))


def _code(text: str) -> Words:
    """Text as code: in backticks that it does not hold itself, also within a table."""
    ticks = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return Words(f"{ticks}{pad}{' '.join(text.split())}{pad}{ticks}".replace("|", "\\|"))


def _style() -> str:
    return (_HERE / "review.css").read_text(encoding="utf-8")


#: How a file name ends → how it is written.
FORMATS: Final = {".html": to_html, ".md": to_markdown}
