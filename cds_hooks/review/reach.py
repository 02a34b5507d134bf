"""What rests on what: the facts, inputs, parameters and value sets behind an expression, however deep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from cds_hooks.loading import Loaded
from cds_hooks.reasoning.plan import Condition, Plan, Rule
from cds_hooks.review.page import Fact, Named, Question
from cds_hooks.review.words import element, flat, resource


class Reach:
    """Follows the names of one plan."""

    def __init__(self, loaded: Loaded) -> None:
        self._plan: Final[Plan] = loaded.plan
        self._sets: Final = {str(one["url"]): one for _, one in loaded.package.of_type("ValueSet")}
        self._inputs: Final = {one["id"]: one for one in loaded.package.library.get("dataRequirement", ())}

    # ---- names

    def all_names(self, names: Iterable[str]) -> list[str]:
        """The names and all that they rest on, each once."""
        found: dict[str, None] = {}
        todo = list(names)
        while todo:
            name = todo.pop(0)
            if name in found:
                continue
            found[name] = None
            if name in self._plan.facts:
                todo += self._plan.facts[name].condition.names
            todo += [f"vs-{url.rsplit('/', 1)[-1]}" for url in self._filters(name)]
        return list(found)

    def value_sets(self, names: Iterable[str]) -> tuple[Named, ...]:
        """The value sets among all that the names rest on."""
        wanted = set(self.all_names(names))
        return tuple(self.value_set(url) for url in self._sets if f"vs-{url.rsplit('/', 1)[-1]}" in wanted)

    def parameters(self, names: Iterable[str]) -> tuple[Named, ...]:
        """The parameters among all that the names rest on."""
        wanted = set(self.all_names(names))
        return tuple(Named("parameter", name, name) for name in self._plan.parameters if name in wanted)

    def value_set(self, url: str) -> Named:
        """A value set by its address."""
        one = self._sets[url]
        return Named("set", one["id"], flat(one.get("title", one["id"])))

    def _filters(self, name: str) -> list[str]:
        filters = self._inputs.get(name, {}).get("codeFilter", ())
        return [item["valueSet"] for item in filters if "path" in item and item.get("valueSet") in self._sets]

    # ---- questions

    def question(self, condition: Condition) -> Question:
        """A condition as the page shows it."""
        rests_on = (named for name in condition.names if (named := self._named(name)) is not None)
        return Question(flat(condition.description), flat(condition.text), tuple(rests_on))

    def questions(self, conditions: Iterable[Condition]) -> tuple[Question, ...]:
        """Several of them."""
        return tuple(self.question(condition) for condition in conditions)

    def _named(self, name: str) -> Named | None:
        if name in self._plan.facts:
            return Named("fact", name, flat(self._plan.facts[name].condition.description) or name)
        if name in self._inputs:
            return Named("fact", name, self._input_words(self._inputs[name]))
        if name in self._plan.parameters:
            return Named("parameter", name, name)
        url = str(self._plan.constants.get(name))
        return self.value_set(url) if name.startswith("vs-") and url in self._sets else None

    def _input_words(self, requirement: Mapping[str, Any]) -> str:
        kind = resource(requirement["type"])
        paths = [item["path"] for item in requirement.get("codeFilter", ()) if "path" in item]
        return f"from the chart: each {kind}" + (f" whose {element(paths[0])} is in the set" if paths else "")

    # ---- what is listed by itself

    def facts(self) -> Iterator[Fact]:
        """All named facts, in the plan's order."""
        for fact in self._plan.facts.values():
            yield Fact(fact.name, self.question(fact.condition))

    def inputs(self) -> Iterator[Fact]:
        """All named inputs."""
        for name, requirement in self._inputs.items():
            sets = tuple(self.value_set(url) for url in self._filters(name))
            yield Fact(name, Question(self._input_words(requirement), "", sets))


def named_rules(plan: Plan) -> dict[str, Named]:
    """Rule id → its title; with the id where two rules have the same title."""
    titles = [flat(rule.title) for rule in plan.rules]
    return {
        rule.id: Named("rule", rule.id, title if titles.count(title) == 1 else f"{title} ({rule.id})")
        for rule, title in zip(plan.rules, titles, strict=True)
    }


def names_of(rule: Rule) -> list[str]:
    """The names in a rule's own conditions."""
    return [name for condition in rule.conditions for name in condition.names]
