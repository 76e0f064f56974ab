"""Logging in and out, and who one is."""

from apps.account.app import create_app

__all__ = ["create_app"]
