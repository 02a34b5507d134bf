"""Operands of `and` and `or` in an expression, and the expression without each of them. Text in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from antlr4 import CommonTokenStream, InputStream
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

_CHAINS = (FHIRPathParser.AndExpressionContext, FHIRPathParser.OrExpressionContext)


@dataclass(frozen=True)
class Removal:
    """An expression without one operand: where that stood (`and[2].or[1]`, counted from 1), its text, what is left."""

    path: str
    operand: str
    left: str


@lru_cache(maxsize=4096)
def removals(text: str) -> tuple[Removal, ...]:
    """Every operand of every `and` and `or`, however deep, each removed alone."""
    tree = FHIRPathParser(CommonTokenStream(FHIRPathLexer(InputStream(text)))).entireExpression()
    return tuple(_removals(tree, text, "", Counter()))


def _removals(node: Any, text: str, path: str, seen: Counter[str]) -> Iterator[Removal]:
    operator = _operator(node)
    if operator is None:
        for child in node.getChildren() if hasattr(node, "getChildren") else ():
            yield from _removals(child, text, path, seen)
        return
    label = f"{path}.{operator}" if path else operator
    seen[label] += 1
    label += f"#{seen[label]}" if seen[label] > 1 else ""
    operands = _flat(node, operator)
    for number, operand in enumerate(operands):
        others = [_source(other, text) for other in operands if other is not operand]
        left = text[: node.start.start] + f" {operator} ".join(others) + text[node.stop.stop + 1 :]
        yield Removal(f"{label}[{number + 1}]", _source(operand, text), left)
    for number, operand in enumerate(operands):
        yield from _removals(operand, text, f"{label}[{number + 1}]", seen)


def _operator(node: Any) -> str | None:
    word = node.getChild(1).getText() if isinstance(node, _CHAINS) else None
    return word if word in ("and", "or") else None


def _flat(node: Any, operator: str) -> list[Any]:
    """The operands of `a and b and c`, which the grammar nests to the left."""
    left, right = node.expression(0), node.expression(1)
    before = _flat(left, operator) if _operator(left) == operator else [left]
    return [*before, right]


def _source(node: Any, text: str) -> str:
    return text[node.start.start : node.stop.stop + 1]
