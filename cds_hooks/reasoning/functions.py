"""What content may call in an expression beyond plain FHIRPath: terminology, time, references.

Each function gets fhirpathpy's context (our `Call` is in it under "call"), the input collection and its arguments,
and gives a collection; an empty collection means "cannot tell".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from fhirpathpy.engine.nodes import ResourceNode

from cds_hooks.chart import dates
from cds_hooks.chart.reading import done_at
from cds_hooks.reasoning.terminology import Terminology, ValueSet


class Call(Protocol):
    """What functions need of the running evaluation."""

    now: datetime
    terminology: Terminology
    container: Any  # the resource that the current item is part of

    def contains(self, value_set: ValueSet, value: Any) -> bool:
        """Whether a concept or string is in the set; a match by words is noted for the trace."""

    def resolve(self, reference: Any, container: Any) -> dict[str, Any]:
        """The referenced resource; raises Unknowable when it cannot be had."""


class Unknowable(Exception):
    """Raised inside an expression when data it needs cannot be had: the expression is unknown."""


def raw(value: Any) -> Any:
    """The JSON behind a fhirpathpy node."""
    return value.data if isinstance(value, ResourceNode) else value


def _member_of(ctx: dict[str, Any], data: list[Any], url: str) -> list[Any]:
    call: Call = ctx["call"]
    value_set = call.terminology.value_sets[url]
    # Nothing is a member of nothing: an order without a code is in no set. (FHIR's memberOf() would give empty.)
    return [any(call.contains(value_set, raw(item)) for item in data)]


def _translate(ctx: dict[str, Any], data: list[Any], url: str) -> list[Any]:
    call: Call = ctx["call"]
    concept_map = call.terminology.concept_maps[url]
    found = (call.terminology.translate(concept_map, raw(item)) for item in data)
    return [ResourceNode.create_node(item, "CodeableConcept") for item in found if item is not None]


def _within(ctx: dict[str, Any], data: list[Any], duration: list[Any]) -> list[Any]:
    call: Call = ctx["call"]
    answers = [dates.within(raw(item), raw(duration[0]), call.now) for item in data[:1]]
    return [answer for answer in answers if answer is not None]


def _after(ctx: dict[str, Any], data: list[Any], other: list[Any]) -> list[Any]:
    if not data or not other:
        return []
    call: Call = ctx["call"]
    answer = dates.after(raw(data[0]), raw(other[0]), call.now.tzinfo or UTC)
    return [] if answer is None else [answer]


def _plus(ctx: dict[str, Any], data: list[Any], duration: list[Any]) -> list[Any]:
    """A date moved forward by a duration, as a date (`yyyy-mm-dd`)."""
    if not data or not duration:
        return []
    call: Call = ctx["call"]
    found = dates.span_of(raw(data[0]), call.now.tzinfo or UTC)
    amount = raw(duration[0])
    if found is None:
        return []
    try:
        return [dates.shifted(found[0], amount["value"], amount.get("code") or amount["unit"]).date().isoformat()]
    except (ValueError, OverflowError):  # beyond the calendar
        return []


def _done(_ctx: dict[str, Any], data: list[Any]) -> list[Any]:
    found = (done_at(raw(item)) for item in data)
    return [item for item in found if dates.span_of(item) is not None]


def _latest(ctx: dict[str, Any], data: list[Any]) -> list[Any]:
    call: Call = ctx["call"]

    def moment(item: Any) -> float:
        found = dates.span_of(done_at(raw(item)), call.now.tzinfo or UTC)
        return found[0].timestamp() if found else float("-inf")

    return [max(data, key=moment)] if data else []


def _resolve(ctx: dict[str, Any], data: list[Any]) -> list[Any]:
    call: Call = ctx["call"]
    container = call.container
    if container is None and ctx["dataRoot"]:
        container = raw(ctx["dataRoot"][0])
    # A choice element (`medication`) may hold a concept instead of a reference: then there is nothing to resolve.
    references = [raw(item) for item in data if not (isinstance(raw(item), dict) and "coding" in raw(item))]
    return [call.resolve(reference, container) for reference in references]


#: name → fhirpathpy invocation: the function and the kinds of its arguments by their number.
FUNCTIONS: Final[dict[str, dict[str, Any]]] = {
    "memberOf": {"fn": _member_of, "arity": {1: ["String"]}},
    "translate": {"fn": _translate, "arity": {1: ["String"]}},
    "within": {"fn": _within, "arity": {1: ["Any"]}},
    "after": {"fn": _after, "arity": {1: ["Any"]}},
    "plus": {"fn": _plus, "arity": {1: ["Any"]}},
    "done": {"fn": _done, "arity": {0: []}},
    "latest": {"fn": _latest, "arity": {0: []}},
    "resolve": {"fn": _resolve, "arity": {0: []}},
}
#: name → type of its result for the static check ("" = the type of its input, None = not known).
RESULT_TYPES: Final[dict[str, str | None]] = {
    "memberOf": "boolean", "translate": "CodeableConcept", "within": "boolean", "after": "boolean",
    "plus": "date", "done": "dateTime", "latest": "", "resolve": None,
}  # fmt: skip
#: FHIRPath's own functions that content may use, with their result types.
STANDARD: Final[dict[str, str | None]] = {
    "where": "", "first": "", "last": "", "tail": "", "skip": "", "take": "", "distinct": "", "union": "",
    "exists": "boolean", "empty": "boolean", "all": "boolean", "not": "boolean", "count": "integer",
    "matches": "boolean", "contains": "boolean", "startsWith": "boolean", "endsWith": "boolean",
    "lower": "string", "upper": "string", "replace": "string", "substring": "string", "toString": "string",
    "join": "string", "select": None, "ofType": None, "iif": None, "allTrue": "boolean", "anyTrue": "boolean",
    "intersect": "", "exclude": "", "combine": "", "trim": "string",
}  # fmt: skip
Fn = Callable[..., list[Any]]
