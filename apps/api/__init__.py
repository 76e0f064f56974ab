"""The JSON API: the Open Inference Protocol, and predictions in plain words."""

from apps.api.app import create_app

__all__ = ["create_app"]
