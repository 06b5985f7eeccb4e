"""The store: the only thing that the processes share."""

from .store import OPERATING_POINT, Checkpoint, FeedbackResult, SqlStore

__all__ = ["OPERATING_POINT", "Checkpoint", "FeedbackResult", "SqlStore"]
