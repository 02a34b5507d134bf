"""The evidence register: claims of texts, evidence from elsewhere, own choices, and where they disagree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from cds_hooks.loading import Loaded
from cds_hooks.review.page import Named, Source, Statement, Tension
from cds_hooks.review.reach import named_rules
from cds_hooks.review.words import READ, flat

PARTS: Final = ("claims", "evidence", "choices")


class Register:
    """All entries of a plan's register, with the rules that cite them."""

    def __init__(self, loaded: Loaded) -> None:
        raw: Mapping[str, Any] = loaded.package.evidence
        self._sources: Final[Mapping[str, Any]] = raw.get("sources", {})
        self._used_by: Final[dict[str, frozenset[str]]] = {}
        self._cited: Final[dict[str, list[Named]]] = {}
        named = named_rules(loaded.plan)
        for rule in loaded.plan.rules:
            for label in rule.evidence:
                self._cited.setdefault(label, []).append(named[rule.id])
        self.tensions: Final = {key: _tension(key, entry) for key, entry in raw.get("tensions", {}).items()}
        self.gaps: Final = tuple(flat(gap) for gap in raw.get("gaps", ()))
        self.entries: Final = {key: self._statement(part, key, entry)
                               for part in PARTS for key, entry in raw.get(part, {}).items()}  # fmt: skip

    def cited(self, labels: Iterable[str]) -> tuple[Statement, ...]:
        """The entries of these labels; a label that the register does not have is shown as such."""
        return tuple(self.entries.get(label) or _missing(label) for label in labels)

    def background(self, topic: str, labels: Iterable[str]) -> tuple[Statement, ...]:
        """Entries that name a topic without being cited by its rule: behind the words of the card."""
        known = set(labels)
        return tuple(entry for label, entry in self.entries.items()
                     if topic in self._used_by[label] and label not in known)  # fmt: skip

    def of(self, part: str) -> Iterator[Statement]:
        """The entries of one part."""
        return (entry for entry in self.entries.values() if entry.kind == part)

    def sources(self) -> Iterator[Source]:
        """All sources."""
        for key, entry in self._sources.items():
            text = ". ".join(flat(entry[name]) for name in ("citation", "title", "dated", "note") if name in entry)
            read = READ.get(entry.get("read", ""), "" if "read" not in entry else str(entry["read"]))
            yield Source(key, str(entry.get("kind", "")), text, flat(entry.get("address")), read,
                         entry.get("basis") is not False)  # fmt: skip

    def _statement(self, part: str, key: str, entry: Mapping[str, Any]) -> Statement:
        self._used_by[key] = frozenset(entry.get("used_by", ()))
        return Statement(
            label=key, kind=part, says=flat(entry.get("says")), figures=flat(entry.get("figures")),
            source=self._source(entry), read=self._read(entry), verified=entry.get("basis") is not False,
            role=flat(entry.get("role")), note=flat(entry.get("note")), value=flat(entry.get("value")),
            tensions=tuple(self.tensions[name] for name in entry.get("tensions", ()) if name in self.tensions),
            cited_by=tuple(self._cited.get(key, ())),
        )  # fmt: skip

    def _source(self, entry: Mapping[str, Any]) -> str:
        names = [entry["source"], *entry.get("further_sources", ())] if "source" in entry else []
        found = [(name, self._sources.get(name, {})) for name in names]
        return "; ".join(f"{flat(one.get('citation', one.get('title', name)))} ({one.get('kind', 'unknown')})"
                         for name, one in found)  # fmt: skip

    def _read(self, entry: Mapping[str, Any]) -> str:
        source = self._sources.get(entry.get("source", ""), {})
        value = entry.get("read", source.get("read"))
        return READ.get(str(value), str(value)) if value else ""


def _tension(key: str, entry: Mapping[str, Any]) -> Tension:
    says, known, shown = (flat(entry.get(name)) for name in ("says", "known", "shown"))
    return Tension(key, says, known, shown, tuple(entry.get("claims", ())))


def _missing(label: str) -> Statement:
    return Statement(label, "evidence", "Not in the register.", "", "", "", False, "", "", "", (), ())
