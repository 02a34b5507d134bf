"""The plan's own cases, played at one fixed moment: which rules they are examples for, and what the cards do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

from cds_hooks.cases import Case, Result, read_cases, recalled, request_of, run_case
from cds_hooks.chart.reading import as_list, name_of
from cds_hooks.loading import Loaded, with_codes_only
from cds_hooks.protocol.request import parse_request
from cds_hooks.reasoning.compiling import with_parameters
from cds_hooks.review.page import Effect, Row
from cds_hooks.review.words import Speaker, element
from cds_hooks.service import CdsService

_BOOKKEEPING: Final = frozenset({"resourceType", "id", "status", "intent", "subject", "requester", "encounter"})


@dataclass(frozen=True, slots=True)
class Played:
    """A case with what came of it; `cards` by rule id, only if a rule that the case is about speaks."""

    case: Case
    title: str
    result: Result
    request: Mapping[str, Any]
    cards: Mapping[str, Mapping[str, Any]]

    @property
    def drafts(self) -> list[dict[str, Any]]:
        """The drafted orders of the request."""
        entries = self.request["context"].get("draftOrders", {}).get("entry", ())
        return [entry["resource"] for entry in entries]

    @property
    def chart(self) -> list[dict[str, Any]]:
        """All resources of the prefetch."""
        found: list[dict[str, Any]] = []
        for value in self.request["prefetch"].values():
            if isinstance(value, dict) and value.get("resourceType") == "Bundle":
                found += [entry["resource"] for entry in value.get("entry", ())]
            elif isinstance(value, dict) and value.get("resourceType") != "OperationOutcome":
                found.append(value)
        return found


def moment(loaded: Loaded) -> datetime:
    """Noon of the day that the plan is dated: the same content gives the same page."""
    return datetime.combine(date.fromisoformat(str(loaded.package.plan.get("date", "2026-01-01"))[:10]), time(12), UTC)


def play(loaded: Loaded, now: datetime) -> list[Played]:
    """Play all cases, as the plan was shipped (of a site's layer only the codes take part)."""
    shipped = with_codes_only(loaded)
    cases, fixtures = read_cases(loaded.package.folder / "cases")
    played: list[Played] = []
    for case, title in zip(cases, _titles(cases), strict=True):
        result = run_case(shipped, case, fixtures, now)
        request = request_of(shipped, case, fixtures, now)
        wanted = set(case.about) & set(result.spoken)
        cards = _cards(shipped, case, result, request, now) if wanted else {}
        played.append(Played(case, title, result, request, cards))
    return played


def _titles(cases: Sequence[Case]) -> Iterator[str]:
    """Titles that can stand alone: one that begins with `…` goes on from the case before."""
    before = ""
    for case in cases:
        own = str(case.body.get("title", case.id))
        if own.startswith("…"):
            yield f"{before} {own}"
        else:
            before = own
            yield own


def _cards(
    loaded: Loaded, case: Case, result: Result, request: dict[str, Any], now: datetime
) -> dict[str, Mapping[str, Any]]:
    plan = with_parameters(loaded.plan, case.body.get("parameters", {}))
    service = CdsService([dataclasses.replace(loaded, plan=plan)], clock=lambda: now,
                         memory=recalled(case, plan.id, now))  # fmt: skip
    identity = f"{plan.id}-{request['hook']}"
    hook = service.hook_of(identity)
    if hook is None:
        return {}
    cards = service.call(identity, parse_request(request, hook)).payload["cards"]
    return dict(zip(result.spoken, cards, strict=True)) if len(cards) == len(result.spoken) else {}


def effects(action: Mapping[str, Any], played: Played, say: Speaker) -> Effect:
    """What an accepted action does to an order."""
    drafts = {name_of(draft): draft for draft in played.drafts}
    if action["type"] == "delete":
        return Effect(say.reference(action["resourceId"]), ())
    after = action["resource"]
    before = drafts.get(name_of(after), {}) if action["type"] == "update" else {}
    keys = [key for key in (*before, *(key for key in after if key not in before)) if before or key not in _BOOKKEEPING]
    rows = (_row(key, before.get(key), after.get(key), say) for key in keys if before.get(key) != after.get(key))
    name = say.reference(name_of(after) or "") if before else say.say(after.get("code", {}))
    return Effect(name, tuple(row for row in rows if row.before != row.after))


def _row(key: str, before: Any, after: Any, say: Speaker) -> Row:
    return Row(element(key), *(say.say(as_list(value)) if value is not None else "" for value in (before, after)))
