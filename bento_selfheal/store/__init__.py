"""The store: the only thing that the processes share."""

from .sql import Checkpoint, FeedbackResult, SqlStore

__all__ = ["Checkpoint", "FeedbackResult", "SqlStore"]
