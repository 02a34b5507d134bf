"""The shape of the house, read from its source: who may import whom, and that the engine knows no medicine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import yaml
from fhirpathpy.models import models

import cds_hooks
from cds_hooks.reasoning.content import content_root, plan_names

R4 = models["r4"]
ENGINE = Path(cds_hooks.__file__).parent
MODULES = {
    ".".join(path.relative_to(ENGINE).with_suffix("").parts): path
    for path in sorted(ENGINE.rglob("*.py"))
    if "content" not in path.relative_to(ENGINE).parts[:1]
}
LAYERS = {
    # the package may import only these packages of ours (and itself, and errors)
    "protocol": set(),
    "chart": set(),
    "reasoning": {"chart"},
    "answer": {"reasoning", "chart", "protocol"},
    "trust": {"protocol"},
    "store": {"protocol"},
    "web": {"protocol", "chart", "reasoning", "answer", "service", "settings"},
}
#: What knows nothing of the product; whoever needs it may use it.
TOOLS = {"outbox"}
#: library → the only places that may import it
LIBRARIES = {
    "flask": ("web", "wsgi"),
    "werkzeug": ("web",),
    "requests": ("chart.transport",),
    "urllib3": ("chart.transport",),
    "fhirpathpy": ("reasoning",),
    "antlr4": ("reasoning",),
    "jinja2": ("answer", "review", "evidence"),
    "prometheus_client": ("web",),
    "opentelemetry": ("web.tracing",),
    "click": ("cli",),
    "jwt": ("trust.tokens",),
    "sqlalchemy": ("store",),
    "alembic": ("store",),
}


def imports(path: Path, *, at_start: bool = False) -> Iterator[str]:
    """Full names of imported modules, those inside functions too unless asked for the start only."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


def ours(name: str) -> list[str]:
    """The parts of our own package that a module imports (`chart`, `settings`)."""
    found = {one.split(".")[1] for one in imports(MODULES[name]) if one.startswith("cds_hooks.")}
    return sorted(one for one in found if not one.startswith("_"))


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in LAYERS])
def test_imports_run_one_way(name: str) -> None:
    layer = name.split(".")[0]
    assert set(ours(name)) <= LAYERS[layer] | {layer, "errors"} | TOOLS


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_the_door_but_the_factory(name: str) -> None:
    assert "web" not in ours(name) or within(name, ("web", "wsgi"))


def test_who_lets_callers_in_is_known_to_the_factory_alone() -> None:
    users = {name for name in MODULES if "trust" in ours(name) and not name.startswith("trust")}
    assert users == {"settings", "wsgi"}
    assert {
        one for one in imports(MODULES["settings"]) if ".trust" in one and not one.startswith("cds_hooks.trust.clients")
    } == set()


@pytest.mark.parametrize("library", LIBRARIES)
def test_where_a_library_may_be_used(library: str) -> None:
    users = [name for name, path in MODULES.items() if any(within(one, (library,)) for one in imports(path))]
    assert users, f"nobody uses {library}: drop it from this table"
    assert [name for name in users if not within(name, LIBRARIES[library])] == []


def test_errors_and_values_import_nothing_of_ours() -> None:
    assert [ours(name) for name in ("errors", *TOOLS)] == [[], []]
    assert ours("chart.dates") == ours("chart.reading") == []


