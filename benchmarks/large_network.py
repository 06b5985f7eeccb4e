"""A network of 25 million weights, whose module imports torch alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, DEPTH, HIDDEN, FEATURES = 2500, 4, 64, 10


class Large(nn.Module):
    """Four layers of 6.25 million weights each, and a hidden vector in front of the head `fc`."""

    def __init__(self) -> None:
        super().__init__()
        layers = [part for _ in range(DEPTH) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
        self.features = nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.ReLU(), *layers)
        self.hidden = nn.Linear(WIDTH, HIDDEN)
        self.fc = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(n, 1)``."""
        out: Tensor = self.fc(torch.relu(self.hidden(self.features(x))))
        return out
