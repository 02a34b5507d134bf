"""Codes compared without a server: aliases, folding, header codes, words, maps, and broken content refused."""

from typing import Any

import pytest
from made_up_logic import EXTENSIONS, HERE, SYSTEM, colour, concept_map, value_set

from cds_hooks.errors import ContentError
from cds_hooks.reasoning.terminology import Terminology

TREE = "urn:example:tree"


def system(url: str, *extensions: tuple[str, str, Any], **more: Any) -> dict[str, Any]:
    shown = [{"url": EXTENSIONS + name, key: value} for name, key, value in extensions]
    return {"resourceType": "CodeSystem", "id": url.rsplit(":", 1)[-1], "url": url, "extension": shown, **more}


def including(name: str, *includes: dict[str, Any]) -> dict[str, Any]:
    return value_set(name) | {"compose": {"include": list(includes)}}


def a_set(*names: str) -> dict[str, Any]:
    return {"valueSet": [f"{HERE}/ValueSet/{name}" for name in names]}


IS_A = {"property": "concept", "op": "is-a"}
BELOW_G513 = {"system": TREE, "filter": [IS_A | {"value": "g51.3"}]}
TREE_SYSTEM = system(
    TREE, ("ignored-characters", "valueString", "."), ("hierarchy-by-prefix", "valueBoolean", True),
    ("alias", "valueUri", "urn:oid:1.2.3"), caseSensitive=False,
)  # fmt: skip
WHOLE = "urn:example:expressions"
CONTENT = [
    TREE_SYSTEM,
    system(WHOLE, ("refining-attribute", "valueCode", "77"), caseSensitive=True),
    including("things", {"system": WHOLE, "concept": [{"code": "11"}]}),
    including("sides", {"system": WHOLE, "concept": [{"code": "5"}]}),
    value_set("warm", "red", "orange"),
    value_set("words", pattern=r"\bglow(s|ing)?\b"),
    including("branches", BELOW_G513, {"system": TREE, "concept": [{"code": "X1"}]}),
    including("all", a_set("warm"), a_set("branches"), a_set("words")),
    concept_map("paler", red="pink", orange="peach"),
]  # fmt: skip


def build(*resources: dict[str, Any]) -> Terminology:
    return Terminology(("made-up.yaml", resource) for resource in resources)


BUILT = build(*CONTENT)


def how(name: str, value: Any) -> str | None:
    return BUILT.match(BUILT.value_sets[f"{HERE}/ValueSet/{name}"], value)


def coding(url: str | None, code: Any, **more: Any) -> dict[str, Any]:
    return {"coding": [{"system": url, "code": code}], **more}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("warm", colour("red"), "code"),
        ("warm", colour("red")["coding"][0], "code"),  # a Coding
        ("warm", "red", "code"),  # a plain code, whose system its element fixes
        ("warm", colour("blue"), None),
        ("warm", colour("RED"), None),
        ("warm", coding("urn:other", "red"), None),
        ("warm", coding(None, "red"), None),
        ("warm", {"coding": [{}, None, {"code": 5}, *colour("orange")["coding"]]}, "code"),
        # expressions: the concept, and the values of named attributes
        *((name, coding(WHOLE, code), "code") for name in ("things", "sides") for code in (
            "11:77=5", " 11 | thing, big | : 77 | side | = 5 | left |", "===11:88=6,77=5", "11:{88=6},{77=5}",
            "11:88=(4:77=5)",
        )),
        ("things", coding(WHOLE, "11"), "code"),
        ("things", coding(WHOLE, "11 | thing |"), "code"),
        ("things", coding(WHOLE, "11:88=5"), "code"),
        ("sides", coding(WHOLE, "11:88=5"), None),
        ("sides", coding(WHOLE, "11:77=6"), None),
        ("sides", coding(WHOLE, "77=5:"), "code"),
        ("things", coding(WHOLE, "99:77=11"), "code"),
        ("things", coding(WHOLE, "99:88=11"), None),
        ("things", coding(WHOLE, "111:77=5"), None),
        ("things", coding(WHOLE, "12+11:77=5"), None),  # two concepts at once: neither alone
        ("warm", coding(SYSTEM, "red:77=5"), None),  # a system that has none
        ("things", coding(WHOLE, "11:" + "77=" * 10_000), "code"),
        # a system that ignores dot and case, and in which a header stands for what begins with it
        ("branches", coding(TREE, "G51.3"), "code"),
        ("branches", coding(TREE, "g5132"), "code"),
        ("branches", coding("urn:oid:1.2.3", "G51.32"), "code"),
        ("branches", coding(TREE, "G51"), None),
        ("branches", coding(TREE, "G51.4"), None),
        ("branches", coding(TREE, "x.1"), "code"),
        ("branches", coding(TREE, "X11"), None),  # named itself, not as a header
        ("branches", coding(SYSTEM, "G51.3"), None),
        # words
        ("words", {"text": "It GLOWS."}, "words"),
        ("words", coding(SYSTEM, "x", text="aglow"), None),
        ("words", {"coding": [{"display": "glowing"}]}, "words"),
        ("words", "a glow", "words"),
        ("words", {"text": "x" * 2000 + " glow"}, None),  # bounded, since patterns run on what callers send
        # sets of sets
        ("all", colour("orange"), "code"),
        ("all", coding(TREE, "G51.39"), "code"),
        ("all", {"text": "glow"}, "words"),
        ("all", {"text": "gloom"}, None),
        # nothing and nonsense
        *[("all", value, None) for value in (None, {}, [], 5, True, {"coding": 5}, {"text": 5}, {"coding": [[]]})],
    ],
)
def test_membership(name: str, value: Any, expected: str | None) -> None:
    assert how(name, value) == expected


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        (colour("red"), {"coding": [{"system": SYSTEM, "code": "pink"}]}),
        (colour("blue"), None),
        (coding("urn:other", "red"), None),
        # what the map does not know would contradict the new meaning
        (
            {"coding": [*colour("blue")["coding"], *colour("red")["coding"]], "text": "red"},
            {"coding": [{"system": SYSTEM, "code": "pink"}]},
        ),
        ({"coding": [*colour("red")["coding"]] * 2}, {"coding": [{"system": SYSTEM, "code": "pink"}]}),
        ({"text": "red"}, None), (None, None), ("red", None), ({}, None), ({"coding": [None, {}, 5]}, None),
    ],
)  # fmt: skip
def test_translation_stays_within_the_system(concept: Any, expected: Any) -> None:
    assert BUILT.translate(BUILT.concept_maps[f"{HERE}/ConceptMap/paler"], concept) == expected


