"""The evidence register of a plan: what each rule rests on, and why an entry that no rule cites is there.

`evidence.yaml` has claims (of the texts that the plan starts from), outside evidence, and choices of its own. Entries
may name a source, figures and tensions with other entries. Which rules cite an entry is computed from the plan; the
entry's own `used_by`, written for readers, must agree with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, TemplateError, meta

from cds_hooks.answer.templates import FOOTER, SUFFIX
from cds_hooks.chart.reading import as_list
from cds_hooks.errors import ContentError
from cds_hooks.loading import Loaded

FILE: Final = "evidence.yaml"
PARTS: Final = ("claims", "evidence", "choices")
_SOURCED: Final = ("claims", "evidence")  # parts whose entries are somebody else's words
_PRINTED: Final = ("says", "figures", "value")  # where an entry holds what a card may print
_TITLES: Final = {"claims": "claims", "evidence": "outside evidence", "choices": "choices"}
#: A figure or a range of them, no part of a word such as X1, 3Y or AB-12; in `3-month` it is 3.
_DIGITS: Final = r"\d+(?:[.,]\d+)*"
_FIGURES: Final = re.compile(rf"(?<![\w.,])(?<!\w-)({_DIGITS}(?:[-\u2013/]{_DIGITS})*)(?!\w|[.,]\d)")
_LIST_MARKER: Final = re.compile(r"(?m)^[ \t\ufffc]*\d+[.)](?=[ \t])")
#: A year in parentheses that belongs to a name: `Name (2020)`, `(Name 2020, …)`.
_YEAR: Final = re.compile(r"(\b[A-Z][\w./-]* \(|\([^()\d]*\b[A-Z][\w./-]* )(?:19|20)\d\d(?=[,;)])")
_GAP: Final = "\ufffc"
_STATIC: Final = ("data", "variable_end", "block_end", "comment_end")
_PARSER: Final = Environment(autoescape=False)  # noqa: S701 - reads templates, renders none


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the register with the rules and topics that cite it."""

    label: str
    part: str
    body: Mapping[str, Any]
    rules: tuple[str, ...]
    topics: frozenset[str]

    @property
    def reason(self) -> str | None:
        """Why it is in the register though no rule cites it, in its own words."""
        return next((_flat(self.body[key]) for key in ("role", "note") if self.body.get(key)), None)

    @property
    def sources(self) -> list[str]:
        return [*as_list(self.body.get("source")), *as_list(self.body.get("further_sources"))]


class Register:
    """All entries of a plan's register, by label."""

    def __init__(self, loaded: Loaded) -> None:
        raw: Mapping[str, Any] = loaded.package.evidence
        self.sources: Final[Mapping[str, Any]] = raw.get("sources", {})
        self.tensions: Final[Mapping[str, Any]] = raw.get("tensions", {})
        rules: dict[str, list[str]] = {}
        topics: dict[str, set[str]] = {}
        for rule in loaded.plan.rules:
            for label in rule.evidence:
                rules.setdefault(label, []).append(rule.id)
                topics.setdefault(label, set()).add(rule.topic["code"])
        self.entries: Final = {
            label: Entry(label, part, _mapping(label, body), tuple(rules.get(label, ())),
                         frozenset(topics.get(label, ())))
            for part in PARTS for label, body in raw.get(part, {}).items()
        }  # fmt: skip

    def of(self, part: str) -> list[Entry]:
        """The entries of one part, in the order of the file."""
        return [entry for entry in self.entries.values() if entry.part == part]

    def printable(self, topic: str) -> frozenset[str]:
        """The numbers in the evidence that the rules of a topic cite, its sources counted in."""
        texts: list[str] = []
        for entry in self.entries.values():
            if topic in entry.topics:
                texts += [str(entry.body[key]) for key in _PRINTED if key in entry.body]
                texts += [str(self.sources[name].get("citation", "")) for name in entry.sources if name in self.sources]
        return frozenset(number for text in texts for number in _figures(text))


# ---- the command


def report(loaded: Loaded, *, unused: bool = False) -> Iterator[str]:
    """The register in lines: each entry with its rules, or with the reason why no rule cites it; then the counts."""
    register = Register(loaded)
    for part in PARTS:
        entries = [entry for entry in register.of(part) if not (unused and entry.rules)]
        if entries:
            yield from (f"{_TITLES[part]}{', not cited by a rule' if unused else ''}", "")
            for entry in entries:
                yield from _lines(entry)
            yield ""
    yield "; ".join(_count(register, part) for part in PARTS if register.of(part)) or "no register"


def _lines(entry: Entry) -> Iterator[str]:
    body = entry.body
    yield f"{entry.label}  {_flat(body.get('says', ''))}"
    if entry.rules:
        yield f"    rules: {', '.join(entry.rules)}"
    else:
        yield f"    no rule: {entry.reason or 'no reason is given'}"
    if body.get("basis") is False:
        yield "    not verified: no rule may rest on it"
    for name in ("figures", "value"):
        if name in body:
            yield f"    {name}: {_flat(body[name])}"
    if entry.sources:
        yield f"    source: {', '.join(entry.sources)}"
    if body.get("tensions"):
        yield f"    tensions: {', '.join(as_list(body['tensions']))}"


