"""What is wrong with content, beyond what stops it from loading: evidence, unused facts, rules without examples."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cds_hooks.cases import Result, run_cases, run_site_cases
from cds_hooks.errors import ContentError
from cds_hooks.evidence import PARTS, lint_figures, lint_register
from cds_hooks.loading import Loaded, check_site_folder, load_plan
from cds_hooks.reasoning.content import plan_names

#: Kind of case that each rule needs → what is said if there is none.
_LACKING = {
    "firing": "no firing case: one with the rule in `about` in which it gives a card",
    "silent": "no silent case: one with the rule in `about` in which it is decided and gives no card",
    "missing": "no missing case: one with the rule in `about` in which data lack (`unavailable`, or it is `unknown`)",
}
KINDS = tuple(_LACKING)


def lint(root: Path, now: datetime, site: Path | None = None) -> Iterator[ContentError]:
    """All that is wrong with all plans of a content folder. A plan that does not load gives its first error.

    With a site folder the merged result is checked: the plan's own cases must hold with the site's codes (not with
    its parameters and switched-off cards, which are meant to change answers), the site's cases with all of it.
    """
    names = plan_names(root)
    try:
        check_site_folder(root, site)
    except ContentError as wrong:
        yield wrong
        return
    if not names:
        yield ContentError(str(root), "plans", "there is no plan")
    for name in names:
        for error in _of_plan(root, name, now, site):
            yield ContentError(_located(root, name, error.file), error.element, error.reason)


def _of_plan(root: Path, name: str, now: datetime, site: Path | None) -> Iterator[ContentError]:
    try:
        loaded = load_plan(root, name, site=site)
        yield from lint_static(loaded)
        yield from lint_cases(loaded, run_cases(loaded, now))
        yield from lint_site(loaded, now)
    except ContentError as error:
        yield error


def _located(root: Path, name: str, file: str) -> str:
    """The path of a file within the content folder; what is no file of the plan is named as it is."""
    if Path(file).is_absolute() or (root / file).is_file():
        return file
    for folder in (root / "plans" / name, root / "cards" / name):
        found = [folder / file] if (folder / file).is_file() else sorted(folder.rglob(Path(file).name))
        if len(found) == 1:
            return str(found[0].relative_to(root))
    return file


def lint_static(loaded: Loaded) -> Iterator[ContentError]:
    """What can be seen without playing a case; part of every start."""
    yield from _evidence(loaded)
    yield from lint_register(loaded)
    yield from lint_figures(loaded)
    yield from _unused(loaded)
    yield from _own_codes(loaded)
    yield from _titles(loaded)


def lint_cases(loaded: Loaded, results: list[Result]) -> Iterator[ContentError]:
    """Cases that fail, and rules without an example of each kind: speaking, silent, data missing."""
    for result in results:
        for problem in result.problems:
            yield ContentError(result.case.file, result.case.id, problem)
    for rule, kinds in coverage(loaded, results).items():
        for kind in KINDS:
            if not kinds[kind]:
                yield ContentError("plan.yaml", rule, _LACKING[kind])


def lint_site(loaded: Loaded, now: datetime) -> Iterator[ContentError]:
    """The site's own cases, played with everything that the site changes."""
    for result in run_site_cases(loaded, now):
        for problem in result.problems:
            yield ContentError(f"site/{result.case.file}", result.case.id, problem)


def coverage(loaded: Loaded, results: list[Result]) -> dict[str, dict[str, int]]:
    """rule id → kind of case → how many cases name the rule in `about`."""
    table = {rule.id: dict.fromkeys(KINDS, 0) for rule in loaded.plan.rules}
    for result in results:
        for rule in result.case.about:
            if rule in table:
                table[rule][result.kind(rule)] += 1
    return table


def _evidence(loaded: Loaded) -> Iterator[ContentError]:
    register = loaded.package.evidence
    known = {key: entry for part in PARTS for key, entry in register.get(part, {}).items()}
    for key, entry in known.items():
        if not isinstance(entry, dict) or not entry.get("says"):
            yield ContentError("evidence.yaml", key, "a mapping that says something in `says` is expected")
            return
    for rule in loaded.plan.rules:
        where = f"{rule.element}.documentation"
        for label in rule.evidence:
            if label not in known:
                yield ContentError("plan.yaml", where, f"no evidence {label} in evidence.yaml")
            elif known[label].get("basis") is False:
                yield ContentError("plan.yaml", where, f"{label} is not verified: no basis")


def _unused(loaded: Loaded) -> Iterator[ContentError]:
    plan = loaded.plan
    used = {name for rule in plan.rules for name in rule.reads}
    used |= {name for rule in plan.rules for group in rule.groups for condition in group.conditions
             for name in condition.names}  # fmt: skip
    used |= {name for fact in plan.facts.values() for name in fact.condition.names}
    used |= {name for name in (plan.snooze, plan.override_target) if name is not None}
    for name in plan.facts:
        if name not in used:
            yield ContentError("plan.yaml", f"variable {name}", "no rule, fact or template reads it")
    for name in plan.parameters:
        if name not in used:
            yield ContentError("plan.yaml", f"parameter {name}", "nothing reads it")


def _own_codes(loaded: Loaded) -> Iterator[ContentError]:
    """Codes of the plan's own code systems: they are in there, and are called the same everywhere."""
    own = {system["url"]: {concept["code"]: concept.get("display") for concept in system.get("concept", ())}
           for _, system in loaded.package.of_type("CodeSystem") if system.get("content") == "complete"}  # fmt: skip
    used = [("plan.yaml", rule.element, rule.topic) for rule in loaded.plan.rules]
    for file, value_set in loaded.package.of_type("ValueSet"):
        for include in value_set.get("compose", {}).get("include", ()):
            system = {"system": include.get("system", "")}
            used += [(file, value_set["id"], {**system, **concept}) for concept in include.get("concept", ())]
    for file, where, coding in used:
        code, known = coding["code"], own.get(coding.get("system", ""))
        if known is not None and code not in known:
            yield ContentError(file, where, f"{coding['system']} has no code {code}")
        elif known is not None and coding.get("display") not in (None, known[code]):
            yield ContentError(file, where, f"{code} is called {known[code]!r} in its code system")


def _titles(loaded: Loaded) -> Iterator[ContentError]:
    """A reader tells rules apart by their titles."""
    first: dict[str, str] = {}
    for rule in loaded.plan.rules:
        if first.setdefault(rule.title, rule.id) != rule.id:
            yield ContentError("plan.yaml", rule.element, f"{first[rule.title]} has the same title")
