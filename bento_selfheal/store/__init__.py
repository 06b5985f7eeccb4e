"""The store: the only thing that the processes share."""

from .erasure.erasure import ERASED, REBUILD
from .labels.conflicts import ConflictRule
from .leadership import StepRecord
from .logs import FeedbackResult
from .promotions import OPERATING_POINT
from .store import SqlStore

__all__ = [
    "ERASED", "OPERATING_POINT", "REBUILD", "ConflictRule", "FeedbackResult", "SqlStore",
    "StepRecord",
]  # fmt: skip
