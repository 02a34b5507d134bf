"""Content from disk to ready plans with their card templates. Raises ContentError at the first thing that is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cds_hooks.answer.templates import Cards
from cds_hooks.errors import ContentError
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.reasoning.compiling import compile_plan
from cds_hooks.reasoning.content import Package, content_root, load_package, plan_names
from cds_hooks.reasoning.plan import Plan
from cds_hooks.reasoning.site import Site, applied, merged, read_site


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plan that can answer calls: compiled logic, templates, and the raw content they came from."""

    plan: Plan
    cards: Cards
    package: Package
    site: Site | None = None
    shipped: Package | None = None  # the content before the site's layer


def load_plan(root: Path, name: str, *, site: Path | None = None, validate: bool = True) -> Loaded:
    """Load one plan, with the layer of a site folder if it has one for this plan.

    `validate=False` skips the FHIR check of each resource (workers: the launcher has done it).
    """
    package = load_package(root, name, validate=validate)
    if package.plan["id"] != name:
        raise ContentError("plan.yaml", "id", f"must be {name}, the name of its folder")
    layer = read_site(site, name) if site else None
    loaded = _compiled(merged(package, layer) if layer is not None else package)
    if layer is None:
        return loaded
    return replace(loaded, plan=applied(loaded.plan, layer), site=layer, shipped=package)


def with_codes_only(loaded: Loaded) -> Loaded:
    """The plan with nothing of the site but its additional codes: what the shipped cases must still hold for."""
    if loaded.site is None or loaded.shipped is None:
        return loaded
    codes = tuple(pair for pair in loaded.site.resources if pair[1].get("resourceType") != "ActivityDefinition")
    return _compiled(merged(loaded.shipped, replace(loaded.site, resources=codes)))


def _compiled(package: Package) -> Loaded:
    displays = _displays(package)
    cards = Cards(package.cards, lambda system, code: displays.get((system, code)))
    topics = {topic for topic, _ in _topics(package.plan.get("action", ()))}
    names = {topic: cards.facts_read(topic) for topic in topics}
    plan = compile_plan(package, names)
    _check_templates(cards, plan)
    _check_hooks(plan)
    return Loaded(plan, cards, package)


def load_all(root: Path | None = None, *, site: Path | None = None, validate: bool = True) -> list[Loaded]:
    """All plans of a content folder (default: see content_root)."""
    root = root or content_root()
    check_site_folder(root, site)
    loaded = [load_plan(root, name, site=site, validate=validate) for name in plan_names(root)]
    if not loaded:
        raise ContentError(str(root), "plans", "there is no plan")
    return loaded


def check_site_folder(root: Path, site: Path | None) -> None:
    """Raise ContentError for a site's folder that is none, or holds anything but folders named like plans."""
    if site is None:
        return
    if not site.is_dir():
        raise ContentError(str(site), "", "there is no such folder")
    for path in sorted(site.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name not in plan_names(root):
            raise ContentError(str(site), path.name, "there is no plan of this name")
        if path.suffix in (".yaml", ".yml"):
            raise ContentError(str(site), path.name, f"belongs into a folder named like a plan: {plan_names(root)}")


def _check_hooks(plan: Plan) -> None:
    for where, hooks in [("quiet", set(plan.quiet)), *((rule.element, rule.hooks) for rule in plan.rules)]:
        for hook in sorted(hooks - HOOKS.keys()):
            reason = f"no hook {hook!r} is known, but {', '.join(HOOKS)}"
            raise ContentError("plan.yaml", f"{where}.trigger" if where != "quiet" else where, reason)


def _topics(actions: Any) -> list[tuple[str, str]]:
    found = []
    for action in actions:
        if "code" in action:
            codes = [coding.get("code") for concept in action["code"] for coding in concept.get("coding", ())]
            found += [(code, action.get("id", "")) for code in codes[:1] if code]
        else:
            found += _topics(action.get("action", ()))
    return found


def _displays(package: Package) -> dict[tuple[str | None, str], str]:
    """Names for codes that come without one: from our value sets."""
    found: dict[tuple[str | None, str], str] = {}
    for _, value_set in package.of_type("ValueSet"):
        for include in value_set.get("compose", {}).get("include", ()):
            for concept in include.get("concept", ()):
                if concept.get("display") and concept.get("code"):
                    found.setdefault((include.get("system"), concept["code"]), concept["display"])
    return found


def _check_templates(cards: Cards, plan: Plan) -> None:
    known = {*plan.facts, *plan.parameters, *plan.inputs_of, "selected", "drafts"}
    for rule in plan.rules:
        topic = rule.topic["code"]
        for name in sorted(cards.facts_read(topic) - known):
            raise ContentError(f"cards/{plan.id}/{topic}.md.j2", f"f.{name}", "the plan has no such fact")
    for topic in sorted(set(cards.topics) - {rule.topic["code"] for rule in plan.rules}):
        raise ContentError(f"cards/{plan.id}/{topic}.md.j2", "", "no rule has this topic")
