"""What the report counts: cards by topic and version, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, desc, func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from cds_hooks.errors import StorageError
from cds_hooks.store.database import Database, reason
from cds_hooks.store.tables import FEEDBACK, ISSUED, millis, moment


@dataclass(frozen=True, slots=True)
class Counted:
    """So many cards of a topic and version to which this happened."""

    plan: str
    version: str
    content: str
    site: str
    topic: str
    #: accepted, overridden; None: nobody said anything.
    outcome: str | None
    #: (system, code) of the reason, None without one that the cards offer.
    reason: tuple[str | None, str] | None
    cards: int
    #: When the last of them was sent.
    last: datetime


def tally(database: Database, since: datetime | None = None, client: str | None = None) -> Sequence[Counted]:
    """Count the cards issued since then, of one client or all; raises StorageError.

    Of several words on one card the latest counts. Feedback is tied to the card of the same client and tenant.
    """
    try:
        with database.engine("read").connect() as connection:
            return _counted(connection, since, client)
    except DBAPIError as error:
        raise StorageError(reason(error)) from None
    except SQLAlchemyError as error:
        raise StorageError(type(error).__name__) from None


def _counted(connection: Connection, since: datetime | None, client: str | None) -> Sequence[Counted]:
    order = (desc(FEEDBACK.c.said_at), desc(FEEDBACK.c.received_at), desc(FEEDBACK.c.id))
    same = (FEEDBACK.c.card, FEEDBACK.c.client, FEEDBACK.c.tenant)
    numbered = select(
        *same, FEEDBACK.c.outcome, FEEDBACK.c.reason_system, FEEDBACK.c.reason_code,
        func.row_number().over(partition_by=same, order_by=order).label("place"),
    ).subquery()  # fmt: skip
    tied = and_(numbered.c.card == ISSUED.c.card, numbered.c.client == ISSUED.c.client,
                numbered.c.tenant == ISSUED.c.tenant, numbered.c.place == 1)  # fmt: skip
    groups = (ISSUED.c.plan, ISSUED.c.version, ISSUED.c.content, ISSUED.c.site, ISSUED.c.topic, numbered.c.outcome,
              numbered.c.reason_system, numbered.c.reason_code)  # fmt: skip
    query = (
        select(*groups, func.count(), func.max(ISSUED.c.issued_at)).select_from(ISSUED.outerjoin(numbered, tied))
        .group_by(*groups)
    )  # fmt: skip
    if since is not None:
        query = query.where(ISSUED.c.issued_at >= millis(since))
    if client is not None:
        query = query.where(ISSUED.c.client == client)
    return [
        Counted(plan, version, content, site, topic, outcome, (system, code) if code is not None else None, cards,
                moment(last))
        for plan, version, content, site, topic, outcome, system, code, cards, last in connection.execute(query)
    ]  # fmt: skip
