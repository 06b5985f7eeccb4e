"""A network as a user has it: nothing in it knows of healing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Digits(nn.Module):
    """Two convolutions, a hidden layer, and ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Linear(512, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(n, 10)``, of images ``(n, 1, 16, 16)`` from 0 to 1."""
        out: Tensor = self.fc(torch.relu(self.hidden(self.features(x))))
        return out
