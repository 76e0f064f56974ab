"""The prediction log, feedback on it, and what is counted to see drift."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "prediction_segments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("version", sa.String(20), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("prefix", sa.String(12), nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("began", sa.Double, nullable=False),
        sa.Column("ended", sa.Double, nullable=False),
        sa.Column("predictions", sa.Integer, nullable=False),
        sa.Column("has_inputs", sa.Boolean, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    for columns in (
        ["prefix", "first", "last"],
        ["model", "ended"],
        ["who", "ended"],
        ["ended", "size"],
    ):
        name = "_".join(["ix_prediction_segments", *columns])
        op.create_index(name, "prediction_segments", columns)
    op.create_table(
        "feedback",
        sa.Column("prediction", sa.String(40), primary_key=True),
        sa.Column("who", sa.String(200), primary_key=True),
        sa.Column("right", sa.Boolean, nullable=False),
        sa.Column("label", sa.JSON),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_table(
        "drift_references",
        sa.Column("model", sa.String(100), primary_key=True),
        sa.Column("version", sa.String(20), primary_key=True),
        sa.Column("artefact", sa.String(64), primary_key=True),
        sa.Column("reference", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "drift_counts",
        sa.Column("model", sa.String(100), primary_key=True),
        sa.Column("version", sa.String(20), primary_key=True),
        sa.Column("reference", sa.String(64), primary_key=True),
        sa.Column("began", sa.BigInteger, primary_key=True),
        sa.Column("worker", sa.String(40), primary_key=True),
        sa.Column("counts", sa.LargeBinary, nullable=False),
    )
