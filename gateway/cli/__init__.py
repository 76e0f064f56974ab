"""The command line: ``portico serve``, ``portico check``, ``portico models``."""
