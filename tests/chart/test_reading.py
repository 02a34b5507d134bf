"""Reading FHIR JSON as it really comes: whatever the shape, an answer and no exception."""

from collections.abc import Callable
from typing import Any

import pytest

from cds_hooks.chart import reading

ODD: list[Any] = [
    None, "", "text", 0, 1.5, True, [], [[]], [None], {}, {"coding": None}, {"coding": "x"}, {"coding": {}},
    {"coding": [None, "x", [], {"code": 5}, {"code": None}]}, {"reference": 5}, {"reference": []}, {"text": 5},
    {"resourceType": [], "id": {}}, {"resourceType": "Condition"}, {"subject": "x"},
    {"subject": [{"reference": "a/b"}]},
]  # fmt: skip
QUESTIONS: list[Callable[[Any], Any]] = [
    reading.as_list, reading.codings, lambda value: list(reading.texts(value)), reading.done_at, reading.name_of,
    reading.local_reference,
]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("ask", QUESTIONS)
def test_odd_values_never_raise(ask: Callable[[Any], Any], value: Any) -> None:
    ask(value)


@pytest.mark.parametrize("value", [value for value in ODD if isinstance(value, dict)], ids=repr)
def test_odd_resources_never_raise(value: dict[str, Any]) -> None:
    assert reading.subject_of(value) is None
    assert reading.values_at(value, "a.b.c") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, []), ([], []), ([1, 2], [1, 2]), ("x", ["x"]), ({"a": 1}, [{"a": 1}]), (False, [False])],
)
def test_as_list(value: Any, expected: list[Any]) -> None:
    assert reading.as_list(value) == expected


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ({"coding": [{"system": "urn:s", "code": "a"}, {"code": "b"}]}, [("urn:s", "a"), (None, "b")]),
        ({"coding": {"system": "urn:s", "code": "a"}}, [("urn:s", "a")]),
        ({"system": "urn:s", "code": "a"}, [("urn:s", "a")]),
        ({"coding": [{"system": 5, "code": "a"}]}, [(None, "a")]),
        ({"coding": [{}, {"system": "urn:s"}], "text": "words"}, []),
    ],
)
def test_codings_of_concept_and_coding(concept: Any, expected: list[Any]) -> None:
    assert reading.codings(concept) == expected


def test_words_of_a_concept_come_text_first() -> None:
    concept = {"coding": [{"display": "second"}, {"display": " "}, {"display": "third"}], "text": "first"}
    assert list(reading.texts(concept)) == ["first", "second", "third"]
    assert list(reading.texts("a plain string")) == ["a plain string"]


@pytest.mark.parametrize(
    ("resource", "path", "expected"),
    [
        ({"a": {"b": 1}}, "a.b", [1]),
        ({"a": [{"b": [1, 2]}, {"b": 3}, {}, None, "x"]}, "a.b", [1, 2, 3]),
        ({"medicationCodeableConcept": {"text": "m"}}, "medication", [{"text": "m"}]),
        ({"medicationReference": {"reference": "Medication/1"}}, "medication", []),
        ({}, "a", []),
    ],
)
def test_values_at_a_path(resource: dict[str, Any], path: str, expected: list[Any]) -> None:
    assert reading.values_at(resource, path) == expected


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Procedure", "performedPeriod": {"start": "2026"}}, {"start": "2026"}),
        ({"resourceType": "Observation", "effectiveInstant": "2026", "issued": "2027"}, "2026"),
        ({"resourceType": "DiagnosticReport", "issued": "2027"}, "2027"),
        ({"resourceType": "ServiceRequest", "occurrenceDateTime": "2026", "authoredOn": "2025"}, "2026"),
        ({"resourceType": "Condition", "onsetDateTime": "", "recordedDate": "2025"}, "2025"),
        ({"resourceType": "Condition", "onsetString": "long ago"}, None),
        ({"resourceType": "Basic", "created": "2025"}, None),
    ],
)
def test_when_it_happened(resource: dict[str, Any], expected: Any) -> None:
    assert reading.done_at(resource) == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ({"reference": "Patient/p1"}, "Patient/p1"),
        ("Patient/p1", "Patient/p1"),
        ({"reference": "https://ehr.example.org/fhir/Patient/p1"}, "Patient/p1"),
        ({"reference": "https://ehr.example.org/fhir/Patient/p1/_history/3"}, "Patient/p1"),
        ({"reference": "Patient/p1/"}, "Patient/p1"),
        ({"reference": "#contained"}, None),
        ({"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}, None),
        ({"reference": "p1"}, None),
        ({"reference": "/p1"}, None),
        ({"display": "somebody"}, None),
    ],
)
def test_where_a_reference_points(reference: Any, expected: str | None) -> None:
    assert reading.local_reference(reference) == expected


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Patient", "id": "p1"}, "Patient/p1"),
        ({"resourceType": "Condition", "subject": {"reference": "Patient/p1"}}, "Patient/p1"),
        ({"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/p1"}}, "Patient/p1"),
        ({"resourceType": "Condition", "subject": {"reference": "Group/g1"}}, "Group/g1"),
        ({"resourceType": "Condition"}, None),
    ],
)
def test_whom_a_resource_is_about(resource: dict[str, Any], expected: str | None) -> None:
    assert reading.subject_of(resource) == expected
