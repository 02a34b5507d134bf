"""The nodes of a compiled expression: FHIRPath with a third truth value, known true, known false, unknown.

Nodes that combine verdicts do so after Kleene, so that a missing input makes an expression unknown only when it could
change the result. A `Leaf` is a piece that fhirpathpy evaluates as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fhirpathpy.engine import do_eval

from cds_hooks.reasoning.elements import R4, typed
from cds_hooks.reasoning.functions import FUNCTIONS, Unknowable, raw
from cds_hooks.reasoning.terminology import ValueSet

Verdict = bool | None  # True, False, cannot tell
Node = dict[str, Any]  # a node of fhirpathpy's syntax tree


@dataclass(slots=True)
class Collection:
    """A FHIRPath collection that knows whether it is whole. Nobody changes one: not frozen only since that is slow.

    `items` are certain members; `complete` is False when there may be more. `maybe` are those of which it could not be
    decided, if that is all that is open; None if it may be anything, because data could not be had.
    """

    items: list[Any]
    complete: bool = True
    maybe: list[Any] | None = None


NOTHING: Final = Collection([])
UNKNOWN: Final = Collection([], complete=False)
_YES: Final = Collection([True])
_NO: Final = Collection([False])


def _with(items: list[Any], maybe: list[Any]) -> Collection:
    return Collection(items, complete=False, maybe=maybe) if maybe else Collection(items)


_TRUTH: Final[dict[Verdict, Collection]] = {True: _YES, False: _NO, None: UNKNOWN}


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

    def watch_time(self) -> None:
        """Raise Rejected once the call has no time left; asked wherever a single step is slow."""

    #: The resource that the current item is part of: where a reference like `#id` points.
    container: Any


# ---- the nodes of a compiled expression


class Expression(Protocol):
    """A compiled expression: gives a collection, or a verdict."""

    def collect(self, env: Environment, this: list[Any]) -> Collection: ...

    def judge(self, env: Environment, this: list[Any]) -> Verdict: ...


def verdict_of(found: Collection) -> Verdict:
    """FHIRPath's singleton evaluation: a boolean is itself, one other item is true, nothing is unknown."""
    if found is _YES or found is _NO:  # most are
        return found is _YES
    if not found.complete or len(found.items) != 1:
        return None
    item = raw(found.items[0])
    return item if isinstance(item, bool) else True


class Items:
    """Base of nodes that give a collection; the verdict follows from it."""

    __slots__ = ()

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        raise NotImplementedError

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        return verdict_of(self.collect(env, this))


class Truth:
    """Base of nodes that give a verdict; the collection follows from it."""

    __slots__ = ()

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        raise NotImplementedError

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return _TRUTH[self.judge(env, this)]


@dataclass(frozen=True, slots=True)
class Name(Items):
    """A named input or fact: `%fact`."""

    name: str

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return env.value(self.name)

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        return verdict_of(env.value(self.name))


@dataclass(frozen=True, slots=True)
class Some(Truth):
    """`%fact.exists()`, the commonest of all: Exists over a Name in one step."""

    name: str

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        found = env.value(self.name)
        return True if found.items else (False if found.complete else None)


@dataclass(frozen=True, slots=True)
class This(Items):
    """The current item."""

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return Collection(this)


