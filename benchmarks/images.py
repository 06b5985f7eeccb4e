"""Images that change from the middle on: what was served beside a network that learns all over.

scikit-learn's digits as 3 x 32 x 32. The first two fifths train a small convolutional network of
hidden width 64; of the others, 4,000 are drawn, each moved by up to three pixels, and the second
half is noisy, inverted or rotated. Beside it a network fits all its weights: see `after_change`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from after_change import SEED, accuracies, finetuned, frozen_and_served, step
from numpy.typing import NDArray
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from torch import Tensor, nn

from bento_selfheal.packaging.build import package_model

SIDE, HIDDEN, CLASSES = 32, 64, 10
TRAIN = 0.4
STREAM, MOVED = 4000, 3
EPOCHS, BATCH = 30, 64
CHANGES = ("noisy", "inverted", "rotated")
Pixels = NDArray[np.float32]


class Convolutional(nn.Module):
    """Two convolutions, and a hidden vector in front of the head `fc`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Linear(512, HIDDEN)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(n, 10)``."""
        out: Tensor = self.fc(torch.relu(self.hidden(self.features(x))))
        return out


def digits() -> tuple[Pixels, NDArray[np.int64]]:
    """All digits from 0 to 1, ``(n, 3, 32, 32)``, and which ones they are."""
    found = load_digits()
    large = np.kron(found.images / 16, np.ones((4, 4))).astype(np.float32)
    return np.repeat(large[:, None], 3, axis=1), found.target.astype(np.int64)


def moved(
    images: Pixels, labels: NDArray[np.int64], count: int
) -> tuple[Pixels, NDArray[np.int64]]:
    """Images that are drawn and moved by some pixels, with their labels."""
    draw = np.random.default_rng(SEED)
    chosen = draw.integers(len(images), size=count)
    shifts = draw.integers(-MOVED, MOVED + 1, size=(count, 2))
    rolled = [np.roll(images[i], shift, (1, 2)) for i, shift in zip(chosen, shifts, strict=True)]
    return np.stack(rolled), labels[chosen]


def changed(how: str, images: Pixels) -> Pixels:
    """What the images become."""
    if how == "inverted":
        return 1 - images
    if how == "rotated":
        return np.asarray(rotate(images, 60, axes=(2, 3), reshape=False, order=1))
    noise = np.random.default_rng(SEED).normal(0, 0.5, images.shape)
    return np.clip(images + noise, 0, 1).astype(np.float32)


def trained(images: Pixels, labels: NDArray[np.int64]) -> Convolutional:
    """The network, trained on the first images."""
    torch.manual_seed(SEED)
    network = Convolutional()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x = torch.from_numpy(images)
    for _ in range(EPOCHS):
        for some in torch.randperm(len(x)).split(BATCH):
            step(network, optimizer, x[some], labels[some.numpy()])
    return network


def digits_that_change(how: str) -> dict[str, Any]:
    """Accuracy after the change: frozen, served, and of all weights finetuned."""
    images, labels = digits()
    start = int(TRAIN * len(images))
    network = trained(images[:start], labels[:start])
    package = package_model("digits", images[:start], labels[:start], model=network, head="fc")
    stream, truth = moved(images[start:], labels[start:], STREAM)
    middle = STREAM // 2
    stream[middle:] = changed(how, stream[middle:])
    answers = frozen_and_served(package, list(stream), truth)
    peer = finetuned(network, _stacked, stream, truth)
    return {"images": STREAM - middle, **accuracies(middle, *answers, peer)}


def _stacked(images: list[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(images))
