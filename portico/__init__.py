"""Portico's library: models, accounts, sources and storage, free of any web framework."""
