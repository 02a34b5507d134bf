"""FHIRPath with a third truth value: known true, known false, unknown.

fhirpathpy parses and evaluates; this layer owns what must know whether data are *known*: `and`, `or`, `xor`,
`implies`, `not()`, `iif()`, `exists()`, `empty()`, `where()`, `all()`, `intersect()`, `|` and plain steps. They combine
verdicts after Kleene, so that a missing input makes an expression unknown only when it could change the result.
`memberOf()`, `matches()` with a fixed pattern, `&` and comparisons of strings are answered here too, for speed.
Everything else is a leaf that fhirpathpy evaluates as it is.

An expression is parsed strictly to its end at start: fhirpathpy alone would accept `active = true garbage`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from antlr4 import CommonTokenStream, InputStream
from antlr4.error.ErrorListener import ErrorListener
from fhirpathpy.engine import do_eval
from fhirpathpy.engine.nodes import TypeInfo
from fhirpathpy.parser import parse as parse_loosely
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

from cds_hooks.reasoning.elements import R4
from cds_hooks.reasoning.functions import FUNCTIONS
from cds_hooks.reasoning.nodes import (
    And,
    Binary,
    Collection,
    Constant,
    Exists,
    Expression,
    Given,
    Iif,
    Intersect,
    Leaf,
    Literal,
    Name,
    Node,
    Not,
    Or,
    Own,
    Some,
    Step,
    This,
    Union,
    Where,
    Xor,
)  # fmt: skip
from cds_hooks.reasoning.plain import Concat, Matches, Member, OfType, OneOf, Path, Present, Same, Text
from cds_hooks.reasoning.terminology import ValueSet


class ExpressionError(Exception):
    """An expression cannot be parsed or uses what is not supported. Carries the reason."""


# ---- parsing and compiling


class _Strict(ErrorListener):  # type: ignore[misc]
    def syntaxError(self, recognizer: Any, symbol: Any, line: int, column: int, msg: str, e: Any) -> None:
        raise ExpressionError(f"syntax error at line {line}, column {column + 1}: {msg}")


@lru_cache(maxsize=10_000)
def parse(text: str) -> Node:
    """The syntax tree of an expression, read to its very end; raises ExpressionError. Nobody may change the tree."""
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
    """The name of an ExternalConstant: `%fact` and %`vs-one` without sign and quotes."""
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


#: Functions that give nothing for nothing.
_EMPTY_OF_EMPTY: Final = frozenset({
    "after", "distinct", "done", "first", "last", "latest", "lower", "matches", "ofType", "resolve", "select", "tail",
    "translate", "where", "within",
})  # fmt: skip
_CHOOSING: Final = frozenset({"where", "exists", "all", "iif", "intersect", "ofType"})
#: Elements whose name in JSON depends on their type (`onset` → `onsetDateTime`), with the types.
_CHOICES: Final[frozenset[str]] = frozenset(path.rsplit(".", 1)[1] for path in R4["choiceTypePaths"])
#: Those of them that may be a string in JSON.
_STRINGS: Final = frozenset({
    "Base64Binary", "Canonical", "Code", "Date", "DateTime", "Id", "Instant", "Markdown", "Oid", "String", "Time",
    "Uri", "Url", "Uuid",
})  # fmt: skip
_TEXT_CHOICES: Final = frozenset(
    path.rsplit(".", 1)[1] for path, kinds in R4["choiceTypePaths"].items() if _STRINGS.intersection(kinds)
)
_TYPES: Final = frozenset(R4["type2Parent"]) | frozenset(R4["type2Parent"].values())
_KINDS: Final = tuple(sorted({kind for kinds in R4["choiceTypePaths"].values() for kind in kinds}))


def _present(steps: tuple[str, ...], call: tuple[str, list[Node]] | None) -> Expression | None:
    """The node for `a.b.exists()` or `.empty()` without criterion; None for anything else."""
    if call is None or call[0] not in ("exists", "empty") or call[1]:
        return None
    present = Present(steps, _KINDS if _CHOICES.intersection(steps) else ())
    return present if call[0] == "exists" else Not(present)


def _strings(node: Node) -> list[str] | None:
    """The strings of `('a' | 'b')`; None when there is anything else in it."""
    parts = children(node)
    if node["type"] == "UnionExpression":
        left, right = _strings(parts[0]), _strings(parts[1])
        return left + right if left and right else None
    if node["type"] in ("TermExpression", "ParenthesizedTerm", "LiteralTerm") and len(parts) == 1:
        return _strings(parts[0])
    return list(do_eval({}, [], node)) if node["type"] == "StringLiteral" else None


def _pattern(arguments: list[Node]) -> re.Pattern[str] | None:
    """The compiled regular expression of `matches('…')`; None when the argument is no fixed text."""
    strings = _strings(arguments[0]) if len(arguments) == 1 else None
    if not strings or len(strings) != 1 or not strings[0]:
        return None
    try:
        return re.compile(strings[0], re.DOTALL)
    except re.error as error:
        raise ExpressionError(f"matches(): {error}") from None


def _chooses(node: Node) -> bool:
    """Whether the expression chooses among items, which may be undecided for some."""
    return any((call := function_of(part)) and call[0] in _CHOOSING for part in walk(node))


def type_named(arguments: list[Node]) -> str:
    """The type that `ofType(dateTime)` or `ofType(FHIR.dateTime)` names; raises ExpressionError if R4 has none such."""
    words = [part["text"] for argument in arguments for part in walk(argument) if part["type"] == "Identifier"]
    name: str = words[-1] if words else ""
    if len(arguments) != 1 or words[:-1] not in ([], ["FHIR"]) or name not in _TYPES:
        raise ExpressionError(f"ofType() takes the name of a type of FHIR R4, not {'.'.join(words) or 'this'}")
    return name


def _plain_steps(node: Node) -> tuple[str, ...]:
    parts = children(node)
    if node["type"] in ("TermExpression", "InvocationTerm") and len(parts) == 1:
        return _plain_steps(parts[0])
    if node["type"] == "MemberInvocation":
        name = parts[0]["text"].strip("`")
        return () if name[:1].isupper() else (name,)  # `Patient.name`: a type's name is no element
    if node["type"] == "InvocationExpression":
        before, last = _plain_steps(parts[0]), _plain_steps(parts[1])
        return before + last if before and last else ()
    return ()


_BINARY: Final[dict[str, Callable[[Expression, Expression], Expression]]] = {
    "and": And, "or": Or, "xor": Xor, "implies": lambda left, right: Or(Not(left), right), "|": Union,
}  # fmt: skip


class Compiler:
    """Turns syntax trees into expressions.

    `known` are the names that may be incomplete (inputs and facts), `value_sets` the sets behind names like `vs-x`.
    """

    def __init__(self, known: frozenset[str], value_sets: Mapping[str, ValueSet]) -> None:
        self._known = known
        self._value_sets = value_sets

    def compile(self, text: str) -> Expression:
        """Compile an expression; raises ExpressionError."""
        return self._node(parse(text))

    def _names(self, node: Node) -> tuple[str, ...]:
        return tuple(name for name in names_in(node) if name in self._known)

    def _node(self, node: Node) -> Expression:
        kind, parts = node["type"], children(node)
        if kind in ("AndExpression", "OrExpression", "ImpliesExpression", "UnionExpression"):
            return _BINARY[node["terminalNodeText"][0]](self._node(parts[0]), self._node(parts[1]))
        if kind == "AdditiveExpression" and node["terminalNodeText"] == ["&"]:
            return Concat(self._node(parts[0]), self._node(parts[1]))
        if kind in ("EqualityExpression", "MembershipExpression") and (plain := self._comparison(node, parts)):
            return plain
        if kind == "TermExpression":
            return self._term(node, parts[0])
        if kind == "InvocationExpression":
            return self._invocation(node, parts)
        if len(parts) == 2 and _chooses(node) and len(node["terminalNodeText"]) == 1:
            between = parse(f"%left {node['terminalNodeText'][0]} %right")
            return Binary(self._node(parts[0]), self._node(parts[1]), between)
        return Leaf(node, self._names(node))

    def _term(self, node: Node, term: Node) -> Expression:
        inner = children(term)[0] if children(term) else None
        if steps := _plain_steps(node):
            return Path(steps)
        if inner is not None and (own := function_of(inner)) and own[0] in FUNCTIONS and own[0] != "memberOf":
            return self._own(This(), *own)
        if inner is not None and term["type"] == "ParenthesizedTerm":
            return self._node(inner)
        if inner is not None and term["type"] == "ExternalConstantTerm":
            name = constant_name(inner)
            return Name(name) if name in self._known else Given(name)
        if inner is not None and inner["type"] in ("StringLiteral", "NullLiteral"):
            return Literal(Collection(do_eval({}, [], inner)))
        if inner is not None and inner["type"] == "BooleanLiteral":
            return Constant(inner["text"] == "true")
        if inner is not None and term["type"] == "InvocationTerm" and (call := function_of(inner)):
            name, arguments = call
            if member := self._member((), call):
                return member
            if name == "iif" and len(arguments) in (2, 3):
                branches = [self._node(argument) for argument in arguments]
                return Iif(branches[0], branches[1], branches[2] if len(branches) == 3 else None)
        return Leaf(node, self._names(node))

    def _invocation(self, node: Node, parts: list[Node]) -> Expression:
        call = function_of(parts[1])
        if call and call[0] == "not" and not call[1]:
            return Not(self._node(parts[0]))
        if call and call[0] in FUNCTIONS and call[0] != "memberOf":
            return self._own(self._node(parts[0]), *call)
        if steps := _plain_steps(node):
            return Path(steps)
        steps = _plain_steps(parts[0])
        if steps and (plain := self._member(steps, call) or _present(steps, call)):
            return plain
        source = self._node(parts[0])
        if call is None:
            step = _plain_steps(parts[1])
            return Step(source, parts[1], (), plain=True, empties=True, element=step[0] if step else "")
        name, arguments = call
        if name in ("where", "exists", "all") and len(arguments) == 1:
            criterion = self._node(arguments[0])
            if name == "all":
                return Not(Exists(Where(source, Not(criterion))))
            chosen = Where(source, criterion)
            return chosen if name == "where" else Exists(chosen)
        if name == "intersect" and len(arguments) == 1:
            return Intersect(source, self._node(arguments[0]))
        if name == "ofType":
            return OfType(source, TypeInfo(type_named(arguments), None))
        if name == "matches" and (pattern := _pattern(arguments)):
            return Matches(source, pattern)
        if name in ("exists", "empty") and not arguments:
            some = Some(source.name) if isinstance(source, Name) else Exists(source)
            return some if name == "exists" else Not(some)
        return Step(source, parts[1], self._names(parts[1]), plain=False, empties=name in _EMPTY_OF_EMPTY)

    def _own(self, source: Expression, name: str, arguments: list[Node]) -> Own:
        if len(arguments) not in FUNCTIONS[name]["arity"]:
            raise ExpressionError(f"{name}() takes {' or '.join(map(str, FUNCTIONS[name]['arity']))} argument(s)")
        return Own(source, name, tuple(self._node(argument) for argument in arguments))

    def _comparison(self, node: Node, parts: list[Node]) -> Expression | None:
        """`=`, `!=` or `in` between a plain path or constant and fixed strings; None for anything else."""
        operator, left = node["terminalNodeText"][0], self._text(parts[0])
        if left is None:
            return None
        if node["type"] == "MembershipExpression":
            strings = _strings(parts[1]) if operator == "in" else None
            return OneOf(left, frozenset(strings)) if strings else None
        right = self._text(parts[1])
        return Same(left, right, operator == "=") if right is not None and operator in ("=", "!=") else None

    def _text(self, node: Node) -> Expression | None:
        steps = _plain_steps(node)
        if steps and not _TEXT_CHOICES.intersection(steps):
            return Text(steps)
        compiled = self._node(node) if node["type"] == "TermExpression" else None
        return compiled if isinstance(compiled, Given | Literal) else None

    def _member(self, steps: tuple[str, ...], call: tuple[str, list[Node]] | None) -> Member | None:
        """The node for `a.b.memberOf(%name)`; None for anything else."""
        if call is None or call[0] != "memberOf" or len(call[1]) != 1:
            return None
        names = names_in(call[1][0])
        value_set = self._value_sets.get(names[0]) if len(names) == 1 else None
        return Member(steps, value_set) if value_set else None
