"""What Alembic runs: all missing steps in the transaction that it is handed."""

from __future__ import annotations

from alembic import context

from portico.storage.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
