"""The trace: why each card came, and why each other did not. Read off what an Evaluation remembers.

For development and for people who may see the patient's chart: it names resource ids, never free text of the chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhirpathpy.engine.nodes import ResourceNode

from cds_hooks.chart.gather import Source
from cds_hooks.chart.reading import name_of
from cds_hooks.reasoning.evaluation import Evaluation, Finding
from cds_hooks.reasoning.functions import raw
from cds_hooks.reasoning.nodes import Collection, Verdict
from cds_hooks.reasoning.plan import Condition

_WORDS: dict[Verdict, str] = {True: "true", False: "false", None: "unknown"}
_SHOWN = 8  # values of one fact
_SAFE = frozenset({"code", "id", "date", "dateTime", "instant", "time", "uri", "url", "canonical", "oid", "uuid"})


def trace(
    evaluation: Evaluation,
    findings: Sequence[Finding],
    cards: Mapping[str, str],
    silenced: Mapping[str, str],
    problems: Mapping[str, int],
) -> dict[str, Any]:
    """The whole trace as JSON. `cards` are rule id → summary, `silenced` rule id → reason."""
    plan = evaluation.plan
    return {
        "plan": {"id": plan.id, "version": plan.version, "content": plan.digest[:12],
                 **({"site": plan.site} if plan.site else {})},
        "hook": evaluation.asked.hook,
        "now": evaluation.constants["now"],
        "inputs": {key: _source(source) for key, source in evaluation.chart.sources.items()},
        "gates": _gates(evaluation, findings),
        "rules": [_rule(evaluation, finding, cards, silenced) for finding in findings],
        "facts": {name: _value(found) for name in plan.facts if (found := evaluation.known(name)) is not None},
        "cards": [{"rule": rule, "summary": summary} for rule, summary in cards.items()],
        "matched by words": sorted(evaluation.by_words),
        "problems": dict(problems),
    }


def _source(source: Source) -> dict[str, Any]:
    shown: dict[str, Any] = {"how": source.how, "count": len(source.resources), "complete": source.complete}
    if source.problem:
        shown["problem"] = source.problem
    return shown


def _gates(evaluation: Evaluation, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    groups = {group.id: group for finding in findings for group in finding.rule.groups if group.conditions}
    return [
        {"id": group.id, "verdict": _WORDS[evaluation.gate(group)],
         "conditions": [_condition(evaluation, condition) for condition in group.conditions]}
        for group in groups.values()
    ]  # fmt: skip


def _rule(
    evaluation: Evaluation, finding: Finding, cards: Mapping[str, str], silenced: Mapping[str, str]
) -> dict[str, Any]:
    rule = finding.rule
    shown: dict[str, Any] = {"id": rule.id, "topic": rule.topic["code"], "outcome": _outcome(finding, cards, silenced)}
    if finding.gate:
        return shown
    conditions = [_condition(evaluation, condition) for condition in rule.conditions]
    return shown | {"conditions": conditions, "evidence": list(rule.evidence)}


def _outcome(finding: Finding, cards: Mapping[str, str], silenced: Mapping[str, str]) -> str:
    if finding.rule.id in cards:
        return "card"
    if finding.rule.id in silenced:
        return f"fired, but {silenced[finding.rule.id]}"
    if finding.gate:
        return f"not asked: gate {finding.gate} is closed"
    return "unknown" if finding.verdict is None else "not fired"


def _condition(evaluation: Evaluation, condition: Condition) -> dict[str, Any]:
    """A condition's verdict and what it rests on: its facts with their values, and where data were lacking."""
    verdict = condition.expression.judge(evaluation, [])
    facts = [name for name in condition.names if name in evaluation.plan.facts or name in evaluation.plan.inputs_of]
    shown: dict[str, Any] = {"asks": condition.description or condition.text, "verdict": _WORDS[verdict]}
    shown["rests on"] = {name: _value(evaluation.value(name)) for name in facts}
    if verdict is None:
        shown["lacking"] = _lacking(evaluation, condition)
    return shown


def _lacking(evaluation: Evaluation, condition: Condition) -> list[str]:
    """The prefetch keys whose data were not whole; none if a value within the data leaves the question open."""
    inputs = {name for read in condition.names for name in evaluation.plan.inputs_of.get(read, ())}
    given = (evaluation.chart.input(name) for name in sorted(inputs))
    return sorted({one.key for one in given if one is not None and not one.complete})


def _value(found: Collection) -> Any:
    items = [_told(item) for item in found.items]
    shown = [_item(item) for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        shown.append(f"… {len(items)} in all")
    if found.maybe:  # which records leave it open
        return [*shown, *(f"perhaps {_item(_told(item))}" for item in found.maybe[:_SHOWN])]
    if not found.complete:
        return [*shown, "perhaps more"] if shown else "unknown"
    return shown[0] if len(shown) == 1 and isinstance(items[0], bool) else shown


def _told(item: Any) -> Any:
    """The JSON of an item; words of the chart, which may say anything, are not repeated."""
    data = raw(item)
    if isinstance(item, ResourceNode) and isinstance(data, str) and item.path not in _SAFE:
        return "(text)"
    return data


def _item(item: Any) -> Any:
    if isinstance(item, dict):
        code = "/".join(str(item[key]) for key in ("system", "code") if item.get(key))
        return name_of(item) or code or "(object)"
    return item


def as_text(shown: Mapping[str, Any]) -> str:
    """The trace for a terminal: one screen that answers why this card, or why none."""
    lines = [f"{shown['plan']['id']} {shown['plan']['version']} ({shown['plan']['content']}) on {shown['hook']}", ""]
    if "site" in shown["plan"]:
        lines.insert(1, f"with the site layer {shown['plan']['site']}")
    lines.append("inputs")
    for key, source in shown["inputs"].items():
        note = "" if source["complete"] else f"  not whole: {source.get('problem', '')}"
        lines.append(f"  {key:<26}{source['how']:<16}{source['count']:>4}{note}")
    for gate in shown["gates"]:
        lines += ["", f"gate {gate['id']}: {gate['verdict']}", *_condition_lines(gate["conditions"])]
    for rule in shown["rules"]:
        lines += ["", f"{rule['id']}: {rule['outcome']}"]
        if rule["outcome"].startswith("not asked"):
            continue
        lines += _condition_lines(rule["conditions"])
    lines += ["", "cards", *([f"  [{card['rule']}] {card['summary']}" for card in shown["cards"]] or ["  none"])]
    if shown["matched by words"]:
        lines += ["", f"matched by words, not by code: {', '.join(shown['matched by words'])}"]
    if shown["problems"]:
        lines += ["", "swallowed problems", *(f"  {kind}: {count}" for kind, count in shown["problems"].items())]
    return "\n".join(lines)


def _condition_lines(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for condition in conditions:
        lines.append(f"  {condition['verdict']:<8}{condition['asks']}")
        lines += [f"            {name} = {_brief(value)}" for name, value in condition["rests on"].items()]
        if condition.get("lacking"):
            lines.append(f"            lacking: {', '.join(condition['lacking'])}")
    return lines


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
