"""What the plan knows in codes: value sets, orders to create, codes to replace, parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cds_hooks.loading import Loaded
from cds_hooks.reasoning.extensions import EXTENSIONS, extension_values
from cds_hooks.review.page import Code, Named, Order, Parameter, Replacement, ValueSet
from cds_hooks.review.reach import Reach
from cds_hooks.review.words import Speaker, element, flat, phrases

_BELOW: Final = "and every code below it"


def speaker(loaded: Loaded) -> Speaker:
    """Says codes with the names that the content gives to code systems and codes."""
    systems: dict[str, str] = {}
    for _, one in loaded.package.of_type("CodeSystem"):
        for url in (one["url"], *extension_values(one, "alias")):
            systems[url] = flat(one.get("title", one["id"]))
    return Speaker(systems, loaded.cards.words)


class Codes:
    """The coded content of one plan."""

    def __init__(self, loaded: Loaded, reach: Reach, say: Speaker, used_by: Mapping[str, Sequence[Named]]) -> None:
        self._loaded: Final = loaded
        self._reach: Final = reach
        self._say: Final = say
        self._used_by: Final = used_by  # value set id → rules

    def value_sets(self) -> Iterator[ValueSet]:
        """All value sets, in the order of the files."""
        for _, one in self._loaded.package.of_type("ValueSet"):
            includes = one.get("compose", {}).get("include", ())
            members = (url for include in includes for url in include.get("valueSet", ()))
            patterns = [str(text) for text in extension_values(one, "text-pattern")]
            yield ValueSet(
                id=one["id"], title=flat(one.get("title", one["id"])), description=flat(one.get("description")),
                codes=tuple(code for include in includes for code in self._included(include)),
                members=tuple(self._reach.value_set(url) for url in members),
                words=tuple(phrase for pattern in patterns for phrase in phrases(pattern)),
                pattern=" | ".join(patterns), rules=tuple(self._used_by.get(one["id"], ())),
            )  # fmt: skip

    def _included(self, include: Mapping[str, Any]) -> Iterator[Code]:
        system = self._say.system(include.get("system"))
        verified = "; ".join(flat(text) for text in extension_values(include, "verified-in"))
        for concept in include.get("concept", ()):
            own = "; ".join(flat(text) for text in extension_values(concept, "verified-in"))
            yield Code(system, concept["code"], flat(concept.get("display")), own or verified)
        for condition in include.get("filter", ()):
            yield Code(system, condition["value"], "", verified, _BELOW)

    def orders(self) -> Iterator[Order]:
        """The orders that suggestions may create."""
        for _, one in self._loaded.package.of_type("ActivityDefinition"):
            contents = tuple((element(value["path"]), self._content(value["expression"]["expression"]))
                             for value in one.get("dynamicValue", ()))  # fmt: skip
            codes = tuple(self._code(coding) for coding in one.get("code", {}).get("coding", ()))
            yield Order(one["id"], flat(one.get("title", one["id"])), flat(one.get("description")), codes, contents)

    def _content(self, expression: str) -> str:
        name = expression.strip().removeprefix("%")
        plan = self._loaded.plan
        if name in plan.parameters:
            return self._say.say(plan.parameters[name])
        return flat(plan.facts[name].condition.description) if name in plan.facts else flat(expression)

    def replacements(self) -> Iterator[Replacement]:
        """The codes that suggestions replace."""
        for _, one in self._loaded.package.of_type("ConceptMap"):
            pairs = tuple(
                (self._code({**source, "system": group["source"]}),
                 self._code({**target, "system": group["source"]}, str(target.get("equivalence", ""))))
                for group in one.get("group", ()) for source in group["element"]
                for target in source.get("target", ())[:1]
            )  # fmt: skip
            yield Replacement(one["id"], flat(one.get("title", one["id"])), flat(one.get("description")), pairs)

    def _code(self, coding: Mapping[str, Any], note: str = "") -> Code:
        return Code(self._say.system(coding.get("system")), coding["code"], flat(coding.get("display")), "", note)

    def parameters(self) -> Iterator[Parameter]:
        """All parameters with the values in force."""
        for extension in self._loaded.package.plan.get("extension", ()):
            if extension.get("url") != EXTENSIONS + "parameter":
                continue
            parts = {part["url"]: part for part in extension["extension"]}
            name = parts["name"]["valueString"]
            original = next(value for key, value in parts["value"].items() if key.startswith("value"))
            shipped, now = self._say.say(original), self._say.say(self._loaded.plan.parameters[name])
            meaning = flat(parts.get("description", {}).get("valueString"))
            yield Parameter(name, now, shipped if shipped != now else "", meaning)
