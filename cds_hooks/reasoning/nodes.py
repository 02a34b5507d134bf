"""The nodes of a compiled expression: FHIRPath with a third truth value, known true, known false, unknown.

Nodes that combine verdicts do so after Kleene, so that a missing input makes an expression unknown only when it could
change the result. A `Leaf` is a piece that fhirpathpy evaluates as it is. The plain nodes (`Member`, `Present`,
`Same`, `OneOf`) answer the commonest questions about an element without it, for speed; they mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fhirpathpy.engine import do_eval
from fhirpathpy.engine.nodes import ResourceNode
from fhirpathpy.models import models

from cds_hooks.reasoning.functions import FUNCTIONS, Unknowable, raw
from cds_hooks.reasoning.terminology import ValueSet

_CODED: Final = ("CodeableConcept", "Coding", "Code", "String")
Verdict = bool | None  # True, False, cannot tell
Node = dict[str, Any]  # a node of fhirpathpy's syntax tree
R4: Final = models["r4"]
_CHOICES: Final[Mapping[str, list[str]]] = R4["choiceTypePaths"]
_ELSEWHERE: Final[Mapping[str, str]] = R4["pathsDefinedElsewhere"]
_TYPES: Final[Mapping[str, str]] = R4["path2Type"]


@dataclass(slots=True)
class Collection:
    """A FHIRPath collection that knows whether it is whole. Nobody changes one: not frozen only since that is slow.

    `items` are certain members; `complete` is False when there may be more that could not be had or decided.
    """

    items: list[Any]
    complete: bool = True


NOTHING: Final = Collection([])
UNKNOWN: Final = Collection([], complete=False)
_TRUTH: Final[dict[Verdict, Collection]] = {True: Collection([True]), False: Collection([False]), None: UNKNOWN}


class Environment(Protocol):
    """What an expression sees: constants, named values, and the functions' call context."""

    @property
    def constants(self) -> Mapping[str, Any]:
        """Parameters, value set URLs, and what the call says of itself."""

    def contains(self, value_set: ValueSet, value: Any) -> bool:
        """What `memberOf` asks: whether a concept or string is in the set."""

    def value(self, name: str) -> Collection:
        """A named input or fact."""

    def trouble(self, kind: str) -> None:
        """Count a problem that was swallowed."""

    #: The resource that the current item is part of: where a reference like `#id` points.
    container: Any


# ---- the nodes of a compiled expression


class Expression(Protocol):
    """A compiled expression: gives a collection, or a verdict."""

    def collect(self, env: Environment, this: list[Any]) -> Collection: ...

    def judge(self, env: Environment, this: list[Any]) -> Verdict: ...


def verdict_of(found: Collection) -> Verdict:
    """FHIRPath's singleton evaluation: a boolean is itself, one other item is true, nothing is unknown."""
    if not found.complete or len(found.items) != 1:
        return None
    item = raw(found.items[0])
    return item if isinstance(item, bool) else True


class _Items:
    """Base of nodes that give a collection; the verdict follows from it."""

    __slots__ = ()

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        raise NotImplementedError

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        return verdict_of(self.collect(env, this))


class _Truth:
    """Base of nodes that give a verdict; the collection follows from it."""

    __slots__ = ()

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        raise NotImplementedError

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return _TRUTH[self.judge(env, this)]


@dataclass(frozen=True, slots=True)
class Name(_Items):
    """A named input or fact: `%fact`."""

    name: str

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return env.value(self.name)


@dataclass(frozen=True, slots=True)
class This(_Items):
    """The current item."""

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return Collection(this)