@dataclass(frozen=True, slots=True)
class Leaf(Items):
    """A piece that fhirpathpy evaluates on the current item; unknown when a name it reads is not whole."""

    node: Node
    names: tuple[str, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return _evaluate(env, this, this, self.node, self.names)


@dataclass(frozen=True, slots=True)
class Binary(Items):
    """An operator between two expressions of which one chooses among items: unknown unless both are whole.

    A leaf would not do: in fhirpathpy an item for which the choice is undecided is just left out. `node` is the
    operator between `%left` and `%right`.
    """

    left: Expression
    right: Expression
    node: Node

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        one, two = self.left.collect(env, this), self.right.collect(env, this)
        if not one.complete or not two.complete:
            return UNKNOWN
        return _evaluate(env, this, this, self.node, (), {"left": one.items, "right": two.items})


@dataclass(frozen=True, slots=True)
class Own(Items):
    """A call of one of our own functions (functions.py), without the detour through fhirpathpy."""

    source: Expression
    name: str
    arguments: tuple[Expression, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        found = self.source.collect(env, this)
        if not found.complete:
            return UNKNOWN
        if not found.items:
            return found
        values = [argument.collect(env, this) for argument in self.arguments]
        if not all(value.complete for value in values):
            return UNKNOWN
        texts = FUNCTIONS[self.name]["arity"][len(values)] == ["String"]
        env.watch_time()
        given = [raw(value.items[0]) if texts and value.items else value.items for value in values]
        try:
            return Collection(FUNCTIONS[self.name]["fn"]({"call": env, "dataRoot": this}, found.items, *given))
        except Unknowable:
            return UNKNOWN
        except Exception:  # an argument or item of unexpected shape
            env.trouble("expression")
            return UNKNOWN


@dataclass(frozen=True, slots=True)
class Given(Items):
    """A constant of the call or the plan: `%hook`, `%imagingLookback`."""

    name: str

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        value = env.constants[self.name]
        return Collection(value if isinstance(value, list) else [value])


@dataclass(frozen=True, slots=True)
class Literal(Items):
    """A string, or the empty collection `{}`."""

    value: Collection

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return self.value


@dataclass(frozen=True, slots=True)
class Step(Items):
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
        if not found.items and not found.maybe and self.empties:
            return found
        result = self._of(env, found.items, this)
        if found.complete or not result.complete:
            return result
        if found.maybe is None:
            return Collection(result.items, complete=False)
        perhaps = self._of(env, found.maybe, this)
        return _with(result.items, perhaps.items) if perhaps.complete else Collection(result.items, complete=False)

    def _of(self, env: Environment, items: list[Any], this: list[Any]) -> Collection:
        if self.element:
            return Collection([node for item in items for node in typed(item, self.element)])
        return _evaluate(env, items, this, self.node, self.names)


@dataclass(frozen=True, slots=True)
class Where(Items):
    """Items for which the criterion is known true; one for which it is unknown may be a member.

    An item that may be a member of the source is one of the result only as long as the criterion is not known false.
    So a question about some of the items is not left open by what cannot be decided about others.
    """

    source: Expression
    criterion: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        found = self.source.collect(env, this)
        if not found.items and not found.maybe:
            return found
        items: list[Any] = []
        maybe: list[Any] = []
        certain, outer = len(found.items), env.container
        for number, item in enumerate([*found.items, *found.maybe] if found.maybe else found.items):
            data = raw(item)
            env.container = data if isinstance(data, dict) and "resourceType" in data else outer
            verdict = self.criterion.judge(env, [item])
            if verdict and number < certain:
                items.append(item)
            elif verdict is not False:
                maybe.append(item)
        env.container = outer
        if found.complete:
            return found if len(items) == certain else _with(items, maybe)
        return Collection(items, complete=False) if found.maybe is None else _with(items, maybe)


@dataclass(frozen=True, slots=True)
class Union(Items):
    """`a | b` without duplicates; resources are the same only if they are the same object."""

    left: Expression
    right: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        one, two = self.left.collect(env, this), self.right.collect(env, this)
        if one.complete and two.complete and len(one.items) + len(two.items) < 2:
            return one if one.items else two
        members = _Members()
        items = [item for item in (*one.items, *two.items) if members.add(raw(item))]
        if one.complete and two.complete:
            return Collection(items)
        if _anything(one) or _anything(two):
            return Collection(items, complete=False)
        return _with(items, [item for item in (*(one.maybe or ()), *(two.maybe or ())) if members.add(raw(item))])


@dataclass(frozen=True, slots=True)
class Intersect(Items):
    """`a.intersect(b)`: the items of a that are in b; resources are the same only if they are the same object."""

    left: Expression
    right: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        one, two = self.left.collect(env, this), self.right.collect(env, this)
        certain, possible = _Members(), _Members()
        for item in two.items:
            certain.add(raw(item))
        items = [item for item in one.items if raw(item) in certain]
        if _anything(one) or _anything(two):
            return Collection(items, complete=False)
        for item in two.maybe or ():
            possible.add(raw(item))
        maybe = [item for item in one.items if raw(item) in possible and raw(item) not in certain]
        maybe += [item for item in one.maybe or () if raw(item) in certain or raw(item) in possible]
        return _with(items, maybe)


def _anything(found: Collection) -> bool:
    """Whether more may belong to it than what is known."""
    return not found.complete and found.maybe is None


class _Members:
    """What a collection holds: resources by identity, in one step however many there are; all else by equality."""

    __slots__ = ("_resources", "_values")

    def __init__(self) -> None:
        self._resources: set[int] = set()  # ids of objects that the collections keep alive
        self._values: list[Any] = []

    def __contains__(self, data: Any) -> bool:
        if isinstance(data, dict) and "resourceType" in data:
            return id(data) in self._resources
        return data in self._values

    def add(self, data: Any) -> bool:
        """Add a value; tell whether it is new."""
        if data in self:
            return False
        if isinstance(data, dict) and "resourceType" in data:
            self._resources.add(id(data))
        else:
            self._values.append(data)
        return True


@dataclass(frozen=True, slots=True)
class Exists(Truth):
    """True as soon as one item is certain; unknown if there is none but there may be."""

    source: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        found = self.source.collect(env, this)
        return True if found.items else (False if found.complete else None)


@dataclass(frozen=True, slots=True)
class Not(Truth):
    operand: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        verdict = self.operand.judge(env, this)
        return None if verdict is None else not verdict


@dataclass(frozen=True, slots=True)
class And(Truth):
    left: Expression
    right: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one = self.left.judge(env, this)
        if one is False:
            return False
        two = self.right.judge(env, this)
        return False if two is False else (None if one is None else two)


@dataclass(frozen=True, slots=True)
class Or(Truth):
    left: Expression
    right: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one = self.left.judge(env, this)
        if one is True:
            return True
        two = self.right.judge(env, this)
        return True if two is True else (None if one is None else two)


@dataclass(frozen=True, slots=True)
class Xor(Truth):
    left: Expression
    right: Expression

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        one, two = self.left.judge(env, this), self.right.judge(env, this)
        return None if one is None or two is None else one is not two


@dataclass(frozen=True, slots=True)
class Iif(Items):
    """`iif(criterion, a, b)`: b also when the criterion is unknown, as FHIRPath has it for an empty one."""

    criterion: Expression
    then: Expression
    otherwise: Expression | None

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        chosen = self.then if self.criterion.judge(env, this) else self.otherwise
        return chosen.collect(env, this) if chosen else NOTHING


@dataclass(frozen=True, slots=True)
class Constant(Truth):
    truth: bool

    def judge(self, env: Environment, this: list[Any]) -> Verdict:
        return self.truth


def _evaluate(
    env: Environment, data: list[Any], this: list[Any], node: Node, names: tuple[str, ...],
    given: Mapping[str, Any] | None = None,
) -> Collection:  # fmt: skip
    """Let fhirpathpy evaluate a node on `data`. Odd data make it unknown, and are counted, never an error."""
    env.watch_time()
    variables = env.constants if given is None else given
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
