"""FHIRPath with a third truth value: known true, known false, unknown.

fhirpathpy parses and evaluates; this layer owns what must know whether data are *known*: `and`, `or`, `xor`,
`implies`, `not()`, `iif()`, `exists()`, `empty()`, `where()`, `all()`, `intersect()`, `|` and plain steps from a named
input. They combine verdicts after Kleene, so that a missing input makes an expression unknown only when it could
change the result. Everything below them is a leaf that fhirpathpy evaluates as it is.

An expression is parsed strictly to its end at start: fhirpathpy alone would accept `active = true garbage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from antlr4 import CommonTokenStream, InputStream
from antlr4.error.ErrorListener import ErrorListener
from fhirpathpy.engine import do_eval
from fhirpathpy.models import models
from fhirpathpy.parser import parse as parse_loosely
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

from cds_hooks.reasoning.functions import FUNCTIONS, Unknowable, raw

Verdict = bool | None  # True, False, cannot tell
Node = dict[str, Any]  # a node of fhirpathpy's syntax tree
R4: Final = models["r4"]


class ExpressionError(Exception):
    """An expression cannot be parsed or uses what is not supported. Carries the reason."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A FHIRPath collection that knows whether it is whole.

    `items` are certain members; `complete` is False when there may be more that could not be had or decided.
    """

    items: list[Any]
    complete: bool = True


NOTHING: Final = Collection([])
UNKNOWN: Final = Collection([], complete=False)
_TRUTH: Final[dict[Verdict, Collection]] = {True: Collection([True]), False: Collection([False]), None: UNKNOWN}


class Environment(Protocol):
    """What an expression sees: constants, named values, and the functions' call context."""

    constants: Mapping[str, Any]

    def value(self, name: str) -> Collection:
        """A named input or fact."""

    def trouble(self, kind: str) -> None:
        """Count a problem that was swallowed."""


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
    """A named input or fact: `%hfsLive`."""

    name: str

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return env.value(self.name)


@dataclass(frozen=True, slots=True)
class Leaf(_Items):
    """A piece that fhirpathpy evaluates on the current item; unknown when a name it reads is not whole."""

    node: Node
    names: tuple[str, ...]

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        return _evaluate(env, this, this, self.node, self.names)


@dataclass(frozen=True, slots=True)
class Step(_Items):
    """A step (`.code`, `.first()`) from another expression; plain elements may be read of what is incomplete."""

    source: Expression
    node: Node
    names: tuple[str, ...]
    plain: bool

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        found = self.source.collect(env, this)
        if not found.complete and not self.plain:
            return UNKNOWN
        result = _evaluate(env, found.items, this, self.node, self.names)
        return result if found.complete or not result.complete else Collection(result.items, complete=False)


@dataclass(frozen=True, slots=True)
class Where(_Items):
    """Items for which the criterion is known true; one for which it is unknown leaves the result incomplete."""

    source: Expression
    criterion: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        found = self.source.collect(env, this)
        items, complete = [], found.complete
        for item in found.items:
            verdict = self.criterion.judge(env, [item])
            if verdict:
                items.append(item)
            elif verdict is None:
                complete = False
        return found if len(items) == len(found.items) else Collection(items, complete)


@dataclass(frozen=True, slots=True)
class Union(_Items):
    """`a | b` without duplicates; resources are the same only if they are the same object."""

    left: Expression
    right: Expression

    def collect(self, env: Environment, this: list[Any]) -> Collection:
        one, two = self.left.collect(env, this), self.right.collect(env, this)
        items = list(one.items)
        for item in two.items:
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
    if isinstance(data, dict):
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


# ---- parsing and compiling


class _Strict(ErrorListener):  # type: ignore[misc]
    def syntaxError(self, recognizer: Any, symbol: Any, line: int, column: int, msg: str, e: Any) -> None:
        raise ExpressionError(f"syntax error at line {line}, column {column + 1}: {msg}")


