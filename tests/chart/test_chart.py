"""The chart: native selection by code, other people's data dropped and counted, references resolved or left open."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from cds_hooks.chart.chart import Chart, Input, Retrieval, Selection
from cds_hooks.chart.gather import Source
from cds_hooks.chart.search import Query

MINE = {"reference": "Patient/p1"}
A, B = "urn:example:a", "urn:example:b"


def key_of(system: str | None, code: str) -> tuple[str | None, str]:
    """As a terminology would have it: B is an alias of A, and codes of A compare without dot and case."""
    system = A if system == B else system
    return system, code.replace(".", "").upper() if system == A else code


def condition(identity: str, *pairs: tuple[str | None, str], **more: Any) -> dict[str, Any]:
    codings = [{"system": system, "code": code} for system, code in pairs]
    return {"resourceType": "Condition", "id": identity, "subject": MINE, "code": {"coding": codings}} | more


RETRIEVAL = Retrieval(
    [Query("conditions", "Condition", 10), Query("patient", "Patient"), Query("orders", "ServiceRequest", 10)],
    [
        Selection("all", "Condition"),
        Selection("exact", "Condition", "code", frozenset({(A, "X12"), ("urn:c", "x.1")})),
        Selection("below", "Condition", "code", frozenset(), ((A, "X1"),)),
        Selection("words", "Condition", "code", frozenset({(A, "W")}), (), lambda c: "w" if "wort" in str(c) else None),
        Selection("stage", "Condition", "stage.type", frozenset({(A, "S")})),
        Selection("patient", "Patient"),
        Selection("orders", "ServiceRequest", "code", frozenset({(A, "O")})),
    ],
    key_of,
)


def chart(
    *conditions: Any, drafts: Sequence[dict[str, Any]] = (), reader: Any = None, base: str | None = None,
    **sources: Source,
) -> Chart:  # fmt: skip
    return Chart(RETRIEVAL, "p1", {"conditions": Source("supplied", conditions), **sources}, drafts, reader, base)


def ids(found: Input | None) -> list[str]:
    assert found is not None
    return [item["id"] for item in found.items]


# --- Selection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "names"),
    [
        ((A, "X12"), ["all", "exact", "below"]),
        ((A, "x.12"), ["all", "exact", "below"]),  # dot and case
        ((B, "x.12"), ["all", "exact", "below"]),  # alias
        ((A, "X1"), ["all", "below"]),  # the header itself
        ((A, "X19.9"), ["all", "below"]),  # below the header
        ((A, "Y12"), ["all"]),
        (("urn:c", "x.1"), ["all", "exact"]),
        (("urn:c", "x1"), ["all"]),  # a system without folding
        (("urn:c", "X12"), ["all"]),  # the right code in the wrong system
        ((None, "X12"), ["all"]),
    ],
)
def test_selection_by_code(pair: tuple[str | None, str], names: list[str]) -> None:
    for _ in range(2):  # the second time from memory
        mine = chart(condition("c", pair))
        found = [name for name in ("all", "exact", "below", "words", "stage") if ids(mine.input(name))]
        assert found == names


def test_one_of_several_codings_is_enough_and_counts_once() -> None:
    both = condition("c", ("urn:c", "x.1"), (A, "X12"), (A, "zzz"))
    mine = chart(both, both | {"id": "d"})
    assert ids(mine.input("exact")) == ["c", "d"]
    assert ids(mine.input("below")) == ["c", "d"]


def test_selection_by_words_and_by_inner_element() -> None:
    worded = condition("w", code={"text": "ein wort"})
    staged = condition("s", stage=[{"type": {"coding": [{"system": A, "code": "s"}]}}])
    mine = chart(worded, staged)
    assert ids(mine.input("words")) == ["w"]
    assert ids(mine.input("stage")) == ["s"]


ODD_CODES: list[Any] = [
    None, "X12", 5, [], {}, {"coding": None}, {"coding": []}, {"coding": "X12"}, {"coding": [None, 7, [], {}]},
    {"coding": [{"system": [], "code": {}}]}, {"coding": [{"system": A}]}, {"coding": [{"code": 12}]},
    [[{"coding": []}]],
]  # fmt: skip


@pytest.mark.parametrize("code", ODD_CODES, ids=repr)
def test_odd_codes_belong_to_nothing(code: Any) -> None:
    mine = chart(condition("seen", (A, "dull")), condition("c", code=code))
    assert ids(mine.input("exact")) == ids(mine.input("below")) == ids(mine.input("stage")) == []
    assert ids(mine.input("all")) == ["seen", "c"]


@pytest.mark.parametrize(
    "code",
    [
        [{"coding": [{"system": A, "code": "X12"}]}],  # a list where an object is due
        {"coding": {"system": A, "code": "X12"}},  # an object where a list is due
        {"system": A, "code": "X12"},  # a Coding where a CodeableConcept is due
        {"coding": [None, {"system": A, "code": "dull"}, {"system": A, "code": "X12"}]},
    ],
    ids=repr,
)
def test_odd_shapes_are_still_read(code: Any) -> None:
    assert ids(chart(condition("seen", (A, "dull")), condition("c", code=code)).input("exact")) == ["c"]


def test_an_input_knows_whether_it_is_whole() -> None:
    part = Source("supplied", [condition("c", (A, "X12"))], complete=False)
    sources = {"conditions": part, "orders": Source("failed", (), complete=False)}
    mine = Chart(RETRIEVAL, "p1", sources)
    assert mine.input("exact") == Input([condition("c", (A, "X12"))], False, "conditions")
    assert mine.input("orders") == Input([], False, "orders")
    assert mine.input("patient") == Input([], False, "patient"), "no source at all is nothing known"
    assert mine.input("nonsense") is None


# --- Whose data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "kept", "problem"),
    [
        ({"subject": MINE}, True, None),
        ({"subject": {"reference": "https://ehr.example.org/fhir/Patient/p1"}}, True, None),
        ({"subject": {"reference": "Patient/p1/_history/2"}}, True, None),
        ({"subject": None, "patient": MINE}, True, None),
        ({"subject": {"reference": "Patient/p2"}}, False, "foreign-subject"),
        ({"subject": {"reference": "Group/p1"}}, False, "foreign-subject"),
        ({"subject": {"reference": "Patient/P1"}}, False, "foreign-subject"),
        ({"subject": {"reference": "Patient/p11"}}, False, "foreign-subject"),
        ({"subject": None}, False, "no-subject"),
        ({"subject": {"display": "somebody"}}, False, "no-subject"),
        ({"subject": [MINE]}, False, "no-subject"),
        ({"subject": 5}, False, "no-subject"),
    ],
)
def test_whose_resources_count(subject: dict[str, Any], kept: bool, problem: str | None) -> None:
    mine = chart(condition("c", (A, "X12"), **subject))
    assert bool(ids(mine.input("exact"))) is kept
    assert dict(mine.problems) == ({problem: 1} if problem else {})


def test_the_patient_must_be_the_one_asked_about() -> None:
    other = Source("supplied", [{"resourceType": "Patient", "id": "p2"}])
    assert ids(chart(patient=other).input("patient")) == []


def test_drafts_without_subject_are_taken_others_dropped() -> None:
    draft = {"resourceType": "ServiceRequest", "id": "o1"}
    mine = chart(drafts=[draft, draft | {"subject": {"reference": "Patient/p2"}}, draft | {"subject": MINE}])
    assert mine.drafts == [draft, draft | {"subject": MINE}]
    assert dict(mine.problems) == {"foreign-subject": 1}


# --- References -----------------------------------------------------------------------------------------------------

DEVICE = {"resourceType": "DeviceDefinition", "id": "d1"}


class Shelf:
    """Reads of a FHIR server; None is a failure, an empty list "no such resource"."""

    def __init__(self, **resources: Any) -> None:
        self.resources = resources
        self.asked: list[str] = []

    def __call__(self, reference: str) -> Any:
        self.asked.append(reference)
        return self.resources.get(reference.partition("/")[2])


def test_contained_resources() -> None:
    holder = {"contained": [None, {"id": "x"}, {"id": "d1", "resourceType": "DeviceDefinition"}]}
    mine = chart()
    assert mine.resolve({"reference": "#d1"}, holder) == DEVICE
    assert mine.resolve({"reference": "#none"}, holder) is None, "damage, not absence"
    assert mine.resolve({"reference": "#d1"}) is None


def test_references_into_the_chart_and_to_drafts() -> None:
    draft = {"resourceType": "ServiceRequest", "id": "o1"}
    mine = chart(condition("c"), drafts=[draft], reader=(shelf := Shelf()))
    assert mine.resolve({"reference": "Condition/c"}) == condition("c")
    assert mine.resolve({"reference": "https://ehr.example.org/fhir/Condition/c/_history/1"}) == condition("c")
    assert mine.resolve({"reference": "ServiceRequest/o1"}) == draft
    assert shelf.asked == []


def test_a_read_reference_is_read_once() -> None:
    mine = chart(reader=(shelf := Shelf(d1=[DEVICE])))
    assert [mine.resolve({"reference": "DeviceDefinition/d1"}) for _ in range(3)] == [DEVICE] * 3
    assert shelf.asked == ["DeviceDefinition/d1"]


@pytest.mark.parametrize(
    "answer",
    [
        [],  # the server says that there is none; the reference says that there is
        [DEVICE | {"id": "other"}],  # not what was asked for
        [DEVICE | {"subject": {"reference": "Patient/p2"}}],  # another patient's
        None,  # it could not be read
    ],
)
def test_what_cannot_be_read_is_open_and_asked_for_once(answer: Any) -> None:
    mine = chart(reader=(shelf := Shelf(d1=answer)))
    assert [mine.resolve({"reference": "DeviceDefinition/d1"}) for _ in range(2)] == [None, None]
    assert (shelf.asked, mine.problems["unresolved-reference"]) == (["DeviceDefinition/d1"], 1)


@pytest.mark.parametrize(
    ("reference", "read"),
    [
        ("https://ehr.example.org/fhir/DeviceDefinition/d1", True),
        ("https://ehr.example.org/fhir/DeviceDefinition/d1/_history/2", True),
        ("https://vendor.example.org/fhir/DeviceDefinition/d1", False),
        ("https://ehr.example.org/fhir2/DeviceDefinition/d1", False),
    ],
)
def test_an_id_of_another_server_is_not_looked_up_on_ours(reference: str, read: bool) -> None:
    mine = chart(reader=(shelf := Shelf(d1=[DEVICE])), base="https://ehr.example.org/fhir")
    assert mine.resolve({"reference": reference}) == (DEVICE if read else None)
    assert (shelf.asked != []) is read


@pytest.mark.parametrize(
    ("subject", "whole"),
    [
        ({}, False),
        ({"subject": {"identifier": {"value": "7"}}}, False),
        ({"subject": {"reference": "urn:uuid:0"}}, False),
        ({"subject": {"reference": "Patient/p2"}}, True),  # surely another's
    ],
)
def test_a_resource_that_may_be_this_patients_leaves_open_whether_there_is_more(subject: Any, whole: bool) -> None:
    stray = condition("stray", (A, "X12")) | {"subject": None} | subject
    for mine, known in ((chart(condition("c", (A, "X12")), stray), ["c"]), (chart(stray), [])):
        found, other = mine.input("exact"), mine.input("stage")
        assert found is not None
        assert other is not None
        assert (ids(found), found.complete, found.maybe) == (known, whole, None if whole else [stray])
        assert other == Input([], complete=True, key="conditions"), "it is no question for others"
        assert mine.whole("Condition") is whole
    first_page = chart(conditions=Source("supplied", (stray,), False, "first page only")).input("exact")
    assert first_page is not None
    assert (first_page.complete, first_page.maybe) == (False, None), "not the only thing that is missing"


def test_what_the_context_names_need_not_say_whose_it_is() -> None:
    mine = chart(patient=Source("supplied", ({"resourceType": "Patient", "gender": "male"},)))
    assert mine.input("patient") == Input([{"resourceType": "Patient", "gender": "male"}], complete=True, key="patient")
    other = chart(patient=Source("supplied", ({"resourceType": "Patient", "id": "p2"},)))
    assert other.input("patient") == Input([], complete=True, key="patient")


@pytest.mark.parametrize("reference", [None, 5, {}, {"reference": 5}, {"reference": "urn:uuid:0"}, {"reference": "x"}])
def test_an_unreadable_reference_is_open(reference: Any) -> None:
    assert chart(reader=Shelf()).resolve(reference) is None


def test_without_a_server_a_reference_is_open_and_counted() -> None:
    mine = chart()
    assert mine.resolve({"reference": "DeviceDefinition/d1"}) is None
    assert dict(mine.problems) == {"unresolved-reference": 1}


def test_another_patients_resource_is_not_reached_by_reference() -> None:
    mine = chart(condition("theirs", subject={"reference": "Patient/p2"}))
    assert mine.resolve({"reference": "Condition/theirs"}) is None


# --- What is remembered as of no interest ----------------------------------------------------------------------------


def test_words_beside_a_code_that_was_of_no_interest_before() -> None:
    """The same codes come with other words: each is looked at."""
    reads = re.compile("glow").search

    def read(words: Iterable[str]) -> str | None:
        return next((word for word in words if reads(word)), None)

    selection = Selection("glowing", "Condition", "code", frozenset(), (), read)
    retrieval = Retrieval([Query("conditions", "Condition")], [selection], lambda system, code: (system, code))

    def entry(display: str | None, text: str | None) -> dict[str, Any]:
        coding = {"system": "s", "code": "c", "display": display}
        return {"resourceType": "Condition", "code": {"coding": [coding], "text": text}}

    dull = [entry("a", "b"), entry("a", None), entry(None, "b"), entry("a", "b")]
    for _ in range(2):
        assert retrieval.select("Condition", dull)["glowing"] == []
    for telling in (entry("glows", "b"), entry("a", "glows"), entry(None, "it glows")):
        for _ in range(2):
            assert retrieval.select("Condition", [*dull, telling])["glowing"] == [telling]
    odd = [{"code": [{"coding": {"code": "c", "system": "s"}, "text": "glow"}]}, {"code": {"text": "glow"}},
           {"code": {"coding": [{"display": ["x"], "code": {}, "system": 1}], "text": "glow"}}]  # fmt: skip
    for _ in range(2):
        assert retrieval.select("Condition", odd)["glowing"] == odd


def test_a_coding_instead_of_a_concept_is_looked_at() -> None:
    selection = Selection("mr", "ImagingStudy", "modality", frozenset({("dicom", "MR")}))
    retrieval = Retrieval([Query("studies", "ImagingStudy")], [selection], lambda system, code: (system, code))
    studies = [{"modality": [{"system": "dicom", "code": code}]} for code in ("CT", "CT", "MR")]
    bare = [{"modality": {"system": "dicom", "code": code}} for code in ("CT", "MR", "MR")]
    for _ in range(2):
        assert retrieval.select("ImagingStudy", studies)["mr"] == studies[2:]
        assert retrieval.select("ImagingStudy", bare)["mr"] == bare[1:]


def test_text_alone_is_looked_at_once() -> None:
    looked: list[Any] = []

    def read(words: Iterable[str]) -> str | None:
        looked.append(words)
        return None

    selection = Selection("any", "Condition", "code", frozenset(), (), read)
    retrieval = Retrieval([Query("conditions", "Condition")], [selection], lambda system, code: (system, code))
    assert retrieval.select("Condition", [{"code": {"text": "filler"}}] * 5)["any"] == []
    assert len(looked) == 1


def _glowing(words: Iterable[str]) -> str | None:
    return next((word for word in words if "glow" in word), None)


def _glow_table() -> Retrieval:
    selection = Selection("glowing", "Condition", "code", frozenset({("s", "hot")}), (("s", "x"),), _glowing)
    return Retrieval([Query("conditions", "Condition")], [selection], lambda system, code: (system, code))


_PARTS: list[dict[str, Any]] = [
    {}, {"text": "a"}, {"text": "it glows"}, {"display": "it glows"}, {"display": "a"}, {"coding": []},
    {"coding": None}, {"system": "s", "code": "hot"}, {"system": "s", "display": "glow"}, {"text": None}, {"text": 1},
    *({"coding": [coding]} for coding in (
        {"system": "s", "code": "c"}, {"system": "s", "code": "c", "display": "a"}, {"system": "s", "code": "hot"},
        {"system": "s", "code": "c", "display": "glow"}, {"system": "s", "code": "c", "text": "glow"}, {"code": "c"},
        {"system": "s", "code": "xyz"}, {"display": "glow"}, {},
    )),
]  # fmt: skip


def test_no_chart_changes_what_is_picked_from_another() -> None:
    """What is remembered as dull must be so in every shape that comes later: odd ones are read as well."""
    concepts = [{**one, **two} for one in _PARTS for two in _PARTS]
    charts = [{"resourceType": "Condition", "id": str(number), "code": concept}
              for number, concept in enumerate(concepts)]  # fmt: skip
    fresh = [_glow_table().select("Condition", [chart])["glowing"] for chart in charts]
    warm = _glow_table()
    for _ in range(2):
        for chart, expected in zip(charts, fresh, strict=True):
            assert warm.select("Condition", [chart])["glowing"] == expected, chart
    assert 100 < sum(map(len, fresh)) < 300


def test_a_patient_of_another_id_is_another_patient() -> None:
    other = {"resourceType": "Patient", "id": "p2", "subject": MINE}
    assert Chart(RETRIEVAL, "p1", {"patient": Source("supplied", [other])}).own("Patient") == []

