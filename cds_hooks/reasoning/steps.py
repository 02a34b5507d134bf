"""The static check of expressions: every step must be an element that FHIR R4 has, every function one we allow.

A misspelt element would give an empty collection at the bedside instead of an error at start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cds_hooks.reasoning.elements import R4, ancestry
from cds_hooks.reasoning.fhirpath import ExpressionError, children, constant_name, function_of, type_named
from cds_hooks.reasoning.functions import RESULT_TYPES, STANDARD
from cds_hooks.reasoning.nodes import Node

Types = frozenset[str]  # R4 types or element paths that a value may have; empty = not known, anything goes
ANY: Final[Types] = frozenset()
#: What draft orders may hold (CDS Hooks order-select, order-sign), plus what clients send along.
ORDERS: Final[Types] = frozenset({
    "ServiceRequest", "MedicationRequest", "DeviceRequest", "NutritionOrder", "VisionPrescription", "SupplyRequest",
    "CommunicationRequest", "Task", "Condition",
})  # fmt: skip
#: Elements with elements of their own (backbone elements): the table of the library lists only what is below them.
_BACKBONES: Final = frozenset(path.rsplit(".", 1)[0] for path in R4["path2Type"] if path.count(".") > 1)
_PRIMITIVE_KEYS: Final = {"valueString": "string", "valueBoolean": "boolean", "valueInteger": "integer"}


def type_of_key(key: str) -> str:
    """The R4 type of a value[x] key: valueDuration → Duration."""
    return _PRIMITIVE_KEYS.get(key, key.removeprefix("value"))


def after(types: Types, element: str) -> Types | None:
    """The types of `element` on values of these types; None when none of them has it."""
    if not types:
        return ANY
    found: set[str] = set()
    for kind in types:
        for owner in ancestry(kind):
            path = R4["pathsDefinedElsewhere"].get(f"{owner}.{element}", f"{owner}.{element}")
            if path in R4["choiceTypePaths"]:
                found |= {choice[:1].lower() + choice[1:] if _is_primitive(choice) else choice
                          for choice in R4["choiceTypePaths"][path]}  # fmt: skip
            elif path in R4["path2Type"]:
                inner = R4["path2Type"][path]
                found.add(path if inner in ("BackboneElement", "Element") else inner)
            elif path in _BACKBONES:
                found.add(path)
    if not found and element in ("id", "extension", "resourceType", "contained", "modifierExtension"):
        return ANY
    return frozenset(found) or None


def _is_primitive(choice: str) -> bool:
    return choice in ("String", "DateTime", "Date", "Boolean", "Integer", "Decimal", "Instant", "Time", "Code", "Uri")


def check(node: Node, names: Mapping[str, Types], this: Types) -> None:
    """Raise ExpressionError for a step that R4 does not have or a function that is not allowed."""
    infer(node, names, this)


def infer(node: Node, names: Mapping[str, Types], this: Types) -> Types:
    """The types that an expression may give; raises ExpressionError for an unknown step or function."""
    kind, parts = node["type"], children(node)
    if kind == "InvocationExpression":
        return _invoked(parts[1], names, infer(parts[0], names, this), this)
    if kind in ("TermExpression", "ParenthesizedTerm", "LiteralTerm", "InvocationTerm", "ExternalConstantTerm"):
        return infer(parts[0], names, this) if parts else ANY
    if kind == "ExternalConstant":
        return names[constant_name(node)]
    if kind == "ThisInvocation":
        return this
    if kind in ("MemberInvocation", "FunctionInvocation"):
        return _invoked(node, names, this, this)
    if kind == "UnionExpression":
        left, right = (infer(part, names, this) for part in parts)
        return left | right if left and right else ANY
    if kind == "IndexerExpression":
        infer(parts[1], names, this)
        return infer(parts[0], names, this)
    if kind == "TypeExpression":
        raise ExpressionError("`is` and `as` are not supported: write x.ofType(Type), and .exists() for the question")
    for part in parts:
        infer(part, names, this)
    return _LITERALS.get(kind, frozenset({"boolean"}) if kind in _BOOLEAN else ANY)


_BOOLEAN: Final = frozenset({
    "AndExpression", "OrExpression", "ImpliesExpression", "EqualityExpression", "InequalityExpression",
    "MembershipExpression", "BooleanLiteral",
})  # fmt: skip
_LITERALS: Final = {"StringLiteral": frozenset({"string"}), "NumberLiteral": frozenset({"integer"})}


#: Functions whose argument is evaluated on each item of the input; any other argument sees the surrounding item.
_EACH: Final = frozenset({"where", "exists", "all", "select"})


def _invoked(node: Node, names: Mapping[str, Types], source: Types, this: Types) -> Types:
    call = function_of(node)
    if call is None:
        if node["type"] != "MemberInvocation":
            return infer(node, names, source)
        step: str = children(node)[0]["text"].strip("`")
        if step in source:  # `Patient.name`: the type's own name
            return frozenset({step})
        found = after(source, step)
        if found is None:
            raise ExpressionError(f"{' or '.join(sorted(source))} has no element {step}")
        return found
    name, arguments = call
    if name not in STANDARD and name not in RESULT_TYPES:
        raise ExpressionError(f"unknown function {name}()")
    if name == "ofType":
        return frozenset({type_named(arguments)})
    inner = source if name in _EACH else this
    results = [infer(argument, names, inner) for argument in arguments]
    if name == "iif":
        branches = results[1:]
        return frozenset().union(*branches) if all(branches) else ANY
    if name in ("select",):
        return results[0] if results else ANY
    result = RESULT_TYPES.get(name, STANDARD.get(name))
    return source if result == "" else (frozenset({result}) if result else ANY)

