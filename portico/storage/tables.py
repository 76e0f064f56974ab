"""The tables of the gateway's database."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
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

WORKER_REPORTS = Table(
    "worker_reports",
    METADATA,
    Column("worker", String(200), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("problems", JSON, nullable=False),
    Column("at", Double, nullable=False, index=True),
)
