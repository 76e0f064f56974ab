"""Versions, aliases, traffic, and the words of workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables, and the one row that holds the revision."""
    catalogue = op.create_table(
        "catalogue",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(catalogue, [{"id": 1, "revision": 0}])
    op.create_table(
        "versions",
        sa.Column("model", sa.String(100), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("by", sa.String(100), nullable=False),
        sa.Column("retired", sa.Double),
        sa.Column("retired_by", sa.String(100)),
    )
    op.create_table(
        "aliases",
        sa.Column("model", sa.String(100), primary_key=True),
        sa.Column("alias", sa.String(40), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
    )
    op.create_table(
        "alias_changes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("alias", sa.String(40), nullable=False),
        sa.Column("version", sa.BigInteger),
        sa.Column("before", sa.Integer, sa.ForeignKey("alias_changes.id")),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.String(100), nullable=False),
    )
    op.create_index("ix_alias_changes_model_alias_id", "alias_changes", ["model", "alias", "id"])
    op.create_table(
        "traffic",
        sa.Column("model", sa.String(100), primary_key=True),
        sa.Column("canary", sa.Double, nullable=False),
        sa.Column("shadow", sa.Double, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.String(100), nullable=False),
    )
    op.create_table(
        "worker_reports",
        sa.Column("worker", sa.String(200), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("problems", sa.JSON, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("ix_worker_reports_at", "worker_reports", ["at"])
