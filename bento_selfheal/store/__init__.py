"""The store: the only thing that the processes share."""

from .labels.conflicts import ConflictRule
from .leadership import StepRecord
from .logs import FeedbackResult
from .promotions import OPERATING_POINT
from .store import SqlStore

__all__ = ["OPERATING_POINT", "ConflictRule", "FeedbackResult", "SqlStore", "StepRecord"]
