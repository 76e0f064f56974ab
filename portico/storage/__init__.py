"""The gateway's own database; implements the ports of the rest of the library.

SQLAlchemy is imported by ``database``, ``tables`` and ``accounts``, and those only once something
is to be read or written: ``first_start`` is what a starting server imports.
"""
