"""Counts and sums since the package was deployed."""

from __future__ import annotations

from dataclasses import dataclass

from bento_selfheal.scoring.scores import NOTHING, Scores


@dataclass
class Scoreboard:
    """What came in, what was done, and what it was worth."""

    predicted: int = 0
    batches: int = 0
    labelled_batches: int = 0
    heals: int = 0
    promotions: int = 0
    rollbacks: int = 0
    log_loss_gain: float = 0.0
    """Sum over labelled rows of shadow's log loss less champion's, in nats."""
    joined: int = 0
    refused: int = 0
    corrected: int = 0
    champion: Scores = NOTHING
    shadow: Scores = NOTHING
    challenger: Scores = NOTHING