def test_no_circles_at_import() -> None:
    """A module must not need, to be imported, one that needs it."""
    graph = {
        name: {one.removeprefix("cds_hooks.") for one in imports(path, at_start=True)} & set(MODULES)
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join((*above, name))
        if name not in done:
            for one in sorted(graph[name] - {name}):
                visit(one, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def drawn() -> Iterator[str]:
    """The modules that docs/architecture.md lists, as in MODULES; a package is drawn as `web/`, what is in it below."""
    text = (ENGINE.parent / "docs" / "architecture.md").read_text("utf-8")
    above = ""
    for depth, names, slash in re.findall(r"^( {2}| {4})(\w+(?:, \w+)*)(/?) +\S",
                                          text.partition("\ncds_hooks/\n")[2].partition("\nplans/")[0], re.MULTILINE):
        if len(depth) == 2:
            above = f"{names}." if slash else ""
        if not slash:
            yield from (above + name for name in names.split(", "))


def test_every_module_is_on_the_drawing_of_the_house_once() -> None:
    found = list(drawn())
    assert sorted(found) == sorted(set(found))
    hidden = {name for name in MODULES if name.rsplit(".", 1)[-1] == "__init__" or ".migrations." in name}
    assert set(found) == MODULES.keys() - hidden


def test_no_two_files_of_tests_have_one_name() -> None:
    """Else pytest refuses to collect them together, while each runs alone."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_catch_all_modules() -> None:
    catch_all = {"utils", "util", "common", "manager", "base", "helpers", "misc"}
    assert [name for name in MODULES if name.rsplit(".", 1)[-1] in catch_all] == []


# --- No medicine ----------------------------------------------------------------------------------------------------

#: URLs that are no code system: the standards that the engine speaks, and its own namespace.
ALLOWED_URLS = re.compile(
    r"https?://("
    r"cds-hooks\.example\.org|cds\.example\.org|cds-hooks\.hl7\.org|cds-hooks\.org|127\.0\.0\.1|localhost|host\b|"
    r"hl7\.org/fhir/StructureDefinition/|hl7\.org/fhir/R4|www\.w3\.org/|unitsofmeasure\.org)"
)
CODE_SYSTEMS = re.compile(
    r"snomed|loinc|rxnorm|\bcpt\b|\bicd\b|icd-?(9|10)|radlex|\bumls\b|ama-assn|whocc|hcpcs|ncit\b|dicom|"
    r"terminology\.hl7\.org|hl7\.org/fhir/(sid|CodeSystem|ValueSet)|urn:oid:",
    re.IGNORECASE,
)
#: Shapes of codes: LOINC 12345-6, ICD-10 G51.32, RadLex RPID1, numbers of the length of CPT, SNOMED, RxNorm codes.
CODES = re.compile(r"\b\d{3,5}-\d\b|\b[A-TV-Z]\d\d\.\d{1,4}\b|\bRPID\d+|(?<![\w.#_])\d{5,18}(?![\w_])")
#: Numbers of five and more digits that are limits, not codes.
NUMBERS = {"65535", "65536"}
FIXED = """
    spasm palsy facial face nerve mri mra ct contrast gadolinium botulinum toxin decompression neurosurgery
    neurology imaging radiology brain stroke bell kidney renal egfr pregnancy pregnant allergy implant
    pacemaker carbamazepine hemifacial hfs synkinesis tumour tumor vestibular laterality microvascular surgeon
    diagnosis
"""
#: Everyday words that also stand in titles and displays but in neither of the two neutral texts below.
EVERYDAY = """
    asks attack behind being came circle classic failure findings forms head late lately leave observations orders
    outcome pulse reported safe seen setting shown speaks standard stay stem tolerated transient tried unsafe wanted
    weeks worse
"""


def sources() -> list[tuple[str, str]]:
    return [(name, path.read_text("utf-8")) for name, path in MODULES.items()]


def parts(text: str) -> set[str]:
    """Lower-case words, also of names in camel case or with underscores."""
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)}


@cache
def neutral_words() -> set[str]:
    """Words that anybody may use: of Python's own manual, and of the types and elements of FHIR."""
    manual = " ".join(str(text) for text in topics.values())
    return parts(manual) | parts(" ".join(R4["path2Type"])) | set(EVERYDAY.split())


@cache
def clinical_words() -> set[str]:
    """Words of the titles and displays of value sets: whatever a plan is about, the engine does not say it."""
    texts: list[str] = []
    root = content_root()
    for plan in plan_names(root):
        for path in sorted((root / "plans" / plan / "valuesets").glob("*.yaml")):
            for one in yaml.safe_load_all(path.read_text("utf-8")):
                includes = (one.get("compose") or {}).get("include", ())
                texts += [str(one.get("title", "")), *(
                    str(concept.get("display", "")) for include in includes for concept in include.get("concept", ())
                )]  # fmt: skip
    found = {word for text in texts for word in parts(text) if len(word) > 3}
    return (found - neutral_words()) | (set(FIXED.split()) - parts(" ".join(R4["path2Type"])))


@pytest.mark.parametrize(("name", "text"), sources(), ids=list(MODULES))
def test_no_code_system_and_no_code(name: str, text: str) -> None:
    urls = [url for url in re.findall(r"https?://[\w.:-]+[^\s\"'`)>,;]*", text) if not ALLOWED_URLS.match(url)]
    assert urls == []
    assert [found[0] for found in CODE_SYSTEMS.finditer(text)] == []
    assert [code for code in CODES.findall(text) if code not in NUMBERS and not code.endswith("000")] == []


@pytest.mark.parametrize(("name", "text"), sources(), ids=list(MODULES))
def test_no_clinical_word(name: str, text: str) -> None:
    text = text.replace("hfs-cds-hooks", "")  # the name of the distribution
    assert sorted(parts(text) & clinical_words()) == []


def test_the_net_has_no_holes() -> None:
    """What the checks above look for, they find."""
    for code in ("43769-9", "G51.32", "13753008", "70551", "RPID1603", "2002123"):
        assert CODES.search(f'code = "{code}"'), code
    for url in ("http://snomed.info/sct", "http://loinc.org", "http://hl7.org/fhir/sid/icd-10-cm"):
        assert not ALLOWED_URLS.match(url)
        assert CODE_SYSTEMS.search(url)
    assert {"hemifacial", "gadolinium", "palsy", "spasm"} <= clinical_words()
    assert len(clinical_words()) > 200
