"""Cases that travel with a plan: a chart and a hook call, and the cards or the silence that must follow.

One file holds several cases. Resources come from `_fixtures.yaml` by name, changed with `with`, or are written out.
Dates are relative to the call: `now-5mo`, `now-2h`, `now-3wT` (T: with time of day).

    - id: plain-order
      title: …
      about: [rule-id]                     # the rules that this is an example for
      chart: [man-38, problem, {use: other, with: {clinicalStatus: …}}]
      hook: order-select
      orders: [plain]                      # drafts; `selected` names some of them, all by default
      unavailable: [observations]          # prefetch keys that cannot be had
      parameters: {someParameter: true}
      expect: []                           # silence; or the cards in order
      unknown: [rule ids]                  # rules that must be undecided, not just silent
      overridden: {rule-id: now-30d}       # a user overrode its card then, for this patient and these orders

A case with `each` is played once for each of a list, put in turn at an element of one of its resources:

      each: {in: plain.code, codes: ["urn:a|1", "urn:b|2"]}
      each: {in: plain.note, values: [[{text: one}], [{text: another}]]}

`in` is the resource's id and the path (`device.contained.0.safety`). A code takes the shape of what stands there: a
Coding, a CodeableConcept, or a list with one of them; `values` are put there as they are. The codes are written out,
not taken from a value set, so that one that is lost from its set is noticed.

A card may also say what is written into the orders: `writes: [{note: [{text: "^new"}]}]`. Each entry must be part of
the resource of one of its actions; strings are patterns. `omits` lists what no action may write, and `recommended` the
labels of the suggestions that are ticked in advance.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from cds_hooks.chart.dates import shifted
from cds_hooks.chart.reading import as_list, codings
from cds_hooks.chart.search import Query
from cds_hooks.errors import CdsHooksError, ContentError
from cds_hooks.loading import Loaded, with_codes_only
from cds_hooks.protocol.caller import Caller
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import parse_request
from cds_hooks.reasoning.compiling import with_parameters
from cds_hooks.reasoning.content import read_yaml
from cds_hooks.service import CdsService
from cds_hooks.store.port import NoMemory, Override

FIXTURES: Final = "_fixtures.yaml"
PATIENT: Final = "example"
_RELATIVE: Final = re.compile(r"now(?:([+-])((?:\d+(?:y|mo|w|d|h|min))+))?(T)?")
_KEYS: Final = frozenset({"id", "title", "about", "chart", "hook", "orders", "selected", "unavailable", "parameters",
                          "expect", "unknown", "user", "encounter", "each", "overridden"})  # fmt: skip
_CARD_KEYS: Final = frozenset({"topic", "indicator", "summary", "detail", "suggestions", "writes", "omits",
                               "recommended"})  # fmt: skip
_Patterns = str | list[str] | None


class _Expected(BaseModel):
    """The shape of an expected card; which keys there are is said by `_CARD_KEYS`."""

    topic: str
    indicator: str | None = None
    summary: _Patterns = None
    detail: _Patterns = None
    suggestions: list[list[str]] | None = None
    writes: list[dict[str, Any]] = []
    omits: list[dict[str, Any]] = []
    recommended: list[str] | None = None


class _Shape(BaseModel):
    """The shape of a case: what is of another one is refused before anything is made of it."""

    id: str | int
    about: list[str] = []
    chart: list[str | dict[str, Any]] = []
    orders: list[str | dict[str, Any]] = []
    selected: list[str] = []
    unavailable: list[str] = []
    parameters: dict[str, Any] = {}
    expect: list[_Expected] = []
    unknown: list[str] = []
    user: str = ""
    encounter: str = ""
    each: dict[str, Any] | None = None
    overridden: dict[str, Any] = {}


_EACH_KEYS: Final = (frozenset({"in", "codes"}), frozenset({"in", "values"}))


@dataclass(frozen=True, slots=True)
class Case:
    """One example with its file, for messages."""

    file: str
    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def about(self) -> list[str]:
        return list(self.body.get("about", ()))


class Recalled(NoMemory):
    """A memory that holds only what a case says was overridden."""

    def __init__(self, plan: str, overridden: Mapping[str, datetime]) -> None:
        self._overrides: Final = [Override(plan, rule, "", at, "") for rule, at in overridden.items()]

    def overrides(self, caller: Caller, patient_id: str, since: datetime) -> Sequence[Override]:
        """What was overridden since then, whatever the orders: the case says that they are the same."""
        return [override for override in self._overrides if override.at >= since]


def recalled(case: Case, plan: str, now: datetime) -> Recalled:
    """The memory that a case speaks of; raises ContentError if that is not rule id → moment in the past."""
    given = case.body.get("overridden", {})
    if not isinstance(given, dict) or not all(_RELATIVE.fullmatch(str(moment)) for moment in given.values()):
        raise ContentError(case.file, case.id, "overridden: rule id and moment, such as {some-rule: now-30d}")
    return Recalled(plan, {rule: datetime.fromisoformat(_dated(f"{moment}T".replace("TT", "T"), now))
                           for rule, moment in given.items()})  # fmt: skip


@dataclass(slots=True)
class Result:
    """What a case showed: which rules spoke, which stayed undecided, and every way in which it is not as expected."""

    case: Case
    spoken: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def kind(self, rule: str) -> str:
        """What the case is for a rule: firing, missing (it could not be decided) or silent."""
        if rule in self.spoken:
            return "firing"
        missing = self.case.body.get("unavailable") or rule in self.unknown
        return "missing" if missing else "silent"


def read_cases(folder: Path) -> tuple[list[Case], dict[str, Any]]:
    """(cases, fixtures) of a plan's `cases/` folder; raises ContentError for a misspelt key or a repeated id."""
    fixtures = _fixtures(folder / FIXTURES)
    cases = [
        case
        for path in sorted(folder.glob("*.yaml"))
        if path.name != FIXTURES
        for document in read_yaml(path)
        for body in _listed(f"cases/{path.name}", document)
        for case in _repeated(Case(f"cases/{path.name}", body), fixtures)
    ]
    seen: set[str] = set()
    for case in cases:
        odd = set(case.body) - _KEYS
        odd |= {key for card in case.body.get("expect", ()) for key in set(card) - _CARD_KEYS}
        if odd or "expect" not in case.body or case.body.get("hook") not in HOOKS:
            reason = f"unknown key {sorted(odd)[0]}" if odd else "needs a hook and expect"
            raise ContentError(case.file, case.id, reason)
        if case.id in seen:
            raise ContentError(case.file, case.id, "the id is used twice")
        seen.add(case.id)
    return cases, fixtures


