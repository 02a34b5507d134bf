"""Value sets, code systems and concept maps of the content, compiled to set look-ups; no server needed.

Codes are compared by system and code. A CodeSystem resource of the content may say how codes of a system compare:
`caseSensitive: false`, and our extensions `ignored-characters`, `hierarchy-by-prefix` (a header code stands for all
that begin with it), `alias` (another URI for the same system) and `refining-attribute` (in an expression
`concept:attribute=value` the value counts beside the concept; what other attributes say does not).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from cds_hooks.chart.reading import as_list, codings, texts
from cds_hooks.errors import ContentError
from cds_hooks.reasoning.extensions import extension_values

_LONGEST_TEXT: Final = 2000  # characters of chart text that a pattern is tried on
#: Codes whose comparable form is remembered; bounded, because callers choose the codes.
_MEMO: Final = 20_000
_LONGEST_CODE: Final = 500  # characters of an expression that are read
#: The one concept that an expression of a compositional grammar is about, its term left out.
_FOCUS: Final = re.compile(r"\s*(?:={3}|<{3})?\s*([^\s:|+=,{}()]+)\s*(?:\|[^|]*\|\s*)?(?::|$)")
#: An attribute and its value there, terms left out.
_REFINED: Final = re.compile(r"([^\s:|+=,{}()]{1,30})\s*(?:\|[^|]*\|\s*)?=\s*([^\s:|+=,{}()]+)")
_NO_SETS: Final[frozenset[str]] = frozenset()
Key = tuple[str | None, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SystemRule:
    """How codes of one code system compare."""

    fold_case: bool = False
    ignored: str = ""
    by_prefix: bool = False
    #: The attributes whose values count in an expression of this system; none: it has no expressions.
    refining: frozenset[str] = frozenset()

    def values(self, code: str) -> list[str]:
        """The values of these attributes in an expression."""
        if not self.refining or "=" not in code:
            return []
        return [value for attribute, value in _REFINED.findall(code[:_LONGEST_CODE]) if attribute in self.refining]

    def normal(self, code: str) -> str:
        if self.refining and (focus := _FOCUS.match(code[:_LONGEST_CODE])):
            code = focus[1]
        for character in self.ignored:
            code = code.replace(character, "")
        return code.upper() if self.fold_case else code


@dataclass(frozen=True, slots=True)
class ValueSet:
    """An enumerated set of codes, perhaps with header codes and with a pattern for text."""

    url: str
    title: str
    keys: frozenset[Key]
    prefixes: tuple[tuple[str, str], ...] = ()
    pattern: re.Pattern[str] | None = None
    displays: Mapping[Key, str] = field(default_factory=dict)
    #: Whether a text holds the pattern, by the hash of the text: texts repeat, within a chart and from chart to chart,
    #: and are not kept.
    heard: dict[int, bool] = field(init=False, default_factory=dict, repr=False, compare=False)

    @property
    def id(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def found_in(self, words: Iterable[str]) -> str | None:
        """The first of these texts in which the pattern is found."""
        if self.pattern is None:
            return None
        heard = self.heard
        for text in words:
            known = heard.get(hash(text))
            if known is None:
                if len(heard) >= _MEMO:
                    heard.clear()
                known = heard[hash(text)] = self.pattern.search(text[:_LONGEST_TEXT]) is not None
            if known:
                return text
        return None


@dataclass(slots=True)
class Concept:
    """A concept, Coding or code of the chart, looked up once for all questions about it."""

    value: Any
    #: The URLs of the value sets that hold one of its codes.
    sets: frozenset[str]
    #: Its texts, each once; None until somebody asks.
    texts: tuple[str, ...] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Its texts: few sets read any."""
        if self.texts is None:
            self.texts = tuple(dict.fromkeys(texts(self.value)))
        return self.texts


@dataclass(frozen=True, slots=True)
class ConceptMap:
    """Codes replaced within their own system: (system, code) → (code, display)."""

    url: str
    targets: Mapping[Key, tuple[str, str | None]]


