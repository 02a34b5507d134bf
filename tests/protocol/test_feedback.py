"""Feedback bodies: what real clients send is taken, anything else refused in words that name the field."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cds_hooks.errors import Rejected
from cds_hooks.protocol.feedback import MAX_COMMENT, MAX_ITEMS, FeedbackItem, parse_feedback

GONE: Any = object()
CARD = "4e0a3a1e-3283-4575-ab82-028d55fe2719"


def item(**changes: Any) -> dict[str, Any]:
    given = {
        "card": CARD,
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": "e56e1945-20b3-4393-8503-a1a20fd73152"}],
        "outcomeTimestamp": "2026-01-02T03:04:05Z",
    }
    return {name: value for name, value in (given | changes).items() if value is not GONE}


def overridden(reason: Any = GONE) -> dict[str, Any]:
    return item(outcome="overridden", acceptedSuggestions=GONE, overrideReason=reason)


def one(given: dict[str, Any]) -> FeedbackItem:
    (parsed,) = parse_feedback({"feedback": [given]})
    return parsed


def refusal(body: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        parse_feedback(body)
    assert len(caught.value.diagnostics) >= 15
    return caught.value


def test_an_accepted_suggestion() -> None:
    parsed = one(item())
    assert (parsed.card, parsed.outcome, parsed.overrideReason) == (CARD, "accepted", None)
    assert [accepted.id for accepted in parsed.acceptedSuggestions] == ["e56e1945-20b3-4393-8503-a1a20fd73152"]
    assert parsed.outcomeTimestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "reason",
    [
        {"reason": {"code": "c", "system": "https://x.example"}},
        {"reason": {"code": "c", "system": "https://x.example", "display": "d"}, "userComment": "no"},
        {"reason": {"code": "c"}},
        {"userComment": "Not now."},
        {"userComment": ""},
        {"userComment": "x" * MAX_COMMENT},
        None,
        GONE,
    ],
)
def test_an_override_with_any_reason_or_none(reason: Any) -> None:
    parsed = one(overridden(reason))
    assert parsed.outcome == "overridden"
    assert parsed.acceptedSuggestions == ()
    given = reason if isinstance(reason, dict) else {}
    kept = parsed.overrideReason.model_dump(exclude_unset=True) if parsed.overrideReason else {}
    assert kept == given


def test_several_items_and_the_same_twice() -> None:
    assert parse_feedback({"feedback": [item(), overridden(), item()]})[0] == one(item())


def test_nothing_to_report() -> None:
    assert parse_feedback({"feedback": []}) == ()


def test_unknown_members_are_ignored() -> None:
    extra = {"extension": {"x": 1}, "future": [1], "acceptedSuggestions": [{"id": "a", "extension": {}}]}
    assert one(item(**extra)).acceptedSuggestions[0].id == "a"


@pytest.mark.parametrize(
    "when",
    ["2026-01-02T03:04:05+02:00", "2026-01-02t03:04:05z", "2026-01-02T03:04:05.123456789Z", "2024-02-29T00:00:00Z"],
)
def test_timestamps_of_rfc_3339(when: str) -> None:
    assert one(item(outcomeTimestamp=when)).outcomeTimestamp.tzinfo is not None


def test_control_characters_do_not_reach_the_store() -> None:
    parsed = one(overridden({"userComment": "a\x00b\nc"}))
    assert parsed.overrideReason is not None
    assert parsed.overrideReason.userComment == "a b\nc"


NO_FEEDBACK: list[Any] = [None, [], "x", 7, {}, {"feedback": None}, {"feedback": {}}, {"feedback": "x"}]


@pytest.mark.parametrize("body", NO_FEEDBACK)
def test_a_body_that_is_no_feedback(body: Any) -> None:
    refused = refusal(body)
    assert (refused.status, refused.expression) == (400, ("feedback",))


@pytest.mark.parametrize("value", ["x", None, [], {}, 7])
def test_an_item_that_is_none(value: Any) -> None:
    assert refusal({"feedback": [value]}).expression[0].startswith("feedback[0]")


WRONG: dict[str, list[Any]] = {
    "card": [GONE, None, 7, "", {}, "a\x00b", "x" * 300, "caf\xe9"],
    "outcome": [GONE, None, "ignored", "ACCEPTED", 7],
    "acceptedSuggestions": ["x", [{}], ["x"], [{"id": 7}], [{"id": ""}], None, [{"id": "x"}] * 101],
    "outcomeTimestamp": [
        *(GONE, None, 7, "", "yesterday", "2026-01-02", "2026-13-45T99:99:99Z", "2026-02-30T00:00:00Z"),
        *("2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05+99:00", "2026-01-02T03:04:05Z\n"),
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_field_is_refused_by_name(name: str, value: Any) -> None:
    refused = refusal({"feedback": [item(), item(**{name: value})]})
    assert refused.status == 400
    assert refused.expression[0].startswith(f"feedback[1].{name}")
    assert name in refused.diagnostics


@pytest.mark.parametrize("value", [GONE, []])
def test_accepted_needs_a_suggestion(value: Any) -> None:
    assert "acceptedSuggestions" in refusal({"feedback": [item(acceptedSuggestions=value)]}).diagnostics


@pytest.mark.parametrize(
    "reason",
    [{}, "x", [], 7, {"reason": "x"}, {"reason": {}}, {"userComment": "x" * (MAX_COMMENT + 1)}, {"userComment": 7}],
)
def test_a_wrong_override_reason(reason: Any) -> None:
    assert "overrideReason" in refusal({"feedback": [overridden(reason)]}).expression[0]


@pytest.mark.parametrize(
    ("name", "value"), [("outcome", "Smith"), ("outcomeTimestamp", "Smith"), ("card", {"Smith": 1})]
)
def test_refusals_do_not_echo(name: str, value: Any) -> None:
    assert "Smith" not in refusal({"feedback": [item(**{name: value})]}).diagnostics


def test_too_many_items() -> None:
    assert len(parse_feedback({"feedback": [item()] * MAX_ITEMS})) == MAX_ITEMS
    assert refusal({"feedback": [item()] * (MAX_ITEMS + 1)}).status == 413
