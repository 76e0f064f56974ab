"""Users, sessions and failed sign-ins.

The first release made these tables without noting any step; those that are there stay.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "users",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column(
            "user",
            sa.String(100),
            sa.ForeignKey("users.name", ondelete="CASCADE", onupdate="CASCADE"),
            nullable=False,
        ),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("seen", sa.Double, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("key", sa.LargeBinary(32), primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("last", sa.Double, nullable=False),
        if_not_exists=True,
    )
    for table, column in (
        ("sessions", "user"),
        ("sessions", "started"),
        ("sessions", "seen"),
        ("sign_in_failures", "last"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column], if_not_exists=True)