def _fixtures(path: Path) -> dict[str, Any]:
    """Name → resource; raises ContentError for anything else."""
    fixtures: dict[str, Any] = {}
    for document in read_yaml(path) if path.exists() else ():
        if not isinstance(document, dict):
            raise ContentError(f"cases/{FIXTURES}", "", "expected a mapping of names to resources")
        fixtures.update(document)
    for name, resource in fixtures.items():
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            raise ContentError(f"cases/{FIXTURES}", str(name), "a resource with a resourceType is expected")
    return fixtures


def _listed(file: str, document: Any) -> list[dict[str, Any]]:
    """The cases of a file; raises ContentError for the first that has not the shape of one."""
    if not isinstance(document, list):
        raise ContentError(file, "", "expected a list of cases")
    for number, body in enumerate(document, 1):
        where = str(body["id"]) if isinstance(body, dict) and body.get("id") else f"case {number}"
        try:
            shape = _Shape.model_validate(body)
            for card in shape.expect:
                for pattern in (*as_list(card.summary), *as_list(card.detail)):
                    re.compile(pattern)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in first["loc"])
            raise ContentError(file, where, f"{place}: {first['msg']}".removeprefix(": ")) from None
        except re.error as error:
            raise ContentError(file, where, f"{error.pattern!r} is no regular expression: {error.msg}") from None
        for item in (*shape.chart, *shape.orders):
            if isinstance(item, dict) and not isinstance(item.get("with", {}), dict):
                raise ContentError(file, where, "with: a mapping of elements is expected")
            if isinstance(item, dict) and "use" not in item and not isinstance(item.get("resourceType"), str):
                raise ContentError(file, where, "a resource that is written out needs a resourceType")
    return document


