"""The content as FHIR JSON and as a FHIR package (.tgz) that other servers can load."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cds_hooks.reasoning.content import Package

_INDEXED = ("resourceType", "id", "url", "version")


def resources(package: Package) -> Iterator[dict[str, Any]]:
    """All FHIR resources of a plan."""
    yield package.plan
    yield package.library
    for _, resource in package.resources:
        yield resource


def export(package: Package, folder: Path) -> list[Path]:
    """Write `<Type>-<id>.json` files and `<plan>-<version>.tgz` into the folder; gives the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{resource['resourceType']}-{resource['id']}.json": resource for resource in resources(package)}
    written = []
    for name, resource in files.items():
        path = folder / name
        path.write_text(_json(resource), encoding="utf-8")
        written.append(path)
    archive = folder / f"{package.name}-{package.plan.get('version', '0')}.tgz"
    _package(package, files, archive)
    return [*written, archive]


def _package(package: Package, files: dict[str, dict[str, Any]], archive: Path) -> None:
    manifest = {
        "name": f"hfs-cds-hooks.{package.name}", "version": package.plan.get("version", "0.0.0"),
        "description": " ".join(str(package.plan.get("description", package.name)).split()),
        "author": package.plan.get("publisher", ""), "fhirVersions": ["4.0.1"], "type": "fhir.ig",
        "dependencies": {"hl7.fhir.r4.core": "4.0.1"}, "canonical": package.plan["url"].rsplit("/", 2)[0],
        "title": package.plan.get("title", package.name), "url": package.plan["url"].rsplit("/", 2)[0],
    }  # fmt: skip
    index = {"index-version": 1, "files": [
        {"filename": name, **{key: resource[key] for key in _INDEXED if key in resource}}
        for name, resource in files.items()
    ]}  # fmt: skip
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in {"package.json": manifest, ".index.json": index, **files}.items():
            data = _json(content).encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
