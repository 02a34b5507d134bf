"""The catalogue is data: every row must be complete enough for the generic request checks."""

from dataclasses import fields

import pytest

from cds_hooks.protocol.hooks import HOOKS, Hook
from cds_hooks.protocol.request import HookRequest


def test_the_published_hooks_and_versions() -> None:
    assert {name: hook.version for name, hook in HOOKS.items()} == {
        "patient-view": "1.0",
        "order-select": "1.0",
        "order-sign": "1.0",
    }


@pytest.mark.parametrize("hook", HOOKS.values(), ids=lambda hook: hook.name)
def test_each_field_fills_an_attribute_of_its_own(hook: Hook) -> None:
    filled = [field.fills for field in hook.fields]
    assert len(set(filled)) == len(filled)
    assert set(filled) <= {field.name for field in fields(HookRequest)}
    assert {"user_id", "patient_id"} <= {field.fills for field in hook.fields if field.required}
