"""Discovery: the members the specification names, and nothing empty."""

from cds_hooks.protocol.discovery import ServiceEntry, discovery
from cds_hooks.protocol.hooks import HOOKS

ENTRY = ServiceEntry("s1", HOOKS["order-sign"], "Title", "Text", {"patient": "Patient/{{context.patientId}}"}, "Notes")


def test_a_whole_entry() -> None:
    assert discovery([ENTRY]) == {
        "services": [
            {
                "hook": "order-sign",
                "id": "s1",
                "title": "Title",
                "description": "Text",
                "prefetch": {"patient": "Patient/{{context.patientId}}"},
                "usageRequirements": "Notes",
                "version": "2.0.1",
                "hookVersion": "1.0",
            }
        ]
    }


def test_what_is_empty_is_left_out() -> None:
    bare = ServiceEntry("s1", HOOKS["patient-view"], "Title", "Text", {"x": ""}, "")
    (service,) = discovery([bare])["services"]
    assert sorted(service) == ["description", "hook", "hookVersion", "id", "title", "version"]


def test_no_service_is_an_empty_array() -> None:
    assert discovery([]) == {"services": []}
