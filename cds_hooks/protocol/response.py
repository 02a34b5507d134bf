"""The answer to a call, as models that cannot hold what the specification forbids.

    Response(cards, extension)
    Card(summary, indicator, source, detail, suggestions, selectionBehavior, overrideReasons, links, uuid, extension)

Members carry their names on the wire (https://cds-hooks.hl7.org/2.0/#cds-service-response), so that a Card reads like
the JSON it becomes. Breaking a rule raises pydantic.ValidationError where the card is built, never at the client.
A resource in an action is not copied deeply, not changed and not validated as FHIR: it belongs to the caller.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    model_validator,
)

from cds_hooks.protocol.address import base_url

# Control characters, line and paragraph separators, the characters that turn the direction of text around, and lone
# surrogates, which UTF-8 cannot hold.
_NOT_ON_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_IN_MARKDOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TYPE = re.compile(r"[A-Z][A-Za-z]+")
_LOCATION = re.compile(r"https?://[^\s/?#]+[^\s]*")


# --- Values ---------------------------------------------------------------------------------------------------------


class Pruned(dict[str, Any]):
    """A resource that `prune` has gone over: the models take it as it is instead of looking through it again."""


def pruned(resource: dict[str, Any]) -> Pruned:
    """Return a copy of a resource without null and empty values (see prune)."""
    return Pruned(prune(resource) or {})


def prune(value: Any) -> Any:
    """Return a copy without null, "", [] and {} at any depth; None when nothing is left.

    Nulls stay where FHIR JSON needs them: in the arrays of a primitive and of its extensions (`given`, `_given`),
    whose places correspond.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, dict):
        kept = {}
        for name, item in value.items():
            if not isinstance(item, str):  # most are: saves a call
                paired = isinstance(item, list) and _is_paired(value, name)
                item = _aligned(item) if paired else prune(item)
            if item is not None and item != "":
                kept[name] = item
        return kept or None
    if isinstance(value, list | tuple):
        return [item for item in map(prune, value) if item is not None] or None
    return value


def _is_paired(node: dict[str, Any], name: str) -> bool:
    twin = name[1:] if name[:1] == "_" else "_" + name
    return isinstance(node.get(twin), list) and isinstance(node[name], list)


def _aligned(items: list[Any]) -> list[Any] | None:
    kept = [prune(item) for item in items]
    return kept if any(item is not None for item in kept) else None


def hollow(value: Any, where: str = "") -> str | None:
    """Return the path of the first null or empty value (see prune), or None if there is none."""
    if value is None or value in ("", [], {}):
        return where or "(all of it)"
    if isinstance(value, dict):
        for name, item in value.items():
            look = _hollow_pair if _is_paired(value, name) else hollow
            if found := look(item, f"{where}.{name}"):
                return found
    elif isinstance(value, list | tuple):
        return next((found for number, item in enumerate(value) if (found := hollow(item, f"{where}[{number}]"))), None)
    return None


def _hollow_pair(items: list[Any], where: str) -> str | None:
    if all(item is None for item in items):
        return where
    numbered = enumerate(items)
    return next((found for n, item in numbered if item is not None and (found := hollow(item, f"{where}[{n}]"))), None)


def _one_line(text: str) -> str:
    if not text.strip() or _NOT_ON_A_LINE.search(text):
        raise ValueError("must be one line of text without control or direction characters")
    return text


def _markdown(text: str) -> str:
    if not text.strip() or _NOT_IN_MARKDOWN.search(text):
        raise ValueError("must be text without control or direction characters")
    return text


def _url(text: str) -> str:
    if not _LOCATION.fullmatch(text) or _NOT_ON_A_LINE.search(text):
        raise ValueError("must be an absolute http(s) URL")
    base_url(text.partition("?")[0].partition("#")[0])
    return text


def _solid(value: Any) -> dict[str, Any]:
    if isinstance(value, Pruned) and value:
        return value
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object (a dict)")
    if found := hollow(value):
        raise ValueError(f"holds a null or empty value at {found}")
    return value


def _is_identified(resource: dict[str, Any]) -> bool:
    kind = resource.get("resourceType")
    return isinstance(kind, str) and bool(_TYPE.fullmatch(kind)) and isinstance(resource.get("id"), str)


Line = Annotated[str, AfterValidator(_one_line)]
Summary = Annotated[Line, Field(max_length=139)]  # the specification says "<140-character"
Markdown = Annotated[str, AfterValidator(_markdown)]
Url = Annotated[str, AfterValidator(_url)]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
LocalReference = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}$")]
#: A JSON object with at least one member; nothing in it is null or empty.
Solid = Annotated[dict[str, Any], PlainValidator(_solid)]


