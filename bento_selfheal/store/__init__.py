"""The store: the only thing that the processes share."""

from .sql import OPERATING_POINT, Checkpoint, FeedbackResult, SqlStore

__all__ = ["OPERATING_POINT", "Checkpoint", "FeedbackResult", "SqlStore"]
