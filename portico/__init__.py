"""Portico's library: models, accounts, sources and storage, free of any web framework."""

__version__ = "0.1.0"
