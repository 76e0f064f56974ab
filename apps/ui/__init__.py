"""The pages for people: a gallery of models, and for each a form, a table, code and facts."""

from apps.ui.app import create_app

__all__ = ["create_app"]
