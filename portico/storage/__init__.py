"""The gateway's own database and artefact store; implements the ports of the rest of the library.

SQLAlchemy and fsspec are imported only once something is to be read or written: ``opening`` and
``first_start`` are what a starting server imports.
"""
