"""How long, how often and towards what a challenger trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.model import SQUARE

LEAST_OWN = 0.05
"""Share of labels in the targets under which there are no more steps, and no less averaging."""
MOST_STEPS = 100
"""Most steps in a round, whatever the anchor and the labels ask for: it ends before the next
labels."""


@dataclass(frozen=True)
class Schedule:
    """What follows from the settings for each round of training."""

    parameters: HealParameters

    def learning_rate(self, width: int) -> float:
        """Adam's learning rate for a layer of this width.

        A step of Adam moves every weight equally far, so what it moves an answer by grows with the
        number of weights behind it.
        """
        return self.parameters.heal_lr * min(1.0, SQUARE / width)

    def steps(self, rounds: int, rows_per_label: float = 1.0, anchor_weight: float = 0.0) -> int:
        """Minibatch steps of the round after so many rounds of a line.

        The more of a step's targets comes from the anchor, the more steps: labels are trained on
        as often as ever, and soft labels cannot be learned by heart.
        """
        p = self.parameters
        own = max(1 - anchor_weight, LEAST_OWN)
        wanted = math.ceil(p.replay_rate * p.heal_rows * rows_per_label / own)
        return max(min(wanted, MOST_STEPS), p.replay_first // (1 + rounds))

    def average_decay(self, rows_per_label: float = 1.0, anchor_weight: float = 0.0) -> float:
        """What one round keeps of the moving average of the weights."""
        p = self.parameters
        own = max(min(1.0, 2 * (1 - anchor_weight)), LEAST_OWN)
        return float(p.replay_average ** (p.heal_rows * rows_per_label / 100 / own))

    def anchor_weight(self, seen: float) -> float:
        """Share of the anchor in what a line trains towards that has seen so many labels outside
        the commonest class."""
        p = self.parameters
        if p.anchor_labels == 0:
            return 0.0
        return max(1 / (1 + (seen / p.anchor_labels) ** 2), p.anchor_floor)

    def anchor_half_life(self, rarest: float, rows_per_label: float = 1.0) -> float:
        """Half-life in labels of what the anchor is fitted to, when the rarest class has this
        share of them.

        Few labels reach far back: theirs is longer in rows and shorter in labels.
        """
        p = self.parameters
        long = max(p.anchor_half_life, p.anchor_rare / max(rarest, 1e-9))
        return float(long / rows_per_label**0.75)

    def half_life(self, rarest: float) -> float:
        """Half-life in labels of what is trained on, when the rarest class has this share."""
        p = self.parameters
        return max(p.replay_half_life, p.replay_rare / max(rarest, 1e-9))

    def class_weight(self, fraud_share: float) -> float:
        """Class weight of the article's heal for a share of fraud among conflicts."""
        p = self.parameters
        if fraud_share < p.pos_weight_floor:
            return 1.0
        over = fraud_share - p.pos_weight_floor
        return min(p.pos_weight_base + p.pos_weight_slope * over, p.pos_weight_max)
