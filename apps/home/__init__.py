"""The front door: what is mounted and served, and whether the gateway is alive and ready."""

from apps.home.app import create_app

__all__ = ["create_app"]
