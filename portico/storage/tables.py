"""The tables of the gateway's database."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

METADATA = MetaData()

USERS = Table(
    "users",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("role", String(20), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("created", Double, nullable=False),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("digest", LargeBinary(32), primary_key=True),
    Column(
        "user", ForeignKey("users.name", ondelete="CASCADE", onupdate="CASCADE"),
        nullable=False, index=True,
    ),
    Column("started", Double, nullable=False, index=True),
    Column("seen", Double, nullable=False, index=True),
)  # fmt: skip

SIGN_IN_FAILURES = Table(
    "sign_in_failures",
    METADATA,
    Column("key", LargeBinary(32), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last", Double, nullable=False, index=True),
)

CATALOGUE = Table(
    "catalogue",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)
"""One row: the revision. Who holds its lock may change versions, aliases and traffic."""

VERSIONS = Table(
    "versions",
    METADATA,
    Column("model", String(100), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    Column("created", Double, nullable=False),
    Column("by", String(100), nullable=False),
    Column("retired", Double),
    Column("retired_by", String(100)),
)

ALIASES = Table(
    "aliases",
    METADATA,
    Column("model", String(100), primary_key=True),
    Column("alias", String(40), primary_key=True),
    Column("version", BigInteger, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

ALIAS_CHANGES = Table(
    "alias_changes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("model", String(100), nullable=False),
    Column("alias", String(40), nullable=False),
    Column("version", BigInteger),
    Column("before", ForeignKey("alias_changes.id")),
    Column("at", Double, nullable=False),
    Column("by", String(100), nullable=False),
    Index("ix_alias_changes_model_alias_id", "model", "alias", "id"),
)
"""``before`` names the change that a rollback from this one goes back to."""

TRAFFIC = Table(
    "traffic",
    METADATA,
    Column("model", String(100), primary_key=True),
    Column("canary", Double, nullable=False),
    Column("shadow", Double, nullable=False),
    Column("at", Double, nullable=False),
    Column("by", String(100), nullable=False),
)

MODEL_SERVICE = Table(
    "model_service",
    METADATA,
    Column("model", String(255), primary_key=True),
    Column("is_unloaded", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("by", String(100), nullable=False),
)
"""What operators last said about models as a whole, also about those that only paths have."""

WORKER_REPORTS = Table(
    "worker_reports",
    METADATA,
    Column("worker", String(200), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("problems", JSON, nullable=False),
    Column("at", Double, nullable=False, index=True),
)

PREDICTION_SEGMENTS = Table(
    "prediction_segments",
    METADATA,
    # SQLite counts by itself only what it calls INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("model", String(100), nullable=False),
    Column("version", String(20), nullable=False),
    Column("who", String(200), nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("prefix", String(12), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("began", Double, nullable=False),
    Column("ended", Double, nullable=False),
    Column("predictions", Integer, nullable=False),
    Column("has_inputs", Boolean, nullable=False),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("ix_prediction_segments_prefix_first_last", "prefix", "first", "last"),
    Index("ix_prediction_segments_model_ended", "model", "ended"),
    Index("ix_prediction_segments_who_ended", "who", "ended"),
    Index("ix_prediction_segments_ended_size", "ended", "size"),
)
"""Predictions that are alike, many a row; ``size`` is what the row takes, in bytes."""

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("prediction", String(40), primary_key=True),
    Column("who", String(200), primary_key=True),
    Column("right", Boolean, nullable=False),
    Column("label", JSON),
    Column("at", Double, nullable=False),
)
"""It outlives the prediction, which the log forgets."""

DRIFT_REFERENCES = Table(
    "drift_references",
    METADATA,
    Column("model", String(100), primary_key=True),
    Column("version", String(20), primary_key=True),
    Column("artefact", String(64), primary_key=True),
    Column("reference", LargeBinary, nullable=False),
)
"""Made of the first rows served, for versions whose import had no examples."""

DRIFT_COUNTS = Table(
    "drift_counts",
    METADATA,
    Column("model", String(100), primary_key=True),
    Column("version", String(20), primary_key=True),
    Column("reference", String(64), primary_key=True),
    Column("began", BigInteger, primary_key=True),
    Column("worker", String(40), primary_key=True),
    Column("counts", LargeBinary, nullable=False),
)
"""Rows served, counted into the bins of a reference, by worker and stretch of time."""
