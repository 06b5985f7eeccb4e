"""Counts and sums since the package was deployed, and what the newest labelled batch was worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.log.erased import rows_left
from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.healing.candidates.trials import CandidateTrials
from bento_selfheal.healing.evidence.newest_rows import NewestRows
from bento_selfheal.healing.evidence.retrain import RetrainAdvice
from bento_selfheal.healing.evidence.rule_record import RuleRecord
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.scoring.losses import cost_of
from bento_selfheal.scoring.review import Review
from bento_selfheal.scoring.scores import NOTHING, Scores, log_loss_gain

REVIEWED = ("asked", "by_chance", "never")
NEWEST = "newest_"
"""Begins the names of the newest rows in the checkpoint."""


@dataclass
class Counts:
    """What came in, what was done, and what it was worth."""

    predicted: int = 0
    batches: int = 0
    labelled_batches: int = 0
    heals: int = 0
    promotions: int = 0
    rollbacks: int = 0
    log_loss_gain: float = 0.0
    """Sum over labelled rows of the baseline's log loss less the champion's, in nats."""
    joined: int = 0
    refused: int = 0
    corrected: int = 0
    retracted: int = 0
    champion: Scores = NOTHING
    baseline: Scores = NOTHING
    challenger: Scores = NOTHING
    classes: list[float] = field(default_factory=list)
    """Labelled rows of each class that was seen, by its index."""

    def label(self, labels: NDArray[np.float32], weights: NDArray[np.float64] | None) -> None:
        """Count labels by their class, ``(n,)``, each for one or for its weight."""
        new = np.bincount(labels.astype(np.int64), weights, minlength=len(self.classes))
        known = np.asarray(self.classes, dtype=np.float64)
        new = new + np.pad(known, (0, len(new) - len(known))).astype(new.dtype)
        self.classes = new.tolist()


SCORED = ("champion", "baseline", "challenger")


@dataclass
class Scoreboard:
    """Keeps score.

    Args:
        advice: Says when healing is not enough.
        rules: How often each rule was right.

    Attributes:
        counts: Counts and sums.
        last: Figures of the newest labelled batch; empty before the first.
        delay: Mean seconds from answer to label in it; None where no row of it was answered.
        actions: What was done about it, in words.
        review: Rows of which only some are looked at: asked for in any case, by chance, and never.
        newest: How good the answers to the newest labelled rows were.
        candidates: How retrained models do beside what serves; saved as a part of its own.
    """

    advice: RetrainAdvice
    rules: RuleRecord
    counts: Counts = field(default_factory=Counts)
    last: dict[str, Any] = field(default_factory=dict)
    delay: float | None = None
    actions: list[str] = field(default_factory=list)
    review: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REVIEWED, 0))
    newest: NewestRows = field(default_factory=NewestRows)
    candidates: CandidateTrials = field(default_factory=CandidateTrials)

    def answered(self, entry: PredictionRecord) -> None:
        """Count the rows of a request."""
        left = rows_left(entry)
        self.counts.predicted += int(left.sum())
        if not entry.review:
            return
        review = Review.unpack(entry.review, len(entry.probabilities))
        certain = int((review.certain & left).sum())
        asked, others = int((review.asked(entry.request) & left).sum()), int(left.sum()) - certain
        known = certain, asked - certain, 0 if review.explored else others
        self.review = {name: self.review[name] + n for name, n in zip(REVIEWED, known, strict=True)}

    def score(
        self,
        batch: LabelledBatch,
        champion: Scores,
        challenger_answers: NDArray[np.float32],
        champion_answers: NDArray[np.float32],
        costs: Thresholds,
        threshold: float | NDArray[np.float64],
    ) -> None:
        """Take a labelled batch that nothing has trained on.

        Args:
            batch: The batch.
            champion: What was answered to it, at the threshold in force.
            challenger_answers: What the challenger says of it.
            champion_answers: What serves now says of it.
            costs: What mistakes cost.
            threshold: At which decisions are taken now, of all rows or of each, ``(n,)``.
        """
        self.delay = batch.delay
        self.rules.update(batch.features, batch.labels)
        if not champion.rows:  # nobody asked for any of these labels: they speak for no rows
            return
        self.newest.add(batch, threshold)
        weights = batch.reviewed.weights
        baseline = Scores.of(batch.baseline, batch.labels, weights=weights)
        self.counts.champion += champion
        self.counts.baseline += baseline
        self.counts.label(batch.labels, weights)
        lift = champion.accuracy - baseline.accuracy
        both = (challenger_answers, champion_answers)
        reached = max(Scores.of(a, batch.labels, weights=weights).accuracy for a in both)
        self.advice.labelled(lift, reached, None if weights is None else champion.rows)
        self.counts.log_loss_gain += log_loss_gain(
            batch.served, batch.baseline, batch.labels, weights
        )
        self.last = {
            "batch": self.counts.labelled_batches,
            "champion": champion.as_dict(),
            "shadow": baseline.as_dict(),
            "lift": lift,
            "cost": {"champion": cost_of(champion, costs), "shadow": cost_of(baseline, costs)},
        }

    def begin_batch(self) -> Scores:
        """A labelled batch begins; what the challenger's scores are before it."""
        self.counts.labelled_batches += 1
        self.actions = []
        return self.counts.challenger

    @property
    def scored(self) -> bool:
        """Whether `last` is of the newest labelled batch, whose labels spoke for some rows."""
        return bool(self.last.get("batch") == self.counts.labelled_batches)

    def end_batch(self, challenger_before: Scores) -> None:
        """A labelled batch ends: what was done, and what the challenger said of it."""
        if not self.scored:
            return
        self.last["action"] = ", ".join(self.actions)
        tried = self.counts.challenger - challenger_before
        self.last["challenger"] = tried.as_dict() if tried.rows else None

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {
            "counts": asdict(self.counts),
            "last": self.last,
            "delay": self.delay,
            "advice": self.advice.state(),
            "rules": self.rules.state(),
            "review": self.review,
            **{NEWEST + name: values for name, values in self.newest.state().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        counts = dict(state["counts"])
        self.counts = Counts(**{**counts, **{name: Scores(**counts[name]) for name in SCORED}})
        self.last, self.delay = state["last"], state["delay"]
        self.advice.restore(state["advice"])
        self.rules.restore(state["rules"])
        self.review = state.get("review", self.review)  # older releases knew none
        self.newest.restore(
            {k.removeprefix(NEWEST): v for k, v in state.items() if k.startswith(NEWEST)}
        )
