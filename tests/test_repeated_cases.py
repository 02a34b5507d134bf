"""Cases that are played once for each of a list, and what a card must write into the orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cds_hooks.cases import differences, read_cases
from cds_hooks.errors import ContentError

FIXTURES = {
    "person": {"resourceType": "Patient", "gender": "male"},
    "order": {"resourceType": "ServiceRequest", "code": {"text": "old"}, "reasonCode": [{"text": "old"}]},
    "visit": {"resourceType": "Encounter", "class": {"system": "urn:a", "code": "X"}},
}
CASE = {"id": "one", "chart": ["person", "visit"], "orders": ["order"], "hook": "order-select", "expect": []}


def read(folder: Path, **case: Any) -> list[dict[str, Any]]:
    (folder / "_fixtures.yaml").write_text(yaml.safe_dump(FIXTURES), encoding="utf-8")
    (folder / "some.yaml").write_text(yaml.safe_dump([{**CASE, **case}]), encoding="utf-8")
    return [dict(found.body) for found in read_cases(folder)[0]]


def test_a_code_takes_the_shape_of_what_stands_there(tmp_path: Path) -> None:
    coding = {"system": "urn:b", "code": "1"}
    for path, shape in (("code", {"coding": [coding]}), ("reasonCode", [{"coding": [coding]}])):
        (body,) = read(tmp_path, each={"in": f"order.{path}", "codes": ["urn:b|1"]})
        assert body["orders"][0][path] == shape
        assert body["orders"][0]["id"] == "order"
    (body,) = read(tmp_path, each={"in": "visit.class", "codes": ["urn:b|1"]})
    assert body["chart"][1]["class"] == coding


def test_each_value_is_a_case_with_an_id_of_its_own(tmp_path: Path) -> None:
    bodies = read(tmp_path, each={"in": "order.note", "values": [[{"text": "a"}], [{"text": "b"}]]})
    assert [body["id"] for body in bodies] == ["one[1]", "one[2]"]
    assert [body["orders"][0]["note"][0]["text"] for body in bodies] == ["a", "b"]
    assert all("each" not in body for body in bodies)


@pytest.mark.parametrize("each", [{"in": "nobody.code", "codes": ["urn:b|1"]}, {"in": "order.code"}, "order.code"])
def test_an_odd_each_is_refused(tmp_path: Path, each: Any) -> None:
    with pytest.raises(ContentError, match="each"):
        read(tmp_path, each=each)


def test_what_is_written_must_be_part_of_one_action() -> None:
    action = {"type": "create", "resource": {"resourceType": "ServiceRequest", "note": [{"text": "new text"}], "n": 1}}
    card = {"source": {"topic": {"code": "t"}}, "indicator": "info", "suggestions": [{"actions": [action]}]}
    for part, held in (({"note": [{"text": "^new"}]}, True), ({"n": 1}, True), ({"note": [{"text": "^old"}]}, False)):
        assert (not list(differences([{"topic": "t", "writes": [part]}], [card]))) is held
