"""How the tables came to be, step by step; Alembic runs the steps that a database lacks.

To change the tables:

1. Change ``portico/storage/tables.py``. It says what is; nothing is made from it.
2. Add ``versions/rNNNN_what.py`` with the next number as ``revision`` and the one before as
   ``down_revision``, like those that are there, and raise :data:`HEAD` to it. Write the columns
   out: a step must do the same in ten years, whatever ``tables.py`` says then.
3. ``tests/storage/test_schema.py`` says what the steps and ``tables.py`` do not agree on, in SQLite
   and in PostgreSQL.

A step is never changed once it was released, and there is no way down: an older release refuses a
newer database, and a backup is the way back. Workers of the release before go on while a new one
brings the database up to date, so add columns that may be null or have a ``server_default``, and
drop nothing that the release before still reads. SQLite changes a column only by copying its table
(``op.batch_alter_table``), and with foreign keys on that deletes the rows that refer to it: add
columns and tables instead.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = "0004"
"""The last step, and what a database that is up to date has noted in :data:`VERSION_TABLE`."""

VERSION_TABLE: Final = "portico_schema"
"""Not Alembic's own name, which another application may use in the same database."""
