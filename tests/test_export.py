"""What is exported is valid FHIR, complete, agrees with its index, and does not depend on the day."""

from __future__ import annotations

import importlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cds_hooks.cli import main
from cds_hooks.export import export, resources
from cds_hooks.reasoning.content import Package, content_root, load_package, plan_names

EXAMPLE = Path(__file__).parent.parent / "examples" / "plan-tiny"
CONTENT = [(root, name) for root in (content_root(), EXAMPLE) for name in plan_names(root)]
NEEDED = ("url", "version", "status", "date", "experimental", "publisher", "name", "title")
CANONICALS = ("library", "definitionCanonical", "valueSet", "source", "target", "system", "supplements")


@pytest.fixture(params=CONTENT, ids=[name for _, name in CONTENT])
def package(request: pytest.FixtureRequest) -> Package:
    return load_package(*request.param)


def read(archive: Path) -> dict[str, Any]:
    """File name → content of a package."""
    with tarfile.open(archive) as tar:
        names = [member.name for member in tar.getmembers()]
        assert all(name.startswith("package/") for name in names)
        assert len(set(names)) == len(names)
        return {name.removeprefix("package/"): json.load(tar.extractfile(name)) for name in names}  # type: ignore[arg-type]


def walk(value: Any) -> list[dict[str, Any]]:
    """All objects in a resource, itself first."""
    if isinstance(value, list):
        return [found for item in value for found in walk(item)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for item in value.values() for found in walk(item))]


def test_each_resource_is_fhir_and_says_who_what_and_when(package: Package) -> None:
    for resource in resources(package):
        kind = resource["resourceType"]
        module = importlib.import_module(f"fhir.resources.R4B.{kind.lower()}")
        assert getattr(module, kind).model_validate(resource)
        assert [key for key in NEEDED if key not in resource] == [], resource["id"]
        assert re.fullmatch(r"[A-Z][A-Za-z0-9_]{0,254}", resource["name"]), resource["name"]
        assert re.fullmatch(r"[A-Za-z0-9.-]{1,64}", resource["id"])


def test_each_extension_has_an_address_and_either_a_value_or_parts(package: Package) -> None:
    found = [extension for resource in resources(package) for element in walk(resource)
             for extension in element.get("extension", ())]  # fmt: skip
    assert found
    for extension in found:
        values = [key for key in extension if key.startswith("value")]
        assert len(values) + ("extension" in extension) == 1, extension
        assert set(extension) <= {"url", "extension", *values}


def test_each_inexact_target_of_a_map_has_a_comment(package: Package) -> None:
    """FHIR R4, ConceptMap, invariant cmd-1: fhir.resources does not check it."""
    for resource in resources(package):
        for element in walk(resource):
            if element.get("equivalence") in ("narrower", "inexact"):
                assert element.get("comment"), f"{resource['id']}: {element}"


def test_no_code_system_of_others_is_redefined(package: Package) -> None:
    for resource in resources(package):
        if resource["resourceType"] == "CodeSystem":
            assert resource["content"] in ("complete", "supplement")
            foreign = resource["content"] == "supplement"
            assert foreign == ("supplements" in resource)
            assert not foreign or resource["url"].startswith(package.plan["url"].rsplit("/", 2)[0])


def test_what_is_referred_to_is_exported_too(package: Package) -> None:
    exported = list(resources(package))
    urls = [resource["url"] for resource in exported]
    assert len(set(urls)) == len(urls)
    base = package.plan["url"].rsplit("/", 2)[0]
    for resource in exported:
        for element in walk(resource):
            for key in CANONICALS:
                values = element.get(key)
                for value in values if isinstance(values, list) else [values]:
                    if isinstance(value, str) and value.startswith(base):
                        assert value in urls, f"{resource['id']}: {key} {value}"


def test_exporting_changes_nothing_in_the_content(package: Package) -> None:
    before = json.dumps([package.plan, package.library, package.resources])
    list(resources(package))
    assert json.dumps([package.plan, package.library, package.resources]) == before


def test_files_archive_and_index_agree(package: Package, tmp_path: Path) -> None:
    *files, archive = export(package, tmp_path)
    assert archive.name == f"{package.name}-{package.plan['version']}.tgz"
    content = read(archive)
    manifest, index = content.pop("package.json"), content.pop(".index.json")
    assert content == {path.name: json.loads(path.read_text("utf-8")) for path in files}
    assert {path.name for path in files} == {f"{r['resourceType']}-{r['id']}.json" for r in resources(package)}
    listed = {entry.pop("filename"): entry for entry in index["files"]}
    assert listed.keys() == content.keys()
    for name, entry in listed.items():
        assert {"resourceType", "id", "url", "version"} <= entry.keys()
        assert entry.items() <= content[name].items()
    assert re.fullmatch(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+", manifest["name"])
    assert manifest["version"] == package.plan["version"]
    assert manifest["fhirVersions"] == ["4.0.1"]
    assert package.plan["url"].startswith(manifest["canonical"])


def test_two_exports_give_the_same_bytes(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = export(package, tmp_path / "one")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    two = export(package, tmp_path / "two")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_nothing_in_the_archive_tells_the_day_or_the_machine(package: Package, tmp_path: Path) -> None:
    archive = export(package, tmp_path)[-1]
    assert archive.read_bytes()[4:8] == bytes(4)  # the time in the gzip header
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode) for member in members} == {
        (0, 0, 0, "", "", 0o644)
    }


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDS_CONTENT", str(EXAMPLE))
    done = CliRunner().invoke(main, ["export", "--out", str(tmp_path)])
    assert (done.exit_code, done.output) == (0, f"9 files in {tmp_path / 'teapot-calibration'}\n")
    assert (tmp_path / "teapot-calibration" / "teapot-calibration-1.0.0.tgz").is_file()
