"""A network of a user's own that takes small tensors, to see what the API page says of one."""

from __future__ import annotations

import numpy as np
import torch
from after_change import step
from torch import Tensor, nn

from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package

SHAPE, HIDDEN, SEED = (2, 3), 16, 42


class Small(nn.Module):
    """A hidden layer in front of the head `fc`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(SHAPE[0] * SHAPE[1], HIDDEN)
        self.fc = nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(n, 3)``."""
        out: Tensor = self.fc(torch.relu(self.hidden(x.flatten(1))))
        return out


def packaged_small(name: str) -> Package:
    """It, trained on which of three columns has the largest sum, and packaged."""
    inputs = np.random.default_rng(SEED).normal(size=(600, *SHAPE)).astype(np.float32)
    labels = inputs.sum(axis=1).argmax(axis=1)
    torch.manual_seed(SEED)
    network = Small()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        step(network, optimizer, torch.from_numpy(inputs), labels)
    return package_model(name, inputs, labels, model=network, head="fc")
