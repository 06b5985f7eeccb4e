"""What heals of an estimator: an adapter over its log odds and the scaled inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bento_selfheal.embedding.adapted import silent_layer
from bento_selfheal.estimators.packaged import Estimated
from bento_selfheal.inputs.encoder import Encoder
from bento_selfheal.model import InputsBeside, SelfHealingModel


class OddsAndInputs(InputsBeside):
    """Log odds, which are the first columns of a row, and the scaled inputs of the codes behind.

    Args:
        scale: The encoder of the codes.
        odds: How many columns are log odds.
    """

    def __init__(self, scale: Encoder, odds: int) -> None:
        super().__init__(scale)
        self.odds = odds

    def scaled(self, x: Tensor) -> Tensor:
        """Scaled inputs ``(n, inputs)`` of rows ``(n, odds + columns)``."""
        return super().scaled(x[:, self.odds :])

    def forward(self, x: Tensor) -> Tensor:
        """Hidden representation ``(n, odds + inputs)``."""
        return torch.cat([x[:, : self.odds], self.scaled(x)], dim=1)


def adapted_odds(embedding: Mapping[str, Any]) -> SelfHealingModel:
    """The part of a package that a healing runner needs: nothing of the estimator.

    The adapter changes nothing yet, and the head hands on the log odds.

    Args:
        embedding: JSON values of an `Estimated`.
    """
    noted = Estimated.model_validate(embedding)
    encoder = Encoder(noted.columns)
    width = noted.width + len(encoder.mean)
    head = nn.Linear(width, noted.width, bias=False)
    nn.init.eye_(head.weight)
    return SelfHealingModel(OddsAndInputs(encoder, noted.width), silent_layer(width), head, "logit")
