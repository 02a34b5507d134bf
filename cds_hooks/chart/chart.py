"""The patient's data of one call, checked and indexed once: named collections for the plan, and references.

Selection is native: one pass over the resources of a type, a dictionary look-up per coding. No expression ever runs
over a whole Bundle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cds_hooks.chart.gather import Source
from cds_hooks.chart.reading import as_list, codings, local_reference, name_of, subject_of, values_at
from cds_hooks.chart.search import Query

Key = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """A named input: the resources of a type whose element at `path` is in a set of codes (None: all of the type)."""

    name: str
    type: str
    path: str | None = None
    keys: frozenset[Key] = frozenset()
    prefixes: tuple[tuple[str, str], ...] = ()
    reads: Callable[[Any], str | None] | None = None  # match by words, where a value set allows it


@dataclass(slots=True)
class _Table:
    """What to look up at one path of one type."""

    path: str
    by_code: dict[Key, list[int]] = field(default_factory=dict)
    by_prefix: list[tuple[str, str, int]] = field(default_factory=list)
    by_words: list[tuple[Callable[[Any], str | None], int]] = field(default_factory=list)

    def add(self, number: int, selection: Selection) -> None:
        for key in selection.keys:
            self.by_code.setdefault(key, []).append(number)
        self.by_prefix += [(system, prefix, number) for system, prefix in selection.prefixes]
        if selection.reads:
            self.by_words.append((selection.reads, number))

    def matches(self, resource: dict[str, Any], key_of: Callable[[str | None, str], Key]) -> set[int]:
        value = resource.get(self.path)
        values = as_list(value) if value is not None else values_at(resource, self.path)
        found: set[int] = set()
        for concept in values:
            for system, code in codings(concept):
                key = key_of(system, code)
                hit = self.by_code.get(key)
                if hit:
                    found.update(hit)
                for prefixed, prefix, number in self.by_prefix:
                    if prefixed == key[0] and key[1].startswith(prefix):
                        found.add(number)
            found.update(number for reads, number in self.by_words if number not in found and reads(concept))
        return found


class Retrieval:
    """All queries and selections of a plan, compiled once at start."""

    def __init__(
        self,
        queries: Sequence[Query],
        selections: Sequence[Selection],
        key_of: Callable[[str | None, str], Key],
    ) -> None:
        self.queries: Final = tuple(queries)
        self.selections: Final = tuple(selections)
        self.key_of: Final = key_of
        self.query_of_type: Final = {query.type: query for query in queries}
        self._numbers: dict[str, list[int]] = {}
        self._tables: dict[str, list[_Table]] = {}
        for number, selection in enumerate(self.selections):
            tables = self._tables.setdefault(selection.type, [])
            if selection.path is None:
                self._numbers.setdefault(selection.type, []).append(number)
                continue
            table = next((table for table in tables if table.path == selection.path), None)
            if table is None:
                table = _Table(selection.path)
                tables.append(table)
            table.add(number, selection)

    def select(self, kind: str, resources: Iterable[dict[str, Any]], into: list[list[dict[str, Any]]]) -> None:
        """Append each resource of a type to the selections that it belongs to."""
        everything, tables = self._numbers.get(kind, ()), self._tables.get(kind, ())
        for resource in resources:
            for number in everything:
                into[number].append(resource)
            for table in tables:
                for number in table.matches(resource, self.key_of):
                    into[number].append(resource)


@dataclass(frozen=True, slots=True)
class Input:
    """A named collection: certain members, whether that is all, and the query it came from."""

    items: list[dict[str, Any]]
    complete: bool
    key: str


class Chart:
    """What is known about one patient in one call."""

    def __init__(
        self,
        retrieval: Retrieval,
        patient_id: str,
        sources: Mapping[str, Source],
        drafts: Sequence[dict[str, Any]] = (),
        reader: Callable[[str], Sequence[dict[str, Any]] | None] | None = None,
    ) -> None:
        """`reader` fetches a reference that the chart lacks: its resources, or None when it cannot be had."""
        self.sources: Final = sources
        self.problems: Counter[str] = Counter()
        self._patient: Final = f"Patient/{patient_id}"
        self._reader: Final = reader
        self._read: dict[str, dict[str, Any] | None] = {}
        self._index: dict[str, dict[str, Any]] | None = None
        self._own: list[dict[str, Any]] = []
        self.drafts: Final = [draft for draft in drafts if self._concerns(draft, anonymous=True)]
        selected: list[list[dict[str, Any]]] = [[] for _ in retrieval.selections]
        for query in retrieval.queries:
            source = sources.get(query.key)
            if source is not None and source.resources:
                own = [resource for resource in source.resources if self._concerns(resource)]
                self._own += own
                retrieval.select(query.type, own, selected)
        self.inputs: Final[dict[str, Input]] = {}
        for selection, items in zip(retrieval.selections, selected, strict=True):
            key = retrieval.query_of_type[selection.type].key
            source = sources.get(key)
            self.inputs[selection.name] = Input(items, source is not None and source.complete, key)

    def _concerns(self, resource: dict[str, Any], *, anonymous: bool = False) -> bool:
        """Whether the resource is this patient's; others are dropped and counted (servers do send them)."""
        reference = resource.get("subject") or resource.get("patient") or {}
        if isinstance(reference, dict) and reference.get("reference") == self._patient:
            return True
        subject = subject_of(resource)
        if subject == self._patient or (anonymous and subject is None):
            return True
        self.problems["foreign-subject" if subject else "no-subject"] += 1
        return False

    def resolve(self, reference: Any, container: Any = None) -> tuple[dict[str, Any] | None, bool]:
        """(resource or None, whether that is certain): contained, in the chart, among the drafts, else read."""
        target = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(target, str) and target.startswith("#"):
            return self._contained(target[1:], container), True
        name = local_reference(reference)
        if name is None:
            return None, False
        if self._index is None:
            self._index = {found: item for item in (*self._own, *self.drafts) if (found := name_of(item))}
        if name in self._index:
            return self._index[name], True
        if name not in self._read:
            answer = self._reader(name) if self._reader else None
            if answer is None:
                self.problems["unresolved-reference"] += 1
                return None, False
            self._read[name] = next((item for item in answer if self._readable(item, name)), None)
        return self._read[name], True

    def _readable(self, resource: dict[str, Any], name: str) -> bool:
        """A read resource counts if it is the one asked for and not another patient's (definitions have no subject)."""
        return name_of(resource) == name and (subject_of(resource) is None or self._concerns(resource))

    @staticmethod
    def _contained(identity: str, container: Any) -> dict[str, Any] | None:
        items = as_list(container.get("contained")) if isinstance(container, dict) else []
        return next((item for item in items if isinstance(item, dict) and item.get("id") == identity), None)
