"""What was said before: overrides that silence a rule, cards and feedback to remember. Between service and store."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cds_hooks.answer.snooze import content_of, window
from cds_hooks.errors import ContentError, Rejected, StorageError
from cds_hooks.loading import Loaded
from cds_hooks.protocol.caller import Caller
from cds_hooks.protocol.feedback import FeedbackItem
from cds_hooks.protocol.response import Card
from cds_hooks.reasoning.evaluation import Evaluation
from cds_hooks.reasoning.plan import CRITICAL, Plan, Rule
from cds_hooks.store.port import IssuedCard, Memory


@dataclass(slots=True)  # not frozen: made in each call, and nobody changes it
class Recall:
    """The memory as one call sees it."""

    memory: Memory
    caller: Caller
    patient_id: str
    service_id: str

    def resting(self, evaluation: Evaluation, heard: Sequence[Rule]) -> Mapping[str, str]:
        """Rule id → since when and why it rests. When the memory fails nothing rests, and the failure is counted."""
        plan = evaluation.plan
        since = window(plan, evaluation.now)
        able = {rule.id: rule for rule in heard if rule.indicator != CRITICAL}
        if since is None or not able:
            return {}
        try:
            found = self.memory.overrides(self.caller, self.patient_id, since)
        except StorageError:
            evaluation.trouble("memory")
            return {}
        reasons: dict[str, str] = {}
        for override in found:
            rule = able.get(override.rule) if override.plan == plan.id else None
            if rule is not None and override.orders == self._orders(rule, evaluation):
                day = override.at.astimezone(evaluation.now.tzinfo).date().isoformat()
                reasons[rule.id] = f"snoozed: overridden on {day}" + (
                    f" (feedback {override.feedback})" if override.feedback else ""
                )
        return reasons

    def remember(self, evaluation: Evaluation, cards: Mapping[str, Card], rules: Sequence[Rule]) -> None:
        """Remember the cards that are about to be sent, rule id → card; what has to be dropped is counted."""
        plan = evaluation.plan
        issued = [
            IssuedCard(
                card=str(cards[rule.id].uuid),
                suggestions=tuple(str(one.uuid) for one in cards[rule.id].suggestions or ()),
                service=self.service_id, plan=plan.id, version=plan.version, content=plan.digest,
                site=plan.site or "", rule=rule.id, topic=rule.topic["code"], indicator=rule.indicator,
                orders=self._orders(rule, evaluation),
            )
            for rule in rules if rule.id in cards
        ]  # fmt: skip
        for _ in range(self.memory.issued(self.caller, self.patient_id, issued, evaluation.now)):
            evaluation.trouble("unremembered")

    def _orders(self, rule: Rule, evaluation: Evaluation) -> str:
        content = content_of(rule, evaluation)
        # What cannot be compared is like nothing else, not like all else that cannot be compared.
        return self.memory.fingerprint("orders", content) if content is not None else uuid.uuid4().hex


def check_kept(plans: Iterable[Loaded], keep_days: int) -> None:
    """Raise ContentError if feedback is deleted before a plan would cease to heed it."""
    now = datetime.now().astimezone()
    for loaded in plans:
        since = window(loaded.plan, now)
        if since is not None and since < now - timedelta(days=keep_days + 1):
            reason = f"is shorter than the {loaded.plan.snooze} of {loaded.plan.id}, for which overrides are heeded"
            raise ContentError("settings", "storage.keep_days", reason)


def reasons_offered(plan: Plan) -> frozenset[tuple[str | None, str]]:
    """(system, code) of the reasons for an override that the plan's cards offer."""
    return frozenset((reason.get("system"), reason["code"]) for reason in plan.override_reasons)


def unkept(items: Sequence[FeedbackItem]) -> Rejected:
    """What a client hears whose feedback could not be stored: all of it, so that it sends all again."""
    return Rejected(
        f"The feedback could not be stored ({len(items)} items); send it again later.",
        status=503, code="transient",
    )  # fmt: skip
