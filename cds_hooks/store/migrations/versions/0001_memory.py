"""Issued cards, feedback, used tokens, chores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. Written out, because what tables.py says will change and this must not."""
    op.create_table(
        "issued",
        sa.Column("card", sa.String(36), primary_key=True),
        sa.Column("client", sa.String(256), nullable=False),
        sa.Column("tenant", sa.String(256), nullable=False),
        sa.Column("service", sa.String(256), nullable=False),
        sa.Column("plan", sa.String(256), nullable=False),
        sa.Column("version", sa.String(256), nullable=False),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("rule", sa.String(256), nullable=False),
        sa.Column("topic", sa.String(256), nullable=False),
        sa.Column("indicator", sa.String(16), nullable=False),
        sa.Column("patient", sa.String(32), nullable=False),
        sa.Column("orders", sa.String(32), nullable=False),
        sa.Column("suggestions", sa.Text, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
    )
    op.create_index("issued_issued_at", "issued", ["issued_at"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("card", sa.String(36), nullable=False),
        sa.Column("client", sa.String(256), nullable=False),
        sa.Column("tenant", sa.String(256), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason_system", sa.Text),
        sa.Column("reason_code", sa.Text),
        sa.Column("words", sa.Text),
        sa.Column("suggestions", sa.Text, nullable=False),
        sa.Column("said_at", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("patient", sa.String(32)),
    )
    op.create_index("feedback_card", "feedback", ["card"])
    op.create_index("feedback_patient", "feedback", ["patient", "received_at"])
    op.create_index("feedback_received_at", "feedback", ["received_at"])
    op.create_table(
        "replay",
        sa.Column("token", sa.String(64), primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("replay_expires_at", "replay", ["expires_at"])
    op.create_table(
        "chores",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