def _repeated(case: Case, fixtures: Mapping[str, Any]) -> Iterator[Case]:
    """The case, or one for each entry of its `each`."""
    each = case.body.get("each")
    if each is None:
        yield case
        return
    if not isinstance(each, dict) or frozenset(each) not in _EACH_KEYS:
        raise ContentError(case.file, case.id, "each has in, and either codes or values")
    name, _, path = each["in"].partition(".")
    for number, entry in enumerate(each["codes"] if "codes" in each else each["values"]):
        label = entry if "codes" in each else number + 1
        body = {key: value for key, value in case.body.items() if key != "each"}
        for key in ("chart", "orders"):
            body[key] = [_placed(case, item, name, path.split("."), entry, "codes" in each, fixtures)
                         for item in body.get(key, ())]  # fmt: skip
        if body["chart"] == case.body.get("chart", []) and body["orders"] == case.body.get("orders", []):
            raise ContentError(case.file, case.id, f"each: nothing is called {name}")
        yield Case(case.file, {**body, "id": f"{case.id}[{label}]"})


def _placed(
    case: Case, item: Any, name: str, path: Sequence[str], entry: Any, coded: bool, fixtures: Mapping[str, Any]
) -> Any:
    """The item as it is, or, if it is the one that is named, with the entry in its place."""
    if name != (item if isinstance(item, str) else item.get("use", item.get("id"))):
        return item
    resource = {"id": PATIENT if name in fixtures and fixtures[name]["resourceType"] == "Patient" else name,
                **_built(case, item, fixtures)}  # fmt: skip
    node: Any = resource
    for step in path[:-1]:
        node = node[int(step) if isinstance(node, list) else step]
    node[path[-1]] = _shaped(entry, node.get(path[-1])) if coded else copy.deepcopy(entry)
    return resource


def _shaped(token: str, like: Any) -> Any:
    """The code of `system|code` as a Coding, a CodeableConcept, or a list with one, like what stands there now."""
    if isinstance(like, list):
        return [_shaped(token, like[0] if like else None)]
    system, _, code = token.rpartition("|")
    coding = {"system": system, "code": code}
    return coding if isinstance(like, dict) and "code" in like else {"coding": [coding]}


def run_cases(loaded: Loaded, now: datetime) -> list[Result]:
    """Play all cases of a plan at the moment `now`; of a site's layer only the additional codes take part."""
    cases, fixtures = read_cases(loaded.package.folder / "cases")
    shipped = with_codes_only(loaded)
    return [run_case(shipped, case, fixtures, now) for case in cases]


def run_site_cases(loaded: Loaded, now: datetime) -> list[Result]:
    """Play the site's own cases, which may use the plan's fixtures, with all that the site changes."""
    if loaded.site is None:
        return []
    _, fixtures = read_cases(loaded.package.folder / "cases")
    cases, own = read_cases(loaded.site.folder / "cases")
    return [run_case(loaded, case, {**fixtures, **own}, now) for case in cases]