def parse(text: str) -> Node:
    """The syntax tree of an expression, read to its very end; raises ExpressionError."""
    listener = _Strict()
    lexer = FHIRPathLexer(InputStream(text))
    parser = FHIRPathParser(CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(listener)
    parser.entireExpression()
    tree: Node = parse_loosely(text)
    root: Node = tree["children"][0]
    return root


def children(node: Node) -> list[Node]:
    """The child nodes."""
    found: list[Node] = node.get("children", [])
    return found


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def constant_name(node: Node) -> str:
    """The name of an ExternalConstant: `%hfs` and %`vs-hfs` without sign and quotes."""
    text: str = children(node)[0]["text"]
    return text.strip("`\"'")


def names_in(node: Node) -> tuple[str, ...]:
    """All %names in an expression, in order, once each."""
    return tuple(dict.fromkeys(constant_name(part) for part in walk(node) if part["type"] == "ExternalConstant"))


def function_of(node: Node) -> tuple[str, list[Node]] | None:
    """(name, arguments) when the node is a function call, else None."""
    if node["type"] != "FunctionInvocation":
        return None
    name, *parameters = children(children(node)[0])
    return name["text"], children(parameters[0]) if parameters else []


_BINARY: Final[dict[str, Callable[[Expression, Expression], Expression]]] = {
    "and": And, "or": Or, "xor": Xor, "implies": lambda left, right: Or(Not(left), right), "|": Union,
}  # fmt: skip


class Compiler:
    """Turns syntax trees into expressions. `known` are the names that may be incomplete (inputs and facts)."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known

    def compile(self, text: str) -> Expression:
        """Compile an expression; raises ExpressionError."""
        return self._node(parse(text))

    def _names(self, node: Node) -> tuple[str, ...]:
        return tuple(name for name in names_in(node) if name in self._known)

    def _node(self, node: Node) -> Expression:
        kind, parts = node["type"], children(node)
        if kind in ("AndExpression", "OrExpression", "ImpliesExpression", "UnionExpression"):
            return _BINARY[node["terminalNodeText"][0]](self._node(parts[0]), self._node(parts[1]))
        if kind == "TermExpression":
            return self._term(node, parts[0])
        if kind == "InvocationExpression":
            return self._invocation(node, parts)
        return Leaf(node, self._names(node))

    def _term(self, node: Node, term: Node) -> Expression:
        inner = children(term)[0] if children(term) else None
        if inner is not None and term["type"] == "ParenthesizedTerm":
            return self._node(inner)
        if inner is not None and term["type"] == "ExternalConstantTerm" and constant_name(inner) in self._known:
            return Name(constant_name(inner))
        if inner is not None and inner["type"] == "BooleanLiteral":
            return Constant(inner["text"] == "true")
        if inner is not None and term["type"] == "InvocationTerm" and (call := function_of(inner)):
            name, arguments = call
            if name == "iif" and len(arguments) in (2, 3):
                branches = [self._node(argument) for argument in arguments]
                return Iif(branches[0], branches[1], branches[2] if len(branches) == 3 else None)
        return Leaf(node, self._names(node))

    def _invocation(self, node: Node, parts: list[Node]) -> Expression:
        call = function_of(parts[1])
        if call and call[0] == "not" and not call[1]:
            return Not(self._node(parts[0]))
        if not self._names(node):
            return Leaf(node, ())  # nothing in it can be incomplete: fhirpathpy's own meaning holds
        source = self._node(parts[0])
        if call is None:
            return Step(source, parts[1], (), plain=True)
        name, arguments = call
        if name in ("where", "exists", "all") and len(arguments) == 1:
            criterion = self._node(arguments[0])
            if name == "all":
                return Not(Exists(Where(source, Not(criterion))))
            chosen = Where(source, criterion)
            return chosen if name == "where" else Exists(chosen)
        if name == "intersect" and len(arguments) == 1:
            return Intersect(source, self._node(arguments[0]))
        if name in ("exists", "empty") and not arguments:
            return Exists(source) if name == "exists" else Not(Exists(source))
        return Step(source, parts[1], self._names(parts[1]), plain=False)
