"""The requests of all cases, damaged: whatever the shape, an answer (200) or a refusal (412), never a fault."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
from an_ehr import NOW, loaded

from cds_hooks.cases import read_cases, request_of
from cds_hooks.errors import Rejected
from cds_hooks.loading import Loaded
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import parse_request
from cds_hooks.service import CdsService

VALUES: list[Any] = [
    None, "", "x", 0, -1, 1.5, True, [], {}, [None], [[]], [{}], {"coding": "x"}, {"coding": [None]}, {"text": 5},
    "9999",
    {"reference": "Condition/x"}, {"reference": 5}, {"start": 5}, "2026-02-30", "0001-01-01", "\u061c", "\ud800",
    "x" * 5000,
]  # fmt: skip
KEPT = ("resourceType", "id", "subject", "patient", "system")


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below a resource, but for what makes it count at all."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        if key not in KEPT:
            yield node, key
            yield from places(value)


def damaged(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    body = copy.deepcopy(body)
    bundles = [body["context"].get("draftOrders", {}), *body["prefetch"].values()]
    entries = [entry for bundle in bundles if isinstance(bundle, dict) for entry in bundle.get("entry", ())]
    found = [place for entry in entries for place in places(entry["resource"])]
    for container, key in chance.sample(found, min(len(found), chance.randrange(1, 6))):
        if isinstance(container, list) and key >= len(container):
            continue
        value = container[key]
        container[key] = chance.choice([*VALUES, [value], [value, value], value[0] if isinstance(value,
        list) and value else {}])
    return body


@pytest.mark.parametrize("loaded_plan", loaded(), ids=lambda one: one.plan.id)
def test_damaged_cases(loaded_plan: Loaded) -> None:
    chance = random.Random(38)  # noqa: S311 - a repeatable sequence is wanted
    service = CdsService([loaded_plan], clock=lambda: NOW)
    cases, fixtures = read_cases(loaded_plan.package.folder / "cases")
    shown = 0
    faults: dict[str, str] = {}
    for case in cases:
        hook = case.body["hook"]
        body = request_of(loaded_plan, case, fixtures, NOW)
        for _ in range(5):
            asked = damaged(body, chance)
            try:
                request = parse_request(asked, HOOKS[hook])
                answered = service.call(f"{loaded_plan.plan.id}-{hook}", request)
                service.explain(f"{loaded_plan.plan.id}-{hook}", request)
            except Rejected as refusal:
                if refusal.status != 412:
                    faults[case.id] = str(refusal)
            except Exception as error:
                faults[case.id] = repr(error)
            else:
                if "broken_cards" in answered.log:
                    faults[case.id] = "a card was lost"
                shown += len(answered.payload["cards"])
    assert faults == {}
    assert shown > len(cases), "most of the damage leaves the reason for a card alone"
