"""The response models: what the specification forbids cannot be built."""

import copy
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from cds_hooks.protocol.response import Action, Card, Coding, Link, Response, Source, Suggestion, hollow, prune

UUIDS = [f"4e0a3a1e-3283-4575-ab82-028d55fe27{n:02}" for n in range(10)]
TOPIC: dict[str, Any] = {"system": "https://cds.example.org/topic", "code": "topic-1", "display": "Topic"}
ORDER = {"resourceType": "ServiceRequest", "id": "o1", "status": "draft", "note": [{"text": "x"}]}


def card(**changes: Any) -> Card:
    given: dict[str, Any] = {"uuid": UUIDS[0], "summary": "Say", "indicator": "info", "source": {"label": "We"}}
    return Card(**{**given, **changes})


def action(**changes: Any) -> Action:
    return Action(**{"type": "update", "description": "Change", "resource": ORDER, **changes})


def link(**changes: Any) -> Link:
    return Link(**{"label": "Page", "url": "https://x.example/", "type": "absolute", **changes})


def choice(number: int, **changes: Any) -> Suggestion:
    return Suggestion(**{"label": "Do", "uuid": UUIDS[number], "actions": (action(),), **changes})


def test_no_advice() -> None:
    assert Response().payload() == {"cards": []}


def test_a_whole_answer() -> None:
    whole = card(
        detail="**Why**\n\n- so",
        source=Source(
            label="We", url="https://x.example/a?b=c#d", icon="https://x.example/i.png", topic=Coding(**TOPIC)
        ),
        suggestions=(choice(1, isRecommended=True), choice(2, isRecommended=False)),
        selectionBehavior="at-most-one",
        overrideReasons=(Coding(**TOPIC),),
        links=(link(), link(type="smart", appContext="a b", autolaunchable=False)),
        extension={"org.example": 1},
    )
    payload = Response(cards=(whole,), extension={"org.example": {"x": False}}).payload()
    changed = {"type": "update", "description": "Change", "resource": ORDER}
    assert orjson.loads(orjson.dumps(payload)) == {
        "cards": [
            {
                "uuid": UUIDS[0],
                "summary": "Say",
                "detail": "**Why**\n\n- so",
                "indicator": "info",
                "source": {
                    "label": "We",
                    "url": "https://x.example/a?b=c#d",
                    "icon": "https://x.example/i.png",
                    "topic": TOPIC,
                },
                "suggestions": [
                    {"label": "Do", "uuid": UUIDS[1], "isRecommended": True, "actions": [changed]},
                    {"label": "Do", "uuid": UUIDS[2], "isRecommended": False, "actions": [changed]},
                ],
                "selectionBehavior": "at-most-one",
                "overrideReasons": [TOPIC],
                "links": [
                    {"label": "Page", "url": "https://x.example/", "type": "absolute"},
                    {
                        "label": "Page",
                        "url": "https://x.example/",
                        "type": "smart",
                        "appContext": "a b",
                        "autolaunchable": False,
                    },
                ],
                "extension": {"org.example": 1},
            }
        ],
        "extension": {"org.example": {"x": False}},
    }


def test_a_resource_is_passed_on_unchanged() -> None:
    resource = copy.deepcopy(ORDER)
    given = card(suggestions=(choice(1, actions=(action(resource=resource),)),), selectionBehavior="any")
    sent = Response(cards=(given,)).payload()["cards"][0]["suggestions"][0]["actions"][0]["resource"]
    assert resource == ORDER
    assert sent == ORDER
    assert sent["note"] is resource["note"]  # not copied down to the last element


@pytest.mark.parametrize("code", [0x00, 0x09, 0x0A, 0x0D, 0x1B, 0x7F, 0x85, 0x2028, 0x202E, 0x2066, 0x200F])
def test_one_line_texts_hold_no_control_or_direction_character(code: int) -> None:
    text = f"a{chr(code)}b"
    for build in (
        lambda: card(summary=text),
        lambda: card(source={"label": text}),
        lambda: choice(1, label=text),
        lambda: link(label=text),
        lambda: action(description=text),
        lambda: Coding(code="c", system="s", display=text),
    ):
        with pytest.raises(ValidationError, match="one line"):
            build()


