"""Scales features, and compresses what lies far outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MOSTLY = 0.5
"""Share of rows with one and the same value over which a feature is sparse."""


class Standardize(nn.Module):
    """Scale features to the spread of the training data and compress what lies far outside.

    Unscaled, a drifted feature would saturate the layers behind it; clipped, it would lose the
    order of its values. So it grows as a logarithm beyond ``limit``. A feature that was constant
    in the training data is only shifted, not divided by its spread of 0.

    Args:
        mean: Means, ``(features,)``.
        std: Population standard deviations, ``(features,)``.
        limit: Magnitude up to which values pass unchanged, in standard deviations: one for all
            features, or one for each, ``(features,)``.
    """

    mean: Tensor
    std: Tensor
    limit: Tensor

    def __init__(self, mean: Tensor, std: Tensor, limit: float | Tensor = 3.0) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", torch.where(std > 0, std, torch.ones_like(std)))
        self.register_buffer("limit", torch.as_tensor(limit).to(mean).expand_as(mean).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Scaled rows, ``(n, features)``."""
        z = (x - self.mean) / self.std
        beyond = (z.abs() - self.limit).clamp(0, torch.finfo(z.dtype).max)  # a spread may overflow
        return z.clamp(-self.limit, self.limit) + z.sign() * torch.log1p(beyond)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take a state without limits, too: earlier releases had one limit for all features."""
        state_dict.setdefault(f"{prefix}limit", self.limit)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def fit(self, rows: Tensor) -> None:
        """Take the scale from rows ``(n, features)``.

        Where most rows have one and the same value, as in counts of words, the other values are no
        outliers, and how large each is says something: there, all of these rows pass unchanged.
        """
        # The spread of a constant is 0, whatever rounding makes of it.
        moves = rows.amax(dim=0) > rows.amin(dim=0)
        spread = rows.std(dim=0, correction=0) * moves
        fitted = Standardize(rows.mean(dim=0), spread, self.limit)
        usual = rows == rows.median(dim=0).values
        most = rows.masked_fill(usual, -torch.inf).amax(dim=0)
        least = rows.masked_fill(usual, torch.inf).amin(dim=0)
        sparse = (usual.float().mean(dim=0) > MOSTLY) & (most > least)
        farthest = ((rows - fitted.mean) / fitted.std).abs().amax(dim=0)
        fitted.limit = torch.where(sparse, farthest.maximum(fitted.limit), fitted.limit)
        for name, value in fitted.named_buffers():
            getattr(self, name).copy_(value)
