"""The operator's console: figures, models, workers, mounts and settings."""

from apps.admin.app import create_app, history_of
from apps.admin.facts import OperatorView, SettingRow, WorkerInfo

__all__ = ["OperatorView", "SettingRow", "WorkerInfo", "create_app", "history_of"]