# --- Models ---------------------------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    extension: Solid | None = None


class _Fixed(_Part):
    """A part that many answers share: written out once."""

    @cached_property
    def wire(self) -> dict[str, Any]:
        """The JSON-ready dict. Read only."""
        named = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: _plain_value(value) for name, value in named if value is not None}


class Coding(_Fixed):
    """A code, for `source.topic` and for override reasons (which need the display)."""

    code: Line
    system: Line
    display: Line | None = None


class Source(_Fixed):
    """Who says so."""

    label: Line
    url: Url | None = None
    icon: Url | None = None
    topic: Coding | None = None


class Link(_Part):
    """A link to a page (absolute) or to a SMART app (smart), which alone may be given an appContext."""

    label: Line
    url: Url
    type: Literal["absolute", "smart"]
    appContext: Annotated[str, Field(min_length=1)] | None = None
    autolaunchable: bool | None = None

    @model_validator(mode="after")
    def _context_is_for_apps(self) -> Self:
        if self.appContext is not None and self.type != "smart":
            raise ValueError("appContext belongs to smart links only")
        return self


class Action(_Part):
    """What accepting does: create or update `resource` (whole, with an id), or delete `resourceId` (Type/id)."""

    type: Literal["create", "update", "delete"]
    description: Line
    resource: Solid | None = None
    resourceId: LocalReference | None = None

    @model_validator(mode="after")
    def _target_fits_the_type(self) -> Self:
        if self.type == "delete":
            if self.resource is not None or self.resourceId is None:
                raise ValueError("a delete takes a resourceId and no resource")
        elif self.resource is None or self.resourceId is not None:
            raise ValueError(f"a {self.type} takes a resource and no resourceId")
        elif not _is_identified(self.resource):
            raise ValueError("the resource needs a resourceType and an id")
        return self


class Suggestion(_Part):
    """Something to accept with one click. Without a uuid its acceptance cannot be reported."""

    label: Line
    uuid: Uuid | None = None
    isRecommended: bool | None = None
    actions: Annotated[tuple[Action, ...], Field(min_length=1)] | None = None


class Card(_Part):
    """One piece of advice. Without a uuid it gets no feedback."""

    uuid: Uuid | None = None
    summary: Summary
    detail: Markdown | None = None
    indicator: Literal["info", "warning", "critical"]
    source: Source
    suggestions: Annotated[tuple[Suggestion, ...], Field(min_length=1)] | None = None
    selectionBehavior: Literal["at-most-one", "any"] | None = None
    overrideReasons: Annotated[tuple[Coding, ...], Field(min_length=1)] | None = None
    links: Annotated[tuple[Link, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _suggestions_can_be_chosen(self) -> Self:
        if self.suggestions is None:
            return self
        if self.selectionBehavior is None:
            raise ValueError("suggestions need a selectionBehavior")
        recommended = sum(item.isRecommended is True for item in self.suggestions)
        if self.selectionBehavior == "at-most-one" and recommended > 1:
            raise ValueError("at-most-one allows one recommended suggestion")
        return self

    @model_validator(mode="after")
    def _reasons_can_be_read(self) -> Self:
        if any(reason.display is None for reason in self.overrideReasons or ()):
            raise ValueError("an override reason needs a display")
        return self


class Response(_Part):
    """The body of a 200. No advice is an empty `cards`, the only thing in it that may be empty."""

    cards: tuple[Card, ...] = ()

    @model_validator(mode="after")
    def _uuids_are_unique(self) -> Self:
        suggestions = [item for card in self.cards for item in card.suggestions or ()]
        parts: list[Card | Suggestion] = [*self.cards, *suggestions]
        uuids = [part.uuid.lower() for part in parts if part.uuid]
        if len(set(uuids)) < len(uuids):
            raise ValueError("a uuid is used twice")
        return self

    def payload(self) -> dict[str, Any]:
        """Return the JSON-ready body. Resources in it are those of the actions, so treat it as read-only."""
        return {"cards": []} | _plain(self)


def _plain(part: BaseModel) -> dict[str, Any]:
    """Turn a model into a dict in one pass; model_dump would copy the resources down to their last element."""
    return {name: _plain_value(value) for name, value in part.__dict__.items() if value is not None}


def _plain_value(value: Any) -> Any:
    if isinstance(value, _Fixed):
        return value.wire
    if isinstance(value, BaseModel):
        return _plain(value)
    return [_plain_value(item) for item in value] if isinstance(value, tuple) else value
