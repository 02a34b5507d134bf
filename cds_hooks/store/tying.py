"""Feedback and the card it is about, brought together in whichever order they come.

Who stores either ties what is open in the same transaction, and looks again when that is committed: so whoever commits
last sees the other, also when the two are brought at the same moment to different servers.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, exists, select, update

from cds_hooks.store.database import Database
from cds_hooks.store.tables import FEEDBACK, ISSUED

_SAME: Final = and_(ISSUED.c.card == FEEDBACK.c.card, ISSUED.c.client == FEEDBACK.c.client,
                    ISSUED.c.tenant == FEEDBACK.c.tenant)  # fmt: skip
#: Condition on FEEDBACK: its card is stored too.
HAS_CARD: Final[ColumnElement[bool]] = exists().where(_SAME)
_OPEN: Final = and_(FEEDBACK.c.patient.is_(None), FEEDBACK.c.received_at >= bindparam("since"), HAS_CARD)
_PATIENT: Final = select(ISSUED.c.patient).where(_SAME).scalar_subquery()
_ANY: Final = select(FEEDBACK.c.id).where(_OPEN).limit(1)
_TIE: Final = update(FEEDBACK).where(_OPEN).values(patient=_PATIENT)
_TIE_THESE: Final = _TIE.where(FEEDBACK.c.id.in_(bindparam("these", expanding=True)))


def tie(connection: Connection, since: int, these: Collection[str] | None = None) -> None:
    """Tie feedback that came since then (milliseconds) and whose card is there, in the running transaction.

    Who holds locks on feedback of its own names it in `these`, so as not to wait for the rows of others.
    """
    if these is None:
        connection.execute(_TIE, {"since": since})
    else:
        connection.execute(_TIE_THESE, {"since": since, "these": list(these)})


def tie_late(database: Database, since: int) -> None:
    """The same in a transaction of its own, if there is any. Raises StorageError."""
    if database.run(lambda connection: connection.execute(_ANY, {"since": since}).first(), "read") is not None:
        database.run(lambda connection: tie(connection, since), "write")
