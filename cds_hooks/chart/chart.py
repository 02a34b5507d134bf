"""The patient's data of one call, checked and indexed once: named collections for the plan, and references.

Selection is native: one pass over the resources of a type, a dictionary look-up per coding. No expression ever runs
over a whole Bundle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cds_hooks.chart.gather import Source
from cds_hooks.chart.reading import as_list, codings, local_reference, name_of, subject_of, texts, values_at
from cds_hooks.chart.search import Query

Key = tuple[str | None, str]
#: Codes remembered per path with the selections they belong to; bounded, because callers choose the codes.
_MEMO: Final = 20_000
#: Elements of a CodeableConcept. One with others may say something where nobody looks in a hurry.
_PLAIN: Final = frozenset({"coding", "text", "id", "extension"})


@dataclass(frozen=True, slots=True)
class Selection:
    """A named input: the resources of a type whose element at `path` is in a set of codes (None: all of the type)."""

    name: str
    type: str
    path: str | None = None
    keys: frozenset[Key] = frozenset()
    prefixes: tuple[tuple[str, str], ...] = ()
    reads: Callable[[Iterable[str]], str | None] | None = None  # match by words, where a value set allows it


@dataclass(slots=True)
class _Table:
    """What to look up at one path of one type."""

    path: str
    by_code: dict[Key, list[int]] = field(default_factory=dict)
    by_prefix: list[tuple[str, str, int]] = field(default_factory=list)
    by_words: list[tuple[Callable[[Iterable[str]], str | None], int]] = field(default_factory=list)
    memo: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    #: What is known to be of no interest: codings as (system, code, display), and texts by their hash, for a text may
    #: say more than a code does and is not kept.
    dull_codings: set[tuple[Any, Any, Any]] = field(default_factory=set)
    dull_texts: set[int] = field(default_factory=lambda: {hash(None)})

    def add(self, number: int, selection: Selection) -> None:
        for key in selection.keys:
            self.by_code.setdefault(key, []).append(number)
        self.by_prefix += [(system, prefix, number) for system, prefix in selection.prefixes]
        if selection.reads:
            self.by_words.append((selection.reads, number))

    def matches(self, resource: dict[str, Any], key_of: Callable[[str | None, str], Key]) -> Iterable[int]:
        """The numbers of the selections that the resource belongs to, each once."""
        value = resource.get(self.path)
        values = as_list(value) if value is not None else values_at(resource, self.path)
        found: tuple[int, ...] = ()
        remembered = self.memo.get
        for concept in values:
            for pair in codings(concept):
                hit = remembered(pair)
                if hit is None:
                    hit = self._hit(pair, key_of)
                if hit:
                    found += hit
            if self.by_words and (words := tuple(dict.fromkeys(texts(concept)))):
                found += tuple(number for reads, number in self.by_words if number not in found and reads(words))
        if not found:
            self._note_dull(values)
        return found if len(found) < 2 else dict.fromkeys(found)

    def is_dull(self, resource: dict[str, Any]) -> bool:
        """Whether all codes and words of the resource are of no interest: the overwhelming case, so in few steps."""
        try:
            concept = resource[self.path]
            if not concept.keys() <= _PLAIN:  # a Coding where a concept is due, words in odd places
                return False
            dull = self.dull_codings
            for coding in concept.get("coding") or ():
                if (coding["system"], coding["code"], coding.get("display")) not in dull or "text" in coding:
                    return False
            return not self.by_words or hash(concept.get("text")) in self.dull_texts
        except (KeyError, TypeError, AttributeError):  # a shape that needs a closer look
            return False

    def _note_dull(self, values: list[Any]) -> None:
        if len(self.dull_codings) >= _MEMO or len(self.dull_texts) >= _MEMO:
            self.dull_codings.clear()
            self.dull_texts = {hash(None)}
        for concept in values:
            if not isinstance(concept, dict):
                continue
            if isinstance(text := concept.get("text"), str):
                self.dull_texts.add(hash(text))
            for coding in as_list(concept.get("coding")):
                if isinstance(coding, dict) and "text" not in coding:
                    known = coding.get("system"), coding.get("code"), coding.get("display")
                    if all(part is None or isinstance(part, str) for part in known):
                        self.dull_codings.add(known)

    def _hit(self, pair: Key, key_of: Callable[[str | None, str], Key]) -> tuple[int, ...]:
        """Look a code up once; charts repeat the same codes, and most are of no interest."""
        system, code = key_of(*pair)
        found = list(self.by_code.get((system, code), ()))
        found += [number for other, prefix, number in self.by_prefix if other == system and code.startswith(prefix)]
        if len(self.memo) >= _MEMO:
            self.memo.clear()
        self.memo[pair] = hit = tuple(dict.fromkeys(found))
        return hit


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
        self._of_type: dict[str, list[int]] = {}
        self.type_of: Final = {selection.name: selection.type for selection in self.selections}
        for number, selection in enumerate(self.selections):
            self._of_type.setdefault(selection.type, []).append(number)
            tables = self._tables.setdefault(selection.type, [])
            if selection.path is None:
                self._numbers.setdefault(selection.type, []).append(number)
                continue
            table = next((table for table in tables if table.path == selection.path), None)
            if table is None:
                table = _Table(selection.path)
                tables.append(table)
            table.add(number, selection)

    def select(self, kind: str, resources: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """The selections of a type by name, each with the resources that belong to it."""
        found: dict[int, list[dict[str, Any]]] = {number: [] for number in self._of_type.get(kind, ())}
        for number in self._numbers.get(kind, ()):
            found[number] = resources
        for table in self._tables.get(kind, ()):
            for resource in resources:
                if table.is_dull(resource):
                    continue
                for number in table.matches(resource, self.key_of):
                    found[number].append(resource)
        return {self.selections[number].name: items for number, items in found.items()}


@dataclass(slots=True)
class Input:
    """A named collection: certain members, whether that is all, and the query it came from. Nobody changes one.

    `maybe` are those that do not say whose they are, if nothing else is missing.
    """

    items: list[dict[str, Any]]
    complete: bool
    key: str
    maybe: list[dict[str, Any]] | None = None


class Chart:
    """What is known about one patient in one call."""

    def __init__(
        self,
        retrieval: Retrieval,
        patient_id: str,
        sources: Mapping[str, Source],
        drafts: Sequence[dict[str, Any]] = (),
        reader: Callable[[str], Sequence[dict[str, Any]] | None] | None = None,
        base: str | None = None,
    ) -> None:
        """`reader` fetches a reference that the chart lacks from the server at `base`: its resources, or None when it
        cannot be had."""
        self.sources: Final = sources
        self.problems: Final[defaultdict[str, int]] = defaultdict(int)
        self._patient: Final = f"Patient/{patient_id}"
        self._reader: Final = reader
        self._base: Final = base
        self._read: dict[str, dict[str, Any] | None] = {}
        self._index: dict[str, dict[str, Any]] | None = None
        self._retrieval: Final = retrieval
        self._own: dict[str, list[dict[str, Any]]] = {}
        self._unclear: dict[str, list[dict[str, Any]]] = {}
        self._inputs: dict[str, Input] = {}
        self.drafts: Final = [draft for draft in drafts if self._concerns(draft, anonymous=True)]

    def input(self, name: str) -> Input | None:
        """A named input, None if the plan has none of that name. A type is indexed when first asked for."""
        found = self._inputs.get(name)
        if found is None and (kind := self._retrieval.type_of.get(name)) is not None:
            key = self._retrieval.query_of_type[kind].key
            source = self.sources.get(key)
            complete = source is not None and source.complete
            own, unclear = self.own(kind), self._unclear.get(kind)
            if not own and not unclear:
                found = self._inputs[name] = Input(own, complete, key)
                return found
            perhaps = self._retrieval.select(kind, unclear) if unclear and complete else {}
            for selected, items in self._retrieval.select(kind, own).items():
                maybe = perhaps.get(selected)
                self._inputs[selected] = Input(items, complete and not maybe, key, maybe or None)
            found = self._inputs[name]
        return found

    def kinds(self) -> frozenset[str]:
        """The types of which there is a resource, or may be one that could not be had."""
        found, sources = [], self.sources
        for kind, query in self._retrieval.query_of_type.items():
            source = sources.get(query.key)
            if source is None or source.resources or not source.complete:
                found.append(kind)
        return frozenset(found)

    def own(self, kind: str) -> list[dict[str, Any]]:
        """The resources of a type that are this patient's."""
        if kind not in self._own:
            query = self._retrieval.query_of_type.get(kind)
            source = self.sources.get(query.key) if query else None
            resources = source.resources if source else ()
            named = query is not None and query.reads is not None  # the context names it: it need not say whose it is
            self._own[kind] = own = [one for one in resources if self._concerns(one, anonymous=named)]
            if len(own) < len(resources):
                self._unclear[kind] = [one for one in resources if subject_of(one) is None]
        return self._own[kind]

    def whole(self, kind: str) -> bool:
        """Whether all resources of a type are known: they all came, and of each it is clear whose it is."""
        query = self._retrieval.query_of_type.get(kind)
        source = self.sources.get(query.key) if query else None
        self.own(kind)
        return source is not None and source.complete and not self._unclear.get(kind)

    def size(self) -> int:
        """How many resources came, drafts included."""
        return len(self.drafts) + sum(len(source.resources) for source in self.sources.values())

    def _concerns(self, resource: dict[str, Any], *, anonymous: bool = False) -> bool:
        """Whether the resource is this patient's; others are dropped and counted (servers do send them).

        A subject may be named by an absolute URL of any server: the same one goes by an inner and an outer address.
        """
        reference = resource.get("subject") or resource.get("patient") or {}
        mine = isinstance(reference, dict) and reference.get("reference") == self._patient
        if mine and resource.get("resourceType") != "Patient":  # a Patient is itself, whatever else it says
            return True
        subject = subject_of(resource)
        if subject == self._patient or (anonymous and subject is None):
            return True
        self.problems["foreign-subject" if subject else "no-subject"] += 1
        return False

    def resolve(self, reference: Any, container: Any = None) -> dict[str, Any] | None:
        """The resource: contained, in the chart, among the drafts, else read. None if it cannot be had.

        Whatever the reason, that is no absence: there is something, and nobody here knows what.
        """
        target = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(target, str) and target.startswith("#"):
            return self._contained(target[1:], container)
        name = local_reference(reference)
        if name is None:
            return None
        if self._index is None:
            known = [item for kind in self._retrieval.query_of_type for item in self.own(kind)]
            self._index = {found: item for item in (*known, *self.drafts) if (found := name_of(item))}
        if name in self._index:
            return self._index[name]
        if not self._is_here(str(target)):
            self.problems["unresolved-reference"] += 1
            return None
        if name not in self._read:
            answer = (self._reader(name) if self._reader else None) or ()
            self._read[name] = next((item for item in answer if self._readable(item, name)), None)
            if self._read[name] is None:
                self.problems["unresolved-reference"] += 1
        return self._read[name]

    def _is_here(self, target: str) -> bool:
        """Whether a reference points at the server that we read: an id of another server is something else there."""
        return "://" not in target or (self._base is not None and target.startswith(f"{self._base}/"))

    def _readable(self, resource: dict[str, Any], name: str) -> bool:
        """A read resource counts if it is the one asked for and not another patient's (definitions have no subject)."""
        return name_of(resource) == name and (subject_of(resource) is None or self._concerns(resource))

    @staticmethod
    def _contained(identity: str, container: Any) -> dict[str, Any] | None:
        items = as_list(container.get("contained")) if isinstance(container, dict) else []
        return next((item for item in items if isinstance(item, dict) and item.get("id") == identity), None)
