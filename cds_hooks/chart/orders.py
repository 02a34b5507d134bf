"""What an order says, apart from when and by whom: two orders that say the same are the same advice to the same end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

#: Elements that change from draft to draft although the order stays what it is. Whatever is not named here counts: an
#: order with an element that we do not know is another order.
_BOOKKEEPING: Final = frozenset({
    "id", "meta", "implicitRules", "language", "text", "extension", "identifier", "groupIdentifier", "requisition",
    "status", "statusReason", "intent", "authoredOn", "subject", "patient", "encounter", "requester", "recorder",
    "performer", "reporter", "insurance", "basedOn", "replaces", "instantiatesCanonical", "instantiatesUri",
    "relevantHistory", "eventHistory",
})  # fmt: skip
#: The same further down: who wrote a note and when; beside a code the words that only repeat it.
_ASIDE: Final = frozenset({"id", "extension", "time", "authorReference", "authorString"})
_NAMES: Final = frozenset({"display", "version", "userSelected"})
_DATED: Final = ("occurrence", "_")  # occurrence[x]; extensions of primitive values


#: Values in all orders of a call together. Real ones have some hundred; to sort a million takes seconds.
_MOST: Final = 10_000


class TooMuch(Exception):
    """The orders hold more than is compared."""


def said_by(orders: Iterable[Mapping[str, Any]]) -> str:
    """The content of orders as canonical text: the same for the same content in any order, letter case and spacing.

    Raises TooMuch for orders with more values than are compared, RecursionError for orders that are nested deeper
    than Python code can walk.
    """
    orders = list(orders)
    _measure(orders)
    return "\n".join(sorted({_order(order) for order in orders}))


def _measure(orders: list[Mapping[str, Any]]) -> None:
    waiting: list[Any] = list(orders)
    seen = 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        if seen + len(waiting) > _MOST:
            raise TooMuch


def _order(order: Mapping[str, Any]) -> str:
    kept = {key: _kept(value) for key, value in order.items()
            if key not in _BOOKKEEPING and not key.startswith(_DATED)}  # fmt: skip
    return _written({key: value for key, value in kept.items() if value not in _EMPTY})


_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})


def _kept(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, list):
        items = [one for item in value if (one := _kept(item)) not in _EMPTY]
        return sorted(items, key=_written) if len(items) > 1 else items
    if isinstance(value, dict):
        aside = _ASIDE | _NAMES if "system" in value and "code" in value else _ASIDE
        kept = {key: _kept(item) for key, item in value.items() if key not in aside and not key.startswith("_")}
        return {key: item for key, item in kept.items() if item not in _EMPTY}
    return value


_written: Final[Callable[[Any], str]] = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