def test_a_translation_keeps_the_uri_that_the_client_uses() -> None:
    group = {"source": TREE, "target": TREE, "element": [{"code": "A.1", "target": [{"code": "B2", "display": "Bee"}]}]}
    made = build(TREE_SYSTEM, concept_map("m") | {"group": [group]})
    found = made.translate(made.concept_maps[f"{HERE}/ConceptMap/m"], coding("urn:oid:1.2.3", "a1"))
    assert found == {"coding": [{"system": "urn:oid:1.2.3", "code": "B2", "display": "Bee"}], "text": "Bee"}


LOOP = [including("one", a_set("two")), including("two", a_set("one"))]
HEADERS = {"system": SYSTEM, "filter": [IS_A | {"value": "x"}]}


@pytest.mark.parametrize(
    ("resources", "element", "reason"),
    [
        ([value_set("a", "x"), value_set("a", "y")], "a", "defined twice"),
        ([value_set("a")], "a", "empty"),
        ([including("a", a_set("b"))], "a.compose.include[0]", "unknown value set"),
        ([including("a", a_set("a"))], "a", "includes itself"),
        (LOOP, "one", "includes itself"),
        ([value_set("b", "x"), including("a", a_set("b", "b"))], "a.compose.include[0]", "one code system"),
        ([including("a", {})], "a.compose.include[0]", "one code system or one value set"),
        ([including("a", HEADERS)], "a.compose.include[0]", "not supported"),
        ([value_set("a", pattern="(")], "a.extension", "text pattern"),
        ([concept_map("m") | {"group": [{"source": "urn:a", "target": "urn:b", "element": []}]}], "m", "own system"),
        (
            [system("urn:a", ("alias", "valueUri", "urn:x")), system("urn:b", ("alias", "valueUri", "urn:x"))],
            "b",
            "two code systems",
        ),
    ],
)
def test_broken_content_is_refused(resources: list[dict[str, Any]], element: str, reason: str) -> None:
    with pytest.raises(ContentError, match=reason) as caught:
        build(*resources)
    assert (caught.value.file, caught.value.element) == ("made-up.yaml", element)


# FHIR allows these (code and uri are 0..1), so the FHIR check lets them pass.
@pytest.mark.parametrize(
    "group",
    [
        {"source": SYSTEM, "target": SYSTEM, "element": [{"code": "red", "target": [{"equivalence": "unmatched"}]}]},
        {"source": SYSTEM, "target": SYSTEM, "element": [{"target": [{"code": "pink"}]}]},
        {"element": [{"code": "red", "target": [{"code": "pink"}]}]},
    ],
    ids=["target without code", "element without code", "group without system"],
)
def test_a_map_with_gaps_is_refused(group: dict[str, Any]) -> None:
    with pytest.raises(ContentError):
        build(concept_map("m") | {"group": [group]})