def run_case(loaded: Loaded, case: Case, fixtures: Mapping[str, Any], now: datetime) -> Result:
    """Play one case as an EHR with prefetch would."""
    result = Result(case)
    body = case.body
    known = {rule.id for rule in loaded.plan.rules}
    result.problems += [f"about: no rule {name}" for name in case.about if name not in known]
    keys = {query.key for query in loaded.plan.retrieval.queries}
    result.problems += [f"unavailable: no prefetch key {key}" for key in body.get("unavailable", ()) if key not in keys]
    try:
        plan = with_parameters(loaded.plan, body.get("parameters", {}))
    except ContentError as error:
        result.problems.append(f"parameters: {error.element}: {error.reason}")
        return result
    result.problems += [f"overridden: no rule {name}" for name in body.get("overridden", ()) if name not in known]
    memory = recalled(case, plan.id, now)
    service = CdsService([dataclasses.replace(loaded, plan=plan)], clock=lambda: now, memory=memory)
    service_id = f"{plan.id}-{body['hook']}"
    hook = service.hook_of(service_id)
    if hook is None:
        result.problems.append(f"the plan has no rule on {body['hook']}")
        return result
    try:
        request = parse_request(request_of(loaded, case, fixtures, now), hook)
        answer = service.call(service_id, request).payload
        trace = service.explain(service_id, request)
    except CdsHooksError as error:
        result.problems.append(str(error))
        return result
    result.spoken = [rule["id"] for rule in trace["rules"] if rule["outcome"] == "card"]
    result.unknown = [rule["id"] for rule in trace["rules"] if rule["outcome"] == "unknown"]
    result.problems += list(differences(body["expect"], answer["cards"]))
    result.problems += [f"{name} should be unknown" for name in body.get("unknown", ()) if name not in result.unknown]
    troubles = {kind: count for kind, count in trace["problems"].items() if kind in ("expression", "card")}
    if troubles:
        result.problems.append(f"swallowed problems: {troubles}")
    result.problems += [f"{rule['id']}: {rule['outcome']}" for rule in trace["rules"]
                        if "cannot be built" in rule["outcome"]]  # fmt: skip
    return result


