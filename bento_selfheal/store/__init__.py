"""The store: the only thing that the processes share."""

from .leadership import StepRecord
from .logs import FeedbackResult
from .promotions import OPERATING_POINT
from .store import SqlStore

__all__ = ["OPERATING_POINT", "FeedbackResult", "SqlStore", "StepRecord"]
