"""Where the prediction log begins."""

from __future__ import annotations

from dataclasses import dataclass

from bento_selfheal.core.ids import issued_at
from bento_selfheal.core.records import FeedbackRecord

EARLY_SECONDS = 10.0
"""A label that comes so soon after its answer may be ahead of the log, whatever clocks say."""


@dataclass(frozen=True)
class Horizon:
    """Where the prediction log begins, once retention has taken what came before."""

    seq: int
    """Place of the oldest request that is left."""
    issued: float
    """When that one was answered, in seconds since the epoch."""

    def took(self, given: FeedbackRecord, after: int) -> bool:
        """Whether retention has taken the prediction of a label, which is not in the log and was
        written when ``after`` was the log's newest place."""
        answered = issued_at(given.request)
        late = given.time - answered > EARLY_SECONDS
        return after < self.seq or (late and answered < self.issued)
