"""The facts of a call as templates see them."""

from __future__ import annotations

from typing import Any, Final

from cds_hooks.reasoning.evaluation import Evaluation
from cds_hooks.reasoning.functions import raw


class Facts:
    """What templates see as `f`: a fact is a truth value (None: unknown), or a list of resources and values."""

    __slots__ = ("_evaluation",)

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation: Final = evaluation

    def __getattr__(self, name: str) -> Any:
        plan = self._evaluation.plan
        if name in plan.parameters:
            return plan.parameters[name]
        found = self._evaluation.value(name)
        if not found.complete and not found.items:
            return None
        items = [raw(item) for item in found.items]
        if len(items) == 1 and isinstance(items[0], bool):
            return items[0] if found.complete else None
        return items
