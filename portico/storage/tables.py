"""The tables of the gateway's database."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Double,
    ForeignKey,
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
