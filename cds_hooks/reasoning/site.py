"""A site's own layer over a shipped plan: local codes, parameters, cards switched off, its own name. All of it data.

    <site folder>/<plan>/site.yaml            name, label, parameters, card-limit, off
    <site folder>/<plan>/valuesets/*.yaml     members to add to a shipped value set of the same id
    <site folder>/<plan>/conceptmaps/*.yaml   groups to add to a shipped map of the same id
    <site folder>/<plan>/activities/*.yaml    codings to put before those of a shipped activity of the same id
    <site folder>/<plan>/codesystems/*.yaml   how codes of a local system compare
    <site folder>/<plan>/cases/*.yaml         the site's own examples

The shipped plan is not touched; what comes out is checked like any plan.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cds_hooks.errors import ContentError
from cds_hooks.reasoning.compiling import with_parameters
from cds_hooks.reasoning.content import Package, check_resource, read_yaml
from cds_hooks.reasoning.plan import Plan

_KEYS: Final = frozenset({"name", "label", "parameters", "card-limit", "off"})
_FOLDERS: Final = ("valuesets", "conceptmaps", "activities", "codesystems")


@dataclass(frozen=True, slots=True)
class Site:
    """What a site changes in one plan."""

    folder: Path
    name: str
    label: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    card_limit: int | None = None
    off: frozenset[str] = frozenset()
    resources: tuple[tuple[str, dict[str, Any]], ...] = ()
    digest: str = ""


def read_site(folder: Path, plan: str) -> Site | None:
    """The site's layer for a plan, None if it has none. Raises ContentError for what is not understood."""
    here = folder / plan
    if not here.is_dir():
        return None
    file = here / "site.yaml"
    documents = read_yaml(file) if file.exists() else [{}]
    body = documents[0] if len(documents) == 1 and isinstance(documents[0], dict) else None
    if body and not isinstance(body.get("card-limit", 1), int):
        raise ContentError(str(file), "card-limit", "a whole number from 1")
    if body is None or set(body) - _KEYS:
        odd = sorted(set(body or {"": 0}) - _KEYS)[0]
        raise ContentError(str(file), odd, f"expected one mapping with {', '.join(sorted(_KEYS))}")
    if not isinstance(body.get("parameters", {}), dict):
        raise ContentError(str(file), "parameters", "a mapping of names to values is expected")
    if not isinstance(off := body.get("off", []), list) or not all(isinstance(rule, str) for rule in off):
        raise ContentError(str(file), "off", "a list of rule ids is expected")
    _check_names(here)
    pairs = [(str(path.relative_to(folder)), resource) for part in _FOLDERS
             for path in sorted((here / part).glob("*.yaml")) for resource in read_yaml(path)]  # fmt: skip
    for name, resource in pairs:
        if not isinstance(resource, dict):
            raise ContentError(name, "", "each document is a FHIR resource")
    total = hashlib.sha256()
    for path in sorted(path for path in here.rglob("*.yaml")):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return Site(here, str(body.get("name", folder.name)), body.get("label"), body.get("parameters", {}),
                body.get("card-limit"), frozenset(body.get("off", ())), tuple(pairs), total.hexdigest())  # fmt: skip


def _check_names(here: Path) -> None:
    """Raise ContentError for what nobody would read: a misspelt folder or file changes nothing, in silence."""
    for path in sorted(here.iterdir()):
        known = path.name in (*_FOLDERS, "cases") if path.is_dir() else path.name == "site.yaml"
        if not known and (path.is_dir() or path.suffix in (".yaml", ".yml")) and not path.name.startswith("."):
            raise ContentError(str(path), "", f"expected site.yaml and folders {', '.join((*_FOLDERS, 'cases'))}")


def merged(package: Package, site: Site) -> Package:
    """The package with the site's codes added; raises ContentError for a resource that the plan does not have."""
    resources = list(package.resources)
    known = {(resource["resourceType"], resource["id"]): number for number, (_, resource) in enumerate(resources)}
    for file, addition in site.resources:
        kind, identity = addition.get("resourceType"), addition.get("id")
        number = known.get((str(kind), str(identity)))
        if number is None:
            if kind != "CodeSystem":
                raise ContentError(file, str(identity), f"the plan has no {kind} of this id")
            check_resource(file, {**_common(package), **addition})
            resources.append((file, {**_common(package), **addition}))
            continue
        shipped, original = resources[number]
        resources[number] = (f"{shipped} + {file}", _added(file, original, addition))
        check_resource(file, resources[number][1])
    return dataclasses.replace(package, resources=tuple(resources))


def _common(package: Package) -> dict[str, Any]:
    return {key: package.plan[key] for key in ("version", "status", "date", "experimental", "publisher")
            if key in package.plan}  # fmt: skip


def _added(file: str, original: dict[str, Any], addition: dict[str, Any]) -> dict[str, Any]:
    whole = copy.deepcopy(original)
    kind = original["resourceType"]
    if kind == "ValueSet":
        whole.setdefault("compose", {}).setdefault("include", []).extend(addition.get("compose", {}).get("include", []))
        whole.setdefault("extension", []).extend(addition.get("extension", []))
        if not whole["extension"]:
            del whole["extension"]
    elif kind == "ConceptMap":
        whole.setdefault("group", []).extend(addition.get("group", []))
    elif kind == "ActivityDefinition":
        whole["code"]["coding"] = [*addition.get("code", {}).get("coding", []), *whole["code"]["coding"]]
    else:
        raise ContentError(file, str(addition.get("id")), f"a site cannot add to a {kind}")
    return whole


def applied(plan: Plan, site: Site) -> Plan:
    """The plan with the site's parameters, limit, name and switched-off rules."""
    rules = {rule.id for rule in plan.rules}
    for name in sorted(site.off - rules):
        raise ContentError(str(site.folder / "site.yaml"), f"off: {name}", "the plan has no such rule")
    if site.card_limit is not None and site.card_limit < 1:
        raise ContentError(str(site.folder / "site.yaml"), "card-limit", "a whole number from 1")
    try:
        changed = with_parameters(plan, site.parameters)
    except ContentError as error:
        raise ContentError(str(site.folder / "site.yaml"), error.element, error.reason) from None
    return dataclasses.replace(
        changed, off=site.off, site=f"{site.name} ({site.digest[:12]})",
        label=site.label or plan.label, card_limit=site.card_limit or plan.card_limit,
    )  # fmt: skip
