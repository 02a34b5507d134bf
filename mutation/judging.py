"""Whether some case notices a mutant. Content and cases are read once; each case's request is built once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cds_hooks.cases import Case, differences, read_cases, recalled, request_of
from cds_hooks.errors import CdsHooksError, ContentError
from cds_hooks.lint import lint_static
from cds_hooks.loading import Loaded, load_plan
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import HookRequest, parse_request
from cds_hooks.reasoning.compiling import compile_plan, with_parameters
from cds_hooks.reasoning.plan import Plan, Rule
from cds_hooks.service import CdsService
from mutation.mutants import Mutant, apply, mutants

#: The moment at which the cases are played: always the same, so that the result does not depend on the day.
NOW: Final = datetime(2026, 6, 17, 10, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: how it was noticed ("case", "lint", or "" if not at all), and by what."""

    mutant: str
    how: str
    by: str = ""


@dataclass(frozen=True)
class Played:
    """A case ready to be played, and what it asks of the content as it is: facts read, rules not behind a gate."""

    case: Case
    request: HookRequest
    asks: frozenset[str]


class Judge:
    """Plays the cases of a plan on its mutants, likely killers first, and only those that can make a difference."""

    def __init__(self, root: Path, name: str) -> None:
        self._loaded = load_plan(root, name, validate=False)
        self.mutants = mutants(self._loaded.package)
        cards = self._loaded.cards
        self._names = {rule.topic["code"]: cards.facts_read(rule.topic["code"]) for rule in self._loaded.plan.rules}
        cases, self._fixtures = read_cases(self._loaded.package.folder / "cases")
        services = _Services(self._loaded)
        self._cases = [self._prepared(services, case) for case in cases]
        self._killers: Counter[str] = Counter()

    def _request(self, loaded: Loaded, case: Case) -> HookRequest:
        return parse_request(request_of(loaded, case, self._fixtures, NOW), HOOKS[case.body["hook"]])

    def _prepared(self, services: _Services, case: Case) -> Played:
        request = self._request(self._loaded, case)
        trace = services.of(case).explain(f"{self._loaded.plan.id}-{request.hook}", request)
        rules = (rule["id"] for rule in trace["rules"] if "conditions" in rule)
        return Played(case, request, frozenset({*trace["facts"], *rules}))

    def broken(self) -> list[str]:
        """The cases that fail on the content as it is: nothing can be judged by them."""
        services = _Services(self._loaded)
        return [played.case.id for played in self._cases if services.fails(played)]

    def judge(self, mutant: Mutant) -> Verdict:
        """Load the mutant, play the cases until one fails, then look with lint."""
        package = apply(self._loaded.package, mutant)
        try:
            changed = Loaded(compile_plan(package, self._names), self._loaded.cards, package)
        except ContentError as error:
            return Verdict(mutant.id, "lint", str(error))
        services = _Services(changed)
        asked = changed.plan.retrieval.queries == self._loaded.plan.retrieval.queries
        for played in self._ordered(mutant):
            if services.fails(played if asked else replace(played, request=self._request(changed, played.case))):
                self._killers[played.case.id] += 1
                return Verdict(mutant.id, "case", played.case.id)
        complaint = next(lint_static(changed), None)
        return Verdict(mutant.id, "lint", str(complaint)) if complaint else Verdict(mutant.id, "")

    def _ordered(self, mutant: Mutant) -> list[Played]:
        """Cases about rules that rest on what was changed first, among them those that noticed much before."""
        near = set(_resting_on(self._loaded.plan, mutant.names))
        played = [one for one in self._cases if not mutant.needs or mutant.needs in one.asks]
        return sorted(played, key=lambda one: (near.isdisjoint(one.case.about), -self._killers[one.case.id]))


class _Services:
    """The services of one content: one for the plan as it is, one for each set of parameters that a case changes."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._known: dict[str, CdsService] = {}

    def of(self, case: Case) -> CdsService:
        """The service that a case speaks to."""
        parameters = case.body.get("parameters", {})
        key = repr((parameters, case.body.get("overridden")))
        if key not in self._known:
            plan = with_parameters(self._loaded.plan, parameters)
            memory = recalled(case, plan.id, NOW)
            self._known[key] = CdsService([replace(self._loaded, plan=plan)], clock=lambda: NOW, memory=memory)
        return self._known[key]

    def fails(self, played: Played) -> bool:
        """Whether the answer is not what the case expects."""
        body, service = played.case.body, self.of(played.case)
        try:
            answered = service.call(f"{self._loaded.plan.id}-{body['hook']}", played.request)
        except (CdsHooksError, KeyError):  # KeyError: the hook has no rule any more
            return True
        troubles = answered.log.get("troubles", {}).keys() & {"expression", "card"}
        undecided = set(body.get("unknown", ())) - set(answered.log.get("unknown", ()))
        return bool(troubles or undecided or any(differences(body["expect"], answered.payload["cards"])))


def _resting_on(plan: Plan, names: Iterable[str]) -> list[str]:
    """The rules that are, or read, one of the names, directly or through facts."""
    touched = set(names)
    for fact in plan.facts.values():  # a fact reads only what stands above it
        if touched.intersection(fact.condition.names):
            touched.add(fact.name)
    return [rule.id for rule in plan.rules if rule.id in touched or touched.intersection(_reads(rule))]


def _reads(rule: Rule) -> frozenset[str]:
    gates = (condition.names for group in rule.groups for condition in group.conditions)
    return rule.reads.union(*gates)