class Terminology:
    """All that the content knows about codes. Built once at start; answers `match` and `translate`."""

    def __init__(self, resources: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Compile (file, resource) pairs of CodeSystems, ValueSets and ConceptMaps; raises ContentError."""
        by_type: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {"CodeSystem": {}, "ValueSet": {}, "ConceptMap": {}}
        for file, resource in resources:
            known = by_type[resource["resourceType"]]
            if resource["url"] in known:
                raise ContentError(file, resource["id"], f"{resource['url']} is defined twice")
            known[resource["url"]] = (file, resource)
        self._rules: dict[str, SystemRule] = {}
        self._aliases: dict[str, str] = {}
        self._memo: dict[Key, Key] = {}
        for file, system in by_type["CodeSystem"].values():
            self._add_system(file, system)
        self.value_sets: dict[str, ValueSet] = {}
        for url in by_type["ValueSet"]:
            self._add_value_set(url, by_type["ValueSet"], ())
        self.concept_maps = {url: self._concept_map(*pair) for url, pair in by_type["ConceptMap"].items()}
        self._memo.clear()  # what was asked before all systems were known
        self._memo_sets: dict[Key, frozenset[str]] = {}
        self._sets_of_key = _grouped((key, one.url) for one in self.value_sets.values() for key in one.keys)
        self._sets_of_code = _grouped((code, one.url) for one in self.value_sets.values() for _, code in one.keys)
        self._sets_of_head: dict[str | None, list[tuple[str, str]]] = {}
        for one in self.value_sets.values():
            for uri, head in one.prefixes:
                self._sets_of_head.setdefault(uri, []).append((head, one.url))

    # ---- questions

    def system(self, url: str | None) -> str | None:
        """The main URI of a code system that may go by several."""
        return self._aliases.get(url, url) if url is not None else None

    def key(self, system: str | None, code: str) -> Key:
        """The comparable form of a code. Charts repeat the same codes, so it is remembered."""
        pair = system, code
        known = self._memo.get(pair)
        if known is None:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[pair] = known = self._normal(system, code)
        return known

    def _normal(self, system: str | None, code: str) -> Key:
        if system is not None:
            system = self._aliases.get(system, system)
            rule = self._rules.get(system)
            if rule is not None:
                code = rule.normal(code)
        return system, code

    def match(self, value_set: ValueSet, value: Any) -> str | None:
        """How a concept, Coding or code is in the set: by "code", by "words" if it reads them, or not (None)."""
        return self.how(value_set, self.concept(value))

    def how(self, value_set: ValueSet, concept: Concept) -> str | None:
        """The same for a concept that was looked up."""
        if value_set.url in concept.sets:
            return "code"
        return "words" if value_set.pattern is not None and value_set.found_in(concept.words) is not None else None

    def concept(self, value: Any) -> Concept:
        """Look a concept, Coding or code up."""
        if isinstance(value, str):  # a code without its system: of any
            return Concept(value, self._sets_of_code.get(value, _NO_SETS))
        sets = _NO_SETS
        for pair in codings(value):
            found = self._memo_sets.get(pair)
            if found is None:
                found = self._look_up(pair)
            if found:
                sets = sets | found if sets else found
        return Concept(value, sets)

    def _look_up(self, pair: Key) -> frozenset[str]:
        """The sets that hold a code. Charts repeat the same codes, so it is remembered."""
        system, code = key = self.key(*pair)
        heads = self._sets_of_head.get(system, ())
        found = self._sets_of_key.get(key, _NO_SETS).union(url for head, url in heads if code.startswith(head))
        rule = self._rules.get(system) if system is not None else None
        for value in rule.values(pair[1]) if rule else ():
            found |= self._sets_of_key.get((system, value), _NO_SETS)
        if len(self._memo_sets) >= _MEMO:
            self._memo_sets.clear()
        self._memo_sets[pair] = found
        return found

    def translate(self, concept_map: ConceptMap, concept: Any) -> dict[str, Any] | None:
        """The CodeableConcept with each code replaced in its own system; None when the map knows none of them.

        Codings that the map does not know contradict the new meaning and are dropped, as is the old text.
        """
        found: dict[Key, dict[str, Any]] = {}
        for coding in as_list(concept.get("coding")) if isinstance(concept, dict) else ():
            for system, code in codings(coding):
                target = concept_map.targets.get(self.key(system, code))
                if target is not None:
                    new = {"system": system, "code": target[0]}
                    found[system, target[0]] = new | ({"display": target[1]} if target[1] else {})
        if not found:
            return None
        text = next((coding["display"] for coding in found.values() if "display" in coding), None)
        return {"coding": list(found.values())} | ({"text": text} if text else {})

    # ---- compiling

    def _add_system(self, file: str, resource: dict[str, Any]) -> None:
        ignored = "".join(extension_values(resource, "ignored-characters"))
        rule = SystemRule(
            fold_case=resource.get("caseSensitive") is False,
            ignored=ignored,
            by_prefix=any(extension_values(resource, "hierarchy-by-prefix")),
            refining=frozenset(extension_values(resource, "refining-attribute")),
        )
        if rule != SystemRule():
            self._rules[resource["url"]] = rule
        for alias in extension_values(resource, "alias"):
            if alias in self._aliases:
                raise ContentError(file, resource["id"], f"alias {alias} belongs to two code systems")
            self._aliases[alias] = resource["url"]

    def _add_value_set(
        self, url: str, known: Mapping[str, tuple[str, dict[str, Any]]], above: tuple[str, ...]
    ) -> ValueSet:
        if url in self.value_sets:
            return self.value_sets[url]
        file, resource = known[url]
        if url in above:
            raise ContentError(file, resource["id"], "value set includes itself")
        keys: dict[Key, str] = {}
        prefixes: list[tuple[str, str]] = []
        patterns = list(extension_values(resource, "text-pattern"))
        for number, include in enumerate(resource.get("compose", {}).get("include", ())):
            where = f"{resource['id']}.compose.include[{number}]"
            members = include.get("valueSet", ())
            if len(members) + ("system" in include) != 1:  # FHIR reads several as an intersection: not supported
                raise ContentError(file, where, "an include names one code system or one value set")
            for member in members:
                if member not in known:
                    raise ContentError(file, where, f"unknown value set {member}")
                part = self._add_value_set(member, known, (*above, url))
                keys.update({key: part.displays.get(key, "") for key in part.keys})
                prefixes += part.prefixes
                patterns += [part.pattern.pattern] if part.pattern else []
            self._add_include(file, where, include, keys, prefixes)
        if not keys and not prefixes and not patterns:
            raise ContentError(file, resource["id"], "value set is empty")
        try:
            pattern = re.compile("|".join(f"(?:{text})" for text in patterns), re.IGNORECASE) if patterns else None
        except re.error as error:
            raise ContentError(file, f"{resource['id']}.extension", f"text pattern: {error}") from None
        title = resource.get("title") or resource["id"]
        compiled = ValueSet(url, title, frozenset(keys), tuple(dict.fromkeys(prefixes)), pattern, keys)
        self.value_sets[url] = compiled
        return compiled

    def _add_include(
        self, file: str, where: str, include: dict[str, Any], keys: dict[Key, str], prefixes: list[tuple[str, str]]
    ) -> None:
        system = include.get("system")
        if system is None:
            return
        if "concept" not in include and "filter" not in include:
            raise ContentError(file, where, "all codes of a system are not supported: name the concepts")
        for concept in include.get("concept", ()):
            keys[self.key(system, concept["code"])] = concept.get("display", "")
        for condition in include.get("filter", ()):
            rule = self._rules.get(system)
            if condition.get("op") != "is-a" or rule is None or not rule.by_prefix:
                raise ContentError(file, where, f"filter {condition.get('op')} is not supported for {system}")
            if not condition.get("value"):
                raise ContentError(file, where, "a filter needs a value")
            prefixes.append((system, rule.normal(condition["value"])))

    def _concept_map(self, file: str, resource: dict[str, Any]) -> ConceptMap:
        targets: dict[Key, tuple[str, str | None]] = {}
        for group in resource.get("group", ()):
            if not group.get("source") or group["source"] != group.get("target"):
                raise ContentError(file, resource["id"], "a code is replaced within its own system only")
            for element in group.get("element", ()):
                if "code" not in element or not all("code" in target for target in element.get("target", ())):
                    raise ContentError(file, resource["id"], "an element and its target each need a code")
                for target in element.get("target", ())[:1]:
                    targets[self.key(group["source"], element["code"])] = (target["code"], target.get("display"))
        return ConceptMap(resource["url"], targets)


def _grouped(pairs: Iterable[tuple[T, str]]) -> dict[T, frozenset[str]]:
    found: dict[T, set[str]] = {}
    for key, url in pairs:
        found.setdefault(key, set()).add(url)
    return {key: frozenset(urls) for key, urls in found.items()}
