"""The content as FHIR JSON and as a FHIR package (.tgz) that other servers can load.

Two exports of the same content give the same bytes, whatever the day. Two things are said otherwise than in the
content: what compares codes of a foreign code system becomes a supplement to it, so that a server that loads it keeps
its own copy of that system; and each inexact target of a map gets the comment that FHIR R4 asks for.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cds_hooks.reasoning.content import Package

_FHIR: Final = "4.0.1"
#: What the index of a package lists of each resource, where it is a plain string.
_INDEXED: Final = ("resourceType", "id", "url", "version", "kind", "type")
#: Equivalences that FHIR R4 wants explained (ConceptMap, invariant cmd-1).
_EXPLAINED: Final = ("narrower", "inexact")


def resources(package: Package) -> Iterator[dict[str, Any]]:
    """All FHIR resources of a plan, as they are published."""
    published = {"CodeSystem": _as_supplement, "ConceptMap": _with_comments}
    yield package.plan
    yield package.library
    for _, resource in package.resources:
        said = published.get(resource["resourceType"])
        yield said(resource, _base(package)) if said else resource


def export(package: Package, folder: Path) -> list[Path]:
    """Write `<Type>-<id>.json` files and `<plan>-<version>.tgz` into the folder; gives the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{resource['resourceType']}-{resource['id']}.json": resource for resource in resources(package)}
    written = []
    for name, resource in files.items():
        path = folder / name
        path.write_bytes(_json(resource))
        written.append(path)
    archive = folder / f"{package.name}-{_version(package)}.tgz"
    archive.write_bytes(_archive({"package.json": _manifest(package), ".index.json": _index(files), **files}))
    return [*written, archive]


def _as_supplement(system: dict[str, Any], base: str) -> dict[str, Any]:
    """A code system without codes is somebody else's: publish what we say about it, under an address of our own."""
    if system.get("content") != "not-present":
        return system
    address = f"{base}/CodeSystem/{system['id']}"
    return {**system, "url": address, "content": "supplement", "supplements": system["url"]}


def _with_comments(concept_map: dict[str, Any], _: str) -> dict[str, Any]:
    """The map with a comment on each inexact target; what the content leaves out is said by the map's description."""
    words = " ".join(str(concept_map.get("description", concept_map.get("title", ""))).split())
    if not words:
        return concept_map
    found = copy.deepcopy(concept_map)
    for group in found.get("group", ()):
        for element in group.get("element", ()):
            for target in element.get("target", ()):
                if target.get("equivalence") in _EXPLAINED:
                    target.setdefault("comment", words)
    return found


def _manifest(package: Package) -> dict[str, Any]:
    plan, base = package.plan, _base(package)
    return {
        "name": _package_name(base, package.name), "version": _version(package),
        "description": " ".join(str(plan.get("description", package.name)).split()),
        "author": plan.get("publisher", ""), "fhirVersions": [_FHIR], "type": "fhir.ig",
        "dependencies": {"hl7.fhir.r4.core": _FHIR}, "canonical": base,
        "title": plan.get("title", package.name), "url": base,
    }  # fmt: skip


def _package_name(base: str, plan: str) -> str:
    """The plan's name below its publisher's host, as FHIR packages are called: `org.example.<plan>`."""
    host = urlsplit(base).hostname or ""
    return ".".join([*reversed(host.split(".")), plan.lower()]) if host else f"local.{plan.lower()}"


def _base(package: Package) -> str:
    """The plan's address without type and id."""
    return str(package.plan["url"]).rsplit("/", 2)[0]


def _version(package: Package) -> str:
    return str(package.plan.get("version", "0.0.0"))


def _index(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"index-version": 1, "files": [
        {"filename": name, **{key: resource[key] for key in _INDEXED if isinstance(resource.get(key), str)}}
        for name, resource in files.items()
    ]}  # fmt: skip


def _archive(files: Mapping[str, Any]) -> bytes:
    """A .tgz with nothing in it of the day, the user or the machine."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=9, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in files.items():
            data = _json(content)
            info = tarfile.TarInfo(f"package/{name}")  # mode 0644, owner 0, mtime 0
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