def test_the_length_of_a_summary() -> None:
    assert card(summary="x" * 139).summary == "x" * 139
    with pytest.raises(ValidationError, match="139"):
        card(summary="x" * 140)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"summary": ""}, "one line"),
        ({"summary": "  "}, "one line"),
        ({"summary": None}, "string"),
        ({"summary": "a\ud800"}, "one line"),
        ({"detail": ""}, "text"),
        ({"detail": "a\x00"}, "text"),
        ({"detail": "a\u202eb"}, "text"),
        ({"uuid": "x"}, "pattern"),
        ({"uuid": UUIDS[0] + "\n"}, "pattern"),
        ({"indicator": "hard-stop"}, "info"),
        ({"indicator": "INFO"}, "info"),
        ({"source": {}}, "label"),
        ({"source": {"label": "We", "url": "x.example"}}, "http"),
        ({"source": {"label": "We", "url": "javascript:alert(1)"}}, "http"),
        ({"source": {"label": "We", "icon": "http://u:p@x.example/"}}, "URL"),
        ({"source": {"label": "We", "topic": {"code": "x"}}}, "system"),
        ({"suggestions": ()}, "at least 1"),
        ({"suggestions": (choice(1),)}, "selectionBehavior"),
        ({"suggestions": (choice(1),), "selectionBehavior": "all"}, "at-most-one"),
        ({"links": ()}, "at least 1"),
        ({"overrideReasons": ()}, "at least 1"),
        ({"overrideReasons": ({"code": "c", "system": "s"},)}, "display"),
        ({"extension": {}}, "empty"),
        ({"extension": []}, "dict"),
        ({"extension": {"x": {"y": [None]}}}, r"\.x\.y\[0\]"),
        ({"detial": "x"}, "Extra"),
    ],
)
def test_a_card_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        card(**changes)


def test_at_most_one_is_recommended() -> None:
    both = (choice(1, isRecommended=True), choice(2, isRecommended=True))
    assert card(suggestions=both, selectionBehavior="any").suggestions == both
    with pytest.raises(ValidationError, match="one recommended"):
        card(suggestions=both, selectionBehavior="at-most-one")


def test_a_uuid_is_used_once() -> None:
    with pytest.raises(ValidationError, match="twice"):
        Response(cards=(card(suggestions=(choice(0),), selectionBehavior="any"),))
    with pytest.raises(ValidationError, match="twice"):
        Response(cards=(card(), card(uuid=UUIDS[0].upper())))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "UPDATE"},
        {"type": "delete"},
        {"type": "delete", "resourceId": "ServiceRequest/o1"},
        {"type": "delete", "resource": None},
        {"type": "delete", "resource": None, "resourceId": "o1"},
        {"resourceId": "ServiceRequest/o1"},
        {"resource": None},
        {"resource": {}},
        {"resource": "{}"},
        {"resource": {"resourceType": "ServiceRequest"}},
        {"resource": {"id": "o1"}},
        {"resource": {"resourceType": "x y", "id": "o1"}},
        {"resource": {"resourceType": "ServiceRequest", "id": 7}},
        {"resource": {**ORDER, "reasonCode": []}},
        {"resource": {**ORDER, "code": {"coding": [{}]}}},
        {"resource": {**ORDER, "note": None}},
        {"type": "create", "resource": None},
        {"description": ""},
        {"description": None},
    ],
)
def test_an_action_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        action(**changes)


def test_a_delete_names_its_target() -> None:
    gone = action(type="delete", resource=None, resourceId="ServiceRequest/o1")
    assert (gone.resource, gone.resourceId) == (None, "ServiceRequest/o1")


@pytest.mark.parametrize(
    "changes",
    [{"appContext": "x"}, {"type": "smart", "appContext": ""}, {"url": "x"}, {"type": "Smart"}, {"label": ""}],
)
def test_a_link_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        link(**changes)


def test_parts_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        card().summary = "other"


def test_prune_drops_what_is_empty_at_any_depth() -> None:
    given = {
        "a": None,
        "b": "",
        "c": [],
        "d": {},
        "e": [{}, [None], {"f": [""]}, "x", 0, False],
        "g": {"h": {"i": None}},
    }
    before = copy.deepcopy(given)
    assert prune(given) == {"e": ["x", 0, False]}
    assert given == before
    assert prune({"coding": [{}]}) is None


def test_prune_keeps_the_places_of_a_primitive_and_its_extensions() -> None:
    given = {"given": [None, "B"], "_given": [{"extension": [{"url": "u", "valueCode": "c"}]}, None], "_line": [None]}
    kept = prune(given)
    assert kept == {name: given[name] for name in ("given", "_given")}
    assert hollow(kept) is None


def test_hollow_finds_the_first_empty_value() -> None:
    assert hollow({"a": [0, False, {"b": "x"}]}) is None
    assert hollow({"a": [1, {"b": ""}]}) == ".a[1].b"
    assert hollow({"given": [None], "_given": [{"id": "x"}]}) == ".given"
    assert hollow({"given": ["x", ""], "_given": [None, {"id": "x"}]}) == ".given[1]"
    assert hollow({}) == "(all of it)"
