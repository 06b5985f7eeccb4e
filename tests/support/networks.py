"""Networks of users: a small convolutional one for striped images, and one for texts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bento_selfheal.embedding.images import Images
from bento_selfheal.embedding.texts import Texts
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package

SIDE = 12
CLASSES = ["across", "down", "none"]
HERE = str(Path(__file__).parent)
"""Where a server finds this module."""
WORDS = {"food": ["soup", "bread", "apple", "rice"], "sport": ["goal", "match", "race", "team"]}


class Stripes(nn.Module):
    """Says which way an image is striped."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.hidden = nn.Linear(128, 32)
        self.fc = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.hidden(self.features(x)).relu())
        return out


class Words(nn.Module):
    """Says what a text is about, by its words' places in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(64, 16)
        self.out = nn.Linear(16, 2)

    def forward(self, places: Tensor) -> dict[str, Tensor]:
        return {"logits": self.out(self.table(places))}


def places(texts: list[str]) -> Tensor:
    """Each text as three places in the table; a word's is the sum of its letters."""
    words = [[*text.split(), "", "", ""][:3] for text in texts]
    return torch.tensor([[sum(w.encode()) % 64 for w in text] for text in words])


def striped(
    n: int, seed: int = 0, inverted: bool = False
) -> tuple[list[Image.Image], NDArray[np.str_]]:
    """Images and which way each is striped."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(3, size=n)
    images = []
    for label in labels:
        wave = np.sin(np.arange(SIDE) * np.pi / 2 + draw.random())
        by = [wave[:, None], wave[None, :], np.zeros((1, 1))][label] + np.zeros((SIDE, SIDE))
        grey = 0.35 + 0.2 * by + draw.normal(0, 0.03, (SIDE, SIDE))
        grey = np.clip(1 - grey if inverted else grey, 0, 1)
        images.append(Image.fromarray(np.uint8(255 * np.repeat(grey[:, :, None], 3, axis=2))))
    return images, np.asarray(CLASSES)[labels]


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def trained(seed: int = 0) -> Stripes:
    """A network that knows stripes."""
    images, labels = striped(600, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Stripes()
        x = Images(size=(SIDE, SIDE)).gather(images)
        _train(network, x, torch.tensor([CLASSES.index(label) for label in labels]))
    return network


def packaged_stripes(name: str = "stripes", of: int = 0, **more: Any) -> Package:
    """That network, or one that was trained of another seed, packaged with a fact of each image."""
    images, labels = striped(400, seed=1)
    countries = np.random.default_rng(0).choice(["DE", "FR"], len(images)).tolist()
    return package_model(
        name, images, labels, inputs=Images(size=(SIDE, SIDE)), facts={"country": countries},
        model=trained(of), head="fc", **more,
    )  # fmt: skip


def texts(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of three words, and what they are about."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(list(WORDS), n).tolist()
    return [" ".join(draw.choice(WORDS[label], 3)) for label in labels], labels


def packaged_texts(name: str = "texts") -> Package:
    """A network for them, packaged."""
    said, labels = texts(300)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Words()
        _train(network, places(said), torch.tensor([label == "sport" for label in labels]).long())
    return package_model(
        name, said, labels, inputs=Texts(prepare="networks:places"), model=network, head="out"
    )


def _train(network: nn.Module, x: Tensor, y: Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        said = network(x)
        said = said["logits"] if isinstance(said, dict) else said
        nn.functional.cross_entropy(said, y).backward()
        optimizer.step()
