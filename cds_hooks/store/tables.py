"""What is stored. No name, id or record of a patient: who and what a card was about are keyed hashes.

All moments are whole milliseconds since 1970 (UTC), so that both databases keep and compare them alike.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import BigInteger, Column, Index, MetaData, String, Table, Text

METADATA: Final = MetaData()

#: A card that was sent. `patient` and `orders` are keyed hashes; `client` is a name of the settings.
ISSUED: Final = Table(
    "issued", METADATA,
    Column("card", String(36), primary_key=True),
    Column("client", String(256), nullable=False),
    Column("tenant", String(256), nullable=False),
    Column("service", String(256), nullable=False),
    Column("plan", String(256), nullable=False),
    Column("version", String(256), nullable=False),
    Column("content", String(64), nullable=False),
    Column("site", Text, nullable=False),
    Column("rule", String(256), nullable=False),
    Column("topic", String(256), nullable=False),
    Column("indicator", String(16), nullable=False),
    Column("patient", String(32), nullable=False),
    Column("orders", String(32), nullable=False),
    Column("suggestions", Text, nullable=False),  # their ids, separated by spaces
    Column("issued_at", BigInteger, nullable=False),
    Index("issued_issued_at", "issued_at"),
)  # fmt: skip

#: What a user did with a card. There may be several of one card; the latest counts. The card need not be in `issued`
#: yet, or ever: the two belong together by card, client and tenant. `patient` is that of the card, put in as soon as
#: both are there: what was overridden for a patient must be found without looking at every card the patient ever got.
FEEDBACK: Final = Table(
    "feedback", METADATA,
    Column("id", String(32), primary_key=True),  # a keyed hash of all that was said, so the same twice is one row
    Column("card", String(36), nullable=False),
    Column("client", String(256), nullable=False),
    Column("tenant", String(256), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason_system", Text),  # a reason that our cards offer
    Column("reason_code", Text),
    Column("words", Text),  # JSON: the comment, and a reason of the client's own; may identify a patient
    Column("suggestions", Text, nullable=False),  # JSON: ids of the accepted ones
    Column("said_at", BigInteger, nullable=False),  # by the client's clock, but never after `received_at`
    Column("received_at", BigInteger, nullable=False),
    Column("patient", String(32)),
    Index("feedback_card", "card"),
    Index("feedback_patient", "patient", "received_at"),
    Index("feedback_received_at", "received_at"),
)  # fmt: skip

#: Tokens that were used: a hash of issuer and jti, kept until the token has expired (`expires_at` in seconds).
REPLAY: Final = Table(
    "replay", METADATA,
    Column("token", String(64), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Index("replay_expires_at", "expires_at"),
)  # fmt: skip

#: Work that one process does for all: who has it, and until when.
CHORES: Final = Table(
    "chores", METADATA,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", BigInteger, nullable=False),
)  # fmt: skip


def millis(moment: datetime) -> int:
    """A moment as it is stored."""
    return int(moment.timestamp() * 1000)


def moment(stored: int) -> datetime:
    """A stored moment."""
    return datetime.fromtimestamp(stored / 1000, UTC)
