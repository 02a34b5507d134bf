"""What users did with the cards (https://cds-hooks.hl7.org/2.0/#feedback): the body of a feedback call.

Unknown members are ignored. Items are about cards whose ids are not looked up here, and no answer tells whether a card
exists. Comments are free text that may identify a patient; store them accordingly.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cds_hooks.errors import Rejected

#: A client sends one item per click; more than this in one body is no feedback.
MAX_ITEMS = 1000
MAX_COMMENT = 10_000

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")  # tab and line feed are text


def _instant(value: Any) -> datetime:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper())
        except ValueError:
            pass  # such as the 31st of February
    raise ValueError("must be a date and time with its offset, as RFC 3339 has it")


def _storable(text: str) -> str:
    return _CONTROL.sub(" ", text)


Instant = Annotated[datetime, BeforeValidator(_instant)]
Id = Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,256}$")]
Short = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_storable)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Reason(_Part):
    """A coded reason: one of the card's own, or any other. Real clients leave out the display, some the system."""

    code: Short
    system: Short | None = None
    display: Short | None = None


class OverrideReason(_Part):
    """Why a card was overridden: a reason, a comment, or both."""

    reason: Reason | None = None
    userComment: Annotated[str, Field(max_length=MAX_COMMENT), AfterValidator(_storable)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.reason is None and self.userComment is None:
            raise ValueError("must hold a reason or a userComment")
        return self


class AcceptedSuggestion(_Part):
    """The uuid of a suggestion that the user took."""

    id: Id


class FeedbackItem(_Part):
    """What happened to one card. `outcomeTimestamp` knows its offset; accepted comes with at least one suggestion."""

    card: Id
    outcome: Literal["accepted", "overridden"]
    outcomeTimestamp: Instant
    acceptedSuggestions: Annotated[tuple[AcceptedSuggestion, ...], Field(max_length=100)] = ()
    overrideReason: OverrideReason | None = None

    @model_validator(mode="after")
    def _names_what_was_accepted(self) -> Self:
        if self.outcome == "accepted" and not self.acceptedSuggestions:
            raise ValueError("outcome accepted needs acceptedSuggestions, a non-empty array of {id}")
        return self


def parse_feedback(body: Any) -> tuple[FeedbackItem, ...]:
    """Check a feedback body, {"feedback": [item, ...]}; an empty array is nothing to report and fine.

    Raise Rejected, naming the first field that is wrong: 400, or 413 for more than MAX_ITEMS items. One bad item
    refuses the whole body, so that a client never has to guess which were taken.
    """
    items = body.get("feedback") if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise Rejected(
            "The body must be an object with the array feedback.", code="structure", expression=("feedback",)
        )
    if len(items) > MAX_ITEMS:
        raise Rejected(
            f"feedback holds more than {MAX_ITEMS} items; send them in several calls.",
            status=413,
            code="too-long",
            expression=("feedback",),
        )
    return tuple(_item(number, item) for number, item in enumerate(items))


def _item(number: int, item: Any) -> FeedbackItem:
    try:
        return FeedbackItem.model_validate(item)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
        path = _path(number, first["loc"])
        missing = first["type"] == "missing"
        # Pydantic's messages name the rule, not the value; its prefix for our own ones is noise to a reader.
        rule = "is required" if missing else first["msg"].removeprefix("Value error, ")
        raise Rejected(f"{path}: {rule}.", code="required" if missing else "value", expression=(path,)) from None


def _path(number: int, location: tuple[int | str, ...]) -> str:
    return f"feedback[{number}]" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