def request_of(loaded: Loaded, case: Case, fixtures: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The hook request of a case as an EHR would send it, with the whole prefetch."""
    body = case.body
    chart = [_resource(case, item, fixtures, now) for item in body.get("chart", ())]
    orders = [_resource(case, item, fixtures, now) for item in body.get("orders", ())]
    context: dict[str, Any] = {"userId": body.get("user", "Practitioner/example"), "patientId": PATIENT}
    if "encounter" in body:
        context["encounterId"] = body["encounter"]
    fields = {row.name: row.fills for row in HOOKS[body["hook"]].fields}
    if "draftOrders" in fields:
        context["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": order} for order in orders]}
    if "selections" in fields:
        named = body.get("selected", [order["id"] for order in orders])
        context["selections"] = [f"{order['resourceType']}/{order['id']}" for order in orders if order["id"] in named]
    return {"hook": body["hook"], "hookInstance": str(uuid.UUID(int=0)), "context": context,
            "prefetch": dict(_prefetch(loaded, chart, body))}  # fmt: skip


def _prefetch(loaded: Loaded, chart: Sequence[dict[str, Any]], body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
    for query in loaded.plan.retrieval.queries:
        found = [resource for resource in chart if resource["resourceType"] == query.type and _asked(query, resource)]
        if query.key in body.get("unavailable", ()):
            yield query.key, outcome
        elif query.reads:
            yield query.key, found[0] if found else None
        else:
            entries = [{"resource": resource} for resource in found]
            yield query.key, {"resourceType": "Bundle", "type": "searchset", "entry": entries}


def _asked(query: Query, resource: Mapping[str, Any]) -> bool:
    """Whether the EHR would find the resource by the query's codes; an element that it lacks is not held against it."""
    return all(
        name not in resource or any(f"{system}|{code}" in wanted for one in as_list(resource[name])
                                    for system, code in codings(one))
        for name, wanted in query.tokens
    )  # fmt: skip


def _built(case: Case, item: Any, fixtures: Mapping[str, Any]) -> dict[str, Any]:
    """The resource of a fixture's name, `{use: …, with: …}`, or what is written out; dates still relative."""
    name = item if isinstance(item, str) else item.get("use")
    if name is not None and name not in fixtures:
        raise ContentError(case.file, case.id, f"there is no fixture {name}")
    resource = copy.deepcopy(fixtures[name]) if name is not None else copy.deepcopy(item)
    if isinstance(item, dict) and "use" in item:
        resource.update(copy.deepcopy(item.get("with", {})))
    return {key: value for key, value in resource.items() if value is not None}


def _resource(case: Case, item: Any, fixtures: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    name = item if isinstance(item, str) else item.get("use")
    resource = _built(case, item, fixtures)
    kind = resource["resourceType"]
    resource.setdefault("id", PATIENT if kind == "Patient" else name)
    subject = "patient" if kind in ("AllergyIntolerance", "Device") else "subject"
    if kind != "Patient":
        resource.setdefault(subject, {"reference": f"Patient/{PATIENT}"})
    dated: dict[str, Any] = _dated(resource, now)
    return dated


def _dated(value: Any, now: datetime) -> Any:
    if isinstance(value, dict):
        return {key: _dated(item, now) for key, item in value.items()}
    if isinstance(value, list):
        return [_dated(item, now) for item in value]
    match = _RELATIVE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    sign, amounts, timed = match.groups()
    moment = now
    for number, unit in re.findall(r"(\d+)(y|mo|w|d|h|min)", amounts or ""):
        moment = shifted(moment, int(number) * (-1 if sign == "-" else 1), {"y": "a", "w": "wk"}.get(unit, unit))
        timed = timed or unit in ("h", "min")
    return moment.isoformat(timespec="seconds") if timed else moment.date().isoformat()


def differences(wanted: Sequence[Mapping[str, Any]], cards: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every way in which the cards are not as a case expects them."""
    topics = [card["source"]["topic"]["code"] for card in cards]
    if topics != [card["topic"] for card in wanted]:
        yield f"cards {topics or 'none'}, expected {[card['topic'] for card in wanted] or 'none'}"
        return
    for want, card in zip(wanted, cards, strict=True):
        name = want["topic"]
        if card["indicator"] != want.get("indicator", card["indicator"]):
            yield f"{name}: indicator {card['indicator']}"
        for key in ("summary", "detail"):
            for pattern in as_list(want.get(key)):
                if not re.search(pattern, card.get(key, "")):
                    yield f"{name}: {key} does not match {pattern!r}"
        if "suggestions" in want:
            offered = [item["actions"] for item in card.get("suggestions", ())]
            if not _same_suggestions(want["suggestions"], offered):
                shown = [[_action(action) for action in actions] for actions in offered]
                yield f"{name}: suggestions {shown}, expected {want['suggestions']}"


        yield from _miswritten(name, want, card.get("suggestions", ()))


def _miswritten(name: str, want: Mapping[str, Any], suggestions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    written = [action.get("resource") for item in suggestions for action in item["actions"]]
    for part in want.get("writes", ()):
        if not any(_holds(resource, part) for resource in written):
            yield f"{name}: no action writes {part}"
    for part in want.get("omits", ()):
        if any(_holds(resource, part) for resource in written):
            yield f"{name}: an action writes {part}"
    ticked = [item["label"] for item in suggestions if item.get("isRecommended")]
    if ticked != want.get("recommended", ticked):
        yield f"{name}: recommended are {ticked}, expected {want['recommended']}"


def _holds(value: Any, part: Any) -> bool:
    """Whether `part` is found in the value; lists in any order, strings as patterns."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(_holds(value.get(key), wanted) for key, wanted in part.items())
    if isinstance(part, list):
        return isinstance(value, list) and all(any(_holds(one, wanted) for one in value) for wanted in part)
    return re.search(part, value) is not None if isinstance(part, str) and isinstance(value, str) else value == part


def _same_suggestions(wanted: Sequence[Sequence[str]], offered: Sequence[Sequence[Mapping[str, Any]]]) -> bool:
    return len(wanted) == len(offered) and all(
        len(shorts) == len(actions) and all(map(_same_action, shorts, actions))
        for shorts, actions in zip(wanted, offered, strict=True)
    )


def _action(action: Mapping[str, Any]) -> str:
    """An action in short: `create CODE`, `update ID CODE`, `delete Type/ID`."""
    if action["type"] == "delete":
        return f"delete {action['resourceId']}"
    resource = action["resource"]
    codes = [code for _, code in codings(resource.get("code", {}))]
    name = "" if action["type"] == "create" else f" {resource['id']}"
    return f"{action['type']}{name} {'+'.join(codes)}".strip()


def _same_action(short: str, action: Mapping[str, Any]) -> bool:
    """Whether an expected action is this one; `… for CODE+CODE` also names the codes of its reasons."""
    what, _, reasons = short.partition(" for ")
    given = [code for concept in as_list(action.get("resource", {}).get("reasonCode")) for _, code in codings(concept)]
    return what == _action(action) and (not reasons or reasons == "+".join(given))