@dataclass(frozen=True, slots=True)
class Leaf(_Items):
    """A piece that fhirpathpy evaluates on the current item; unknown when a name it reads is not whole."""

    node: Node
    names: tuple[str, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return _evaluate(env, this, this, self.node, self.names)


@dataclass(frozen=True, slots=True)
class Member(_Truth):
    """`code.memberOf(%`vs-x`)` on a plain path: the most frequent question, answered by set look-ups alone."""

    steps: tuple[str, ...]
    value_set: ValueSet

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        contains = env.contains
        return any(contains(self.value_set, value) for value in _values(this, self.steps, _CODED))


@dataclass(frozen=True, slots=True)
class Present(_Truth):
    """`a.b.exists()` on a plain path; `kinds` are the types of a choice element (`onset` → `onsetDateTime`)."""

    steps: tuple[str, ...]
    kinds: tuple[str, ...]

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        return bool(_values(this, self.steps, self.kinds))


@dataclass(frozen=True, slots=True)
class Same(_Truth):
    """`status = 'completed'`, `%hook != 'x'`: one string compared with another; nothing is unknown."""

    left: Expression
    right: Expression
    equal: bool

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one, two = _string(self.left.collect(env, this)), _string(self.right.collect(env, this))
        return None if one is None or two is None else (one == two) is self.equal


@dataclass(frozen=True, slots=True)
class OneOf(_Truth):
    """`status in ('draft' | 'active')`: a string among fixed ones; nothing is unknown."""

    left: Expression
    strings: frozenset[str]

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one = _string(self.left.collect(env, this))
        return None if one is None else one in self.strings


@dataclass(frozen=True, slots=True)
class Path(_Items):
    """A plain path from the current item; its values keep their R4 types."""

    steps: tuple[str, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        items = this
        for step in self.steps:
            items = [value for item in items for value in _typed(item, step)]
        return Collection(items)


@dataclass(frozen=True, slots=True)
class Own(_Items):
    """A call of one of our own functions (functions.py), without the detour through fhirpathpy."""

    source: Expression
    name: str
    arguments: tuple[Expression, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        found = self.source.collect(env, this)
        values = [argument.collect(env, this) for argument in self.arguments]
        if not found.complete or not all(value.complete for value in values):
            return UNKNOWN
        if not found.items:
            return found
        texts = FUNCTIONS[self.name]["arity"][len(values)] == ["String"]
        given = [raw(value.items[0]) if texts and value.items else value.items for value in values]
        try:
            return Collection(FUNCTIONS[self.name]["fn"]({"call": env, "dataRoot": this}, found.items, *given))
        except Unknowable:
            return UNKNOWN
        except Exception:  # an argument or item of unexpected shape
            env.trouble("expression")
            return UNKNOWN


@dataclass(frozen=True, slots=True)
class Text(_Items):
    """A plain path to strings, for comparison only."""

    steps: tuple[str, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return Collection(_values(this, self.steps, ()))


def _string(found: Collection) -> str | None:
    value = raw(found.items[0]) if found.complete and len(found.items) == 1 else None
    return value if isinstance(value, str) else None


def _values(this: list[Any], steps: tuple[str, ...], kinds: tuple[str, ...]) -> list[Any]:
    """The values of a plain path, as JSON."""
    values = [raw(item) for item in this]
    for step in steps:
        if len(values) == 1:
            values = _element(values[0], step, kinds) if isinstance(values[0], dict) else []
        else:
            values = [value for item in values if isinstance(item, dict) for value in _element(item, step, kinds)]
    return values


@dataclass(frozen=True, slots=True)
class Given(_Items):
    """A constant of the call or the plan: `%hook`, `%imagingLookback`."""

    name: str

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        value = env.constants[self.name]
        return Collection(value if isinstance(value, list) else [value])


@dataclass(frozen=True, slots=True)
class Literal(_Items):
    """A string, or the empty collection `{}`."""

    value: Collection

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return self.value


def _element(item: dict[str, Any], step: str, kinds: tuple[str, ...]) -> list[Any]:
    """An element's values as a list; `kinds` are the types to try for a choice element."""
    value = item.get(step)
    if value is None and kinds:
        value = next((item[step + kind] for kind in kinds if step + kind in item), None)
    if isinstance(value, list):
        return [one for one in value if one is not None]
    return [] if value is None else [value]


@dataclass(frozen=True, slots=True)
class Step(_Items):
    """A step (`.code`, `.first()`) from another expression; plain elements may be read of what is incomplete."""

    source: Expression
    node: Node
    names: tuple[str, ...]
    plain: bool
    empties: bool  # nothing in, nothing out
    element: str = ""  # an element that is no choice: read without fhirpathpy

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        found = self.source.collect(env, this)
        if not found.complete and not self.plain:
            return UNKNOWN
        if not found.items and self.empties:
            return found
        if self.element:
            return Collection([node for item in found.items for node in _typed(item, self.element)], found.complete)
        result = _evaluate(env, found.items, this, self.node, self.names)
        return result if found.complete or not result.complete else Collection(result.items, complete=False)


def _typed(item: Any, element: str) -> list[Any]:
    """The values of an element, each with its R4 type, as fhirpathpy would give them."""
    data = raw(item)
    if not isinstance(data, dict):
        return []
    owner = data.get("resourceType") or (item.path if isinstance(item, ResourceNode) else None)
    path = f"{owner}.{element}"
    path = _ELSEWHERE.get(path, path)
    kinds = _CHOICES.get(path)
    if kinds is None:
        value = data.get(element)
    else:  # `onset` stands in JSON as `onsetDateTime`
        chosen = next((kind for kind in kinds if data.get(element + kind) is not None), "")
        value = data.get(element + chosen) if chosen else None
        path += chosen
    if value is None:
        return []
    kind = _TYPES.get(path, path)
    if isinstance(value, list):
        return [ResourceNode.create_node(one, kind) for one in value if one is not None]
    return [ResourceNode.create_node(value, kind)]


@dataclass(frozen=True, slots=True)
class Where(_Items):
    """Items for which the criterion is known true; one for which it is unknown leaves the result incomplete."""

    source: Expression
    criterion: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        found = self.source.collect(env, this)
        items, complete = [], found.complete
        outer = env.container
        for item in found.items:
            data = raw(item)
            env.container = data if isinstance(data, dict) and "resourceType" in data else outer
            verdict = self.criterion.judge(env, [item])
            if verdict:
                items.append(item)
            elif verdict is None:
                complete = False
        env.container = outer
        return found if len(items) == len(found.items) else Collection(items, complete)


@dataclass(frozen=True, slots=True)
class Union(_Items):
    """`a | b` without duplicates; resources are the same only if they are the same object."""

    left: Expression
    right: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        one, two = self.left.collect(env, this), self.right.collect(env, this)
        if not one.items and not two.items and one.complete and two.complete:
            return NOTHING
        items: list[Any] = []
        for item in (*one.items, *two.items):
            if not _holds(items, raw(item)):
                items.append(item)
        return Collection(items, one.complete and two.complete)


@dataclass(frozen=True, slots=True)
class Intersect(_Items):
    """`a.intersect(b)`: the items of a that are in b; resources are the same only if they are the same object."""

    left: Expression
    right: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        one, two = self.left.collect(env, this), self.right.collect(env, this)
        return Collection([item for item in one.items if _holds(two.items, raw(item))], one.complete and two.complete)


def _holds(items: list[Any], data: Any) -> bool:
    if isinstance(data, dict) and "resourceType" in data:
        return any(raw(item) is data for item in items)
    return any(raw(item) == data for item in items)


@dataclass(frozen=True, slots=True)
class Exists(_Truth):
    """True as soon as one item is certain; unknown if there is none but there may be."""

    source: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        found = self.source.collect(env, this)
        return True if found.items else (False if found.complete else None)


@dataclass(frozen=True, slots=True)
class Not(_Truth):
    operand: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        verdict = self.operand.judge(env, this)
        return None if verdict is None else not verdict


@dataclass(frozen=True, slots=True)
class And(_Truth):
    left: Expression
    right: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one = self.left.judge(env, this)
        if one is False:
            return False
        two = self.right.judge(env, this)
        return False if two is False else (None if one is None else two)


@dataclass(frozen=True, slots=True)
class Or(_Truth):
    left: Expression
    right: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one = self.left.judge(env, this)
        if one is True:
            return True
        two = self.right.judge(env, this)
        return True if two is True else (None if one is None else two)


@dataclass(frozen=True, slots=True)
class Xor(_Truth):
    left: Expression
    right: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one, two = self.left.judge(env, this), self.right.judge(env, this)
        return None if one is None or two is None else one is not two


@dataclass(frozen=True, slots=True)
class Iif(_Items):
    """`iif(criterion, a, b)`: b also when the criterion is unknown, as FHIRPath has it for an empty one."""

    criterion: Expression
    then: Expression
    otherwise: Expression | None

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        chosen = self.then if self.criterion.judge(env, this) else self.otherwise
        return chosen.collect(env, this) if chosen else NOTHING


@dataclass(frozen=True, slots=True)
class Constant(_Truth):
    truth: bool

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        return self.truth


def _evaluate(env: Environment, data: list[Any], this: list[Any], node: Node, names: tuple[str, ...]) -> Collection:
    """Let fhirpathpy evaluate a node on `data`. Odd data make it unknown, and are counted, never an error."""
    variables = env.constants
    if names:
        known = {name: env.value(name) for name in names}
        if not all(collection.complete for collection in known.values()):
            return UNKNOWN
        variables = {**variables, **{name: collection.items for name, collection in known.items()}}
    ctx = {"dataRoot": this, "$this": this, "vars": variables, "model": R4, "userInvocationTable": FUNCTIONS,
           "call": env}  # fmt: skip
    try:
        return Collection(do_eval(ctx, data, node))
    except Unknowable:
        return UNKNOWN
    except Exception:  # fhirpathpy raises bare exceptions, of many kinds, on data of unexpected shape
        env.trouble("expression")
        return UNKNOWN
