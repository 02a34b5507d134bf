"""Reading content from disk: YAML that is element-for-element FHIR R4, checked with fhir.resources (R4B models).

What every resource of a plan has in common (url, version, status, date, publisher …) is written once, in its
PlanDefinition, and filled in here.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from cds_hooks.errors import ContentError
from cds_hooks.reasoning.extensions import check_extensions

CANONICAL: Final = "https://cds-hooks.example.org/fhir"
_COMMON: Final = ("version", "status", "date", "experimental", "publisher")
#: folder → the resource type that its files hold
_FOLDERS: Final = {"valuesets": "ValueSet", "codesystems": "CodeSystem", "conceptmaps": "ConceptMap",
                   "activities": "ActivityDefinition"}  # fmt: skip
#: FHIR R4 value set publication-status; fhir.resources does not check codes
_STATUSES: Final = ("draft", "active", "retired", "unknown")


@dataclass(frozen=True, slots=True)
class Package:
    """The raw content of one plan: FHIR resources as plain dicts with the file each came from."""

    name: str
    folder: Path
    cards: Path
    plan: dict[str, Any]
    library: dict[str, Any]
    resources: tuple[tuple[str, dict[str, Any]], ...]  # terminology and activities
    evidence: dict[str, Any]
    digest: str  # SHA-256 over all files: which content gave an answer

    def of_type(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        return [pair for pair in self.resources if pair[1]["resourceType"] == kind]


def content_root(environ: dict[str, str] | None = None) -> Path:
    """The folder that holds `plans/` and `cards/`: CDS_CONTENT, the source tree, or the installed package."""
    named = (os.environ if environ is None else environ).get("CDS_CONTENT")
    package = Path(__file__).resolve().parent.parent
    candidates = [Path(named)] if named else [package.parent, package / "content"]
    for folder in candidates:
        if (folder / "plans").is_dir() and (folder / "cards").is_dir():
            return folder
    raise ContentError(str(candidates[0]), "", "no plans/ and cards/ here (set CDS_CONTENT to the folder with both)")


def plan_names(root: Path) -> list[str]:
    """The plans in a content folder."""
    return sorted(path.parent.name for path in (root / "plans").glob("*/plan.yaml"))


def load_package(root: Path, name: str, *, validate: bool = True) -> Package:
    """Read one plan's content; raises ContentError at the first file that is not valid YAML or FHIR R4."""
    folder = root / "plans" / name
    plan = _only(folder / "plan.yaml", "PlanDefinition")
    library = _only(folder / "library.yaml", "Library")
    pairs = [(str(path.relative_to(folder)), resource) for path, kind in _files(folder)
             for resource in _documents(path, kind)]  # fmt: skip
    common: dict[str, Any] = {key: plan[key] for key in _COMMON if key in plan}
    for file, resource in (("plan.yaml", plan), ("library.yaml", library), *pairs):
        _complete(file, resource, common)
        if validate:
            check_resource(file, resource)
    evidence = _only(folder / "evidence.yaml") if (folder / "evidence.yaml").exists() else {}
    return Package(name, folder, root / "cards" / name, plan, library, tuple(pairs), evidence, _digest(root, name))


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    for part, kind in _FOLDERS.items():
        for path in sorted((folder / part).glob("*.yaml")):
            yield path, kind


class _Loader(yaml.SafeLoader):
    """YAML 1.2 in what matters: dates stay text, `on`/`off`/`yes`/`no` stay words, a repeated key is an error."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}  # fmt: skip
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf")
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    plain = [key.value for key, _ in node.value if key.value != "<<"]
    if len(set(plain)) != len(plain):
        twice = next(key for key in plain if plain.count(key) > 1)
        raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} is repeated", node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> list[Any]:
    """All documents of a YAML file; raises ContentError with line and reason."""
    try:
        with path.open(encoding="utf-8") as stream:
            return [document for document in yaml.load_all(stream, _Loader) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else ""
        raise ContentError(path.name, where, str(getattr(error, "problem", None) or error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ContentError(path.name, "", f"cannot be read: {type(error).__name__}") from None


def _documents(path: Path, kind: str) -> list[dict[str, Any]]:
    documents = read_yaml(path)
    for document in documents:
        if not isinstance(document, dict) or document.get("resourceType") != kind:
            raise ContentError(path.name, "", f"each document is a FHIR resource with the resourceType {kind}")
    return documents


def _only(path: Path, kind: str | None = None) -> dict[str, Any]:
    documents = read_yaml(path)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ContentError(path.name, "", "expected exactly one mapping")
    if kind is not None and documents[0].get("resourceType") != kind:
        raise ContentError(path.name, "resourceType", f"{kind} is expected here")
    return documents[0]


def _check_filled(file: str, value: Any, where: str = "") -> None:
    """Raise ContentError for a key that was left empty: FHIR has no nulls."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        place = f"{where}.{key}".removeprefix(".")
        if part is None:
            raise ContentError(file, place, "is left empty")
        _check_filled(file, part, place)


def _complete(file: str, resource: dict[str, Any], common: dict[str, Any]) -> None:
    _check_filled(file, resource)
    kind, identity = resource.get("resourceType"), resource.get("id")
    if not isinstance(identity, str):
        raise ContentError(file, str(kind), "a resource needs an id")
    resource.setdefault("url", f"{CANONICAL}/{kind}/{identity}")
    for key, value in common.items():
        resource.setdefault(key, value)


def check_resource(file: str, resource: dict[str, Any]) -> None:
    """Validate a resource as FHIR R4, with our own extensions; raises ContentError that names the element."""
    kind = resource["resourceType"]
    try:
        module = importlib.import_module(f"fhir.resources.R4B.{kind.lower()}")
        getattr(module, kind).model_validate(resource)
    except (ImportError, AttributeError):
        raise ContentError(file, resource.get("id", ""), f"{kind} is no FHIR R4 resource") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        reason = "a mapping is expected" if first["type"] == "json_invalid" else first["msg"]
        raise ContentError(file, f"{resource.get('id', kind)}.{where}", reason) from None
    except KeyError as error:  # the library's own way to refuse an unknown contained type
        raise ContentError(file, resource.get("id", ""), f"unknown resource type {error}") from None
    if resource.get("status") not in _STATUSES:
        raise ContentError(file, f"{resource.get('id', kind)}.status", f"one of {', '.join(_STATUSES)} is needed")
    check_extensions(file, resource)


def _digest(root: Path, name: str) -> str:
    total = hashlib.sha256()
    for folder in (root / "plans" / name, root / "cards" / name):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()
