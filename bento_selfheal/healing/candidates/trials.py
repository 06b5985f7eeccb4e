"""The trials of all candidates, and labelled rows that wait for what candidates said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.candidates.candidate import Candidate
from bento_selfheal.healing.candidates.trial import CandidateTrial
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch

MOST_WAITING = 2000
"""Labelled rows that wait for a candidate; of older ones it has said nothing."""


@dataclass(frozen=True)
class WaitingRow:
    """A labelled row that was answered."""

    asked: int
    """Place of its prediction in the log."""
    key: str
    """Request key and row, or the hash of the row's own key, in hexadecimal."""
    has_own_key: bool
    label: int
    served: float | list[float]
    """What the healed champion said of it."""
    scale: float
    """What a difference of losses on it counts."""


Said = dict[tuple[int, str], Any]
"""What a candidate said, by place of the prediction and `WaitingRow.key`."""


class CandidateTrials:
    """Owns the evidence about candidates.

    Attributes:
        trials: By the candidate's number.
        waiting: By the candidate's number, labelled rows that it has not been compared on.
    """

    def __init__(self) -> None:
        self.trials: dict[int, CandidateTrial] = {}
        self.waiting: dict[int, list[WaitingRow]] = {}

    def follow(self, running: Sequence[Candidate]) -> None:
        """Hold trials for these candidates alone."""
        numbers = [c.id for c in running]
        self.trials = {n: self.trials.get(n, CandidateTrial()) for n in numbers}
        self.waiting = {n: self.waiting.get(n, []) for n in numbers}

    def take(self, batch: LabelledBatch, champion: NDArray[np.float32]) -> None:
        """Take newly labelled rows; those that prove something wait for the candidates.

        Args:
            batch: The rows.
            champion: What the healed champion said of them, ``(n,)`` or ``(n, classes)``.
        """
        if not self.trials:
            return
        reviewed = batch.reviewed
        rows = [
            WaitingRow(row.asked, row.key.hex(), row.has_own_key, int(row.label),
                       champion[i].tolist(), float(reviewed.scale[i]))
            for i, row in enumerate(batch.rows)
            if row.asked >= 0 and reviewed.proves[i]
        ]  # fmt: skip
        for number, waiting in self.waiting.items():
            self.waiting[number] = [*waiting, *rows][-MOST_WAITING:]

    def compare(self, candidate: Candidate, said: Said, costs: Thresholds) -> int:
        """Compare a candidate on the rows of which it has said something; how many these were."""
        waiting = self.waiting[candidate.id]
        here = [row for row in waiting if (row.asked, row.key) in said]
        if not here:
            return 0
        self.waiting[candidate.id] = [r for r in waiting if (r.asked, r.key) not in said]
        scale = np.asarray([row.scale for row in here])
        self.trials[candidate.id].update(
            np.asarray([row.served for row in here], dtype=np.float32),
            np.asarray([said[row.asked, row.key] for row in here], dtype=np.float32),
            np.asarray([row.label for row in here], dtype=np.float32),
            costs,
            None if (scale == 1).all() else scale,
        )
        return len(here)

    def status(self) -> dict[str, Any]:
        """The evidence of each, by its number."""
        return {str(number): trial.status() for number, trial in self.trials.items()}

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {
            "trials": {n: trial.state() for n, trial in self.trials.items()},
            "waiting": {n: [asdict(row) for row in rows] for n, rows in self.waiting.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.trials = {int(n): CandidateTrial.of_state(s) for n, s in state["trials"].items()}
        self.waiting = {
            int(n): [WaitingRow(**row) for row in rows] for n, rows in state["waiting"].items()
        }