def _count(register: Register, part: str) -> str:
    entries = register.of(part)
    used = sum(bool(entry.rules) for entry in entries)
    silent = sum(not entry.rules and entry.reason is not None for entry in entries)
    bare = len(entries) - used - silent
    text = f"{len(entries)} {_named(register, part)}: {used} used by rules, {silent} accounted for otherwise"
    return text + (f", {bare} WITHOUT A REASON" if bare else "")


def _named(register: Register, part: str) -> str:
    """The title of a part; of claims with the kind of their sources if it is one kind."""
    kinds = {register.sources.get(name, {}).get("kind") for entry in register.of(part) for name in entry.sources}
    kind = next(iter(kinds), None) if part == "claims" and len(kinds) == 1 else None
    return f"{kind} {_TITLES[part]}" if kind else _TITLES[part]


def _mapping(label: str, body: Any) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise ContentError(FILE, label, "an entry is a mapping")
    return body


def _flat(text: Any) -> str:
    return " ".join(str(text).split())


# ---- lint


def lint_register(loaded: Loaded) -> Iterator[ContentError]:
    """Where the register disagrees with the plan or with itself."""
    register = Register(loaded)
    for entry in register.entries.values():
        yield from _use(entry)
        yield from _origin(entry, register)
    yield from _tensions(register)


def lint_figures(loaded: Loaded) -> Iterator[ContentError]:
    """Figures on cards that no evidence of their rules holds."""
    register = Register(loaded)
    folder = loaded.package.cards
    for topic in loaded.cards.topics:
        known = register.printable(topic)
        for name in _parts(folder, topic + SUFFIX):
            for number in dict.fromkeys(numbers(static_text(folder / name))):
                if number not in known:
                    where = f"cards/{loaded.package.name}/{name}"
                    reason = f"no evidence that the rules of {topic} cite holds this figure"
                    yield ContentError(where, number, reason)


def _use(entry: Entry) -> Iterator[ContentError]:
    listed = set(as_list(entry.body.get("used_by")))
    where = f"{entry.label}.used_by"
    for topic in sorted(listed - entry.topics):
        yield ContentError(FILE, where, f"names {topic}, whose rules do not cite it")
    for topic in sorted(entry.topics - listed):
        yield ContentError(FILE, where, f"does not name {topic}, whose rule cites it")
    if "used_by" in entry.body and not listed and not entry.rules:
        yield ContentError(FILE, where, "to be left out when no rule cites the entry")
    if not entry.rules and entry.reason is None:
        yield ContentError(FILE, entry.label, "no rule cites it: a role or note must say why it is here")


def _origin(entry: Entry, register: Register) -> Iterator[ContentError]:
    if entry.part in _SOURCED and "source" not in entry.body:
        yield ContentError(FILE, f"{entry.label}.source", "needs a source")
    for name in entry.sources:
        if name not in register.sources:
            yield ContentError(FILE, f"{entry.label}.source", f"no source {name}")


def _tensions(register: Register) -> Iterator[ContentError]:
    named = {(label, key) for label, entry in register.entries.items() for key in as_list(entry.body.get("tensions"))}
    held = {(label, key) for key, tension in register.tensions.items() for label in as_list(tension.get("claims"))}
    for label, key in sorted(named - held):
        known = key in register.tensions
        yield ContentError(FILE, f"{label}.tensions", f"{key} does not name it" if known else f"no tension {key}")
    for label, key in sorted(held - named):
        known = label in register.entries
        yield ContentError(FILE, f"{key}.claims", f"{label} does not name it" if known else f"no entry {label}")


# ---- figures


def numbers(text: str) -> list[str]:
    """The figures of a text: no list markers, and no year in parentheses that belongs to a name."""
    return list(_figures(_YEAR.sub(r"\1", _LIST_MARKER.sub("", text))))


def _figures(text: str) -> Iterator[str]:
    for found in _FIGURES.findall(text):
        yield from re.split("[-\u2013/]", found)


def static_text(path: Path) -> str:
    """The text that stands in a template itself; what is computed or decided between leaves a gap."""
    try:
        tokens = list(_PARSER.lex(path.read_text(encoding="utf-8"), filename=path.name))
    except TemplateError as error:
        raise ContentError(path.name, f"line {getattr(error, 'lineno', 1)}", str(error)) from None
    return "".join(value if kind == "data" else _GAP for _, kind, value in tokens if kind in _STATIC)


def _parts(folder: Path, name: str) -> Iterable[str]:
    """A template, its includes and the footer, each once."""
    todo = [name, *([FOOTER] if (folder / FOOTER).exists() else [])]
    seen: dict[str, None] = {}
    while todo:
        current = todo.pop(0)
        if current not in seen:
            seen[current] = None
            tree = _PARSER.parse((folder / current).read_text(encoding="utf-8"))
            todo += [found for found in meta.find_referenced_templates(tree) if found]
    return seen
