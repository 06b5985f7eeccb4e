"""Streams with a planted drift whose cause is known: of a table, of images and of texts.

Every row of a world is drawn by itself from one population, for training, reference set and stream
alike, so that nothing but the plant moves. A plant changes rows before their class is drawn
(covariate), or how the class follows from them (concept).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from topics_file import FILE, TOPICS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bento_selfheal import Images, Texts
from bento_selfheal.embedding.source import Source
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.opening import open_embedder
from bento_selfheal.packaging.package import Package

Rows = NDArray[np.float32]
Labels = NDArray[np.int64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Plant:
    """A drift that is planted.

    Args:
        column: The input that it is in.
        of: Kind of that column: number, category, missing, image or text.
        concept: Whether the meaning changes, not the rows.
        change: Name of the change, as the world knows it.
    """

    column: str
    of: str
    concept: bool
    change: str


# -- a table ---------------------------------------------------------------------------------------

LEVELS = {"region": 5, "channel": 4, "product": 5}
GAPS = {"rate": 0.25, "visits": 0.3, "age": 0.25}
NUMBERS = ("amount", "age", "rate", "visits")
TABLE = (
    *(Column(name=name, kind=Kind.NUMBER, nullable=True) for name in NUMBERS),
    *(
        Column(name=name, kind=Kind.CATEGORY, levels=tuple(f"{name[0]}{i}" for i in range(n)))
        for name, n in LEVELS.items()
    ),
    Column(name="member", kind=Kind.BOOLEAN),
)
PLACE = {column.name: i for i, column in enumerate(TABLE)}
WEIGHTS = {"amount": 1.2, "age": 1.2, "rate": -1.0, "visits": 1.2}
GAP_WEIGHT = 2.5
LEVEL_WEIGHTS = {5: (1.8, -1.8, 0.0, 0.6, -0.6), 4: (1.8, -1.8, 0.4, -0.4)}
SHARES = {5: (0.3, 0.3, 0.2, 0.1, 0.1), 4: (0.35, 0.35, 0.2, 0.1)}

TABLE_PLANTS = (
    Plant("amount", "number", False, "shift"),
    Plant("age", "number", False, "unit"),
    Plant("visits", "number", False, "saturated"),
    *(Plant(name, "number", True, "turned") for name in ("amount", "age", "visits")),
    Plant("region", "category", False, "more"),
    Plant("channel", "category", False, "new"),
    Plant("product", "category", False, "gone"),
    *(Plant(name, "category", True, "swapped") for name in LEVELS),
    Plant("rate", "missing", False, "gaps"),
    Plant("amount", "missing", False, "gaps"),
    Plant("visits", "missing", False, "none"),
    *(Plant(name, "missing", True, "gap turned") for name in GAPS),
)


def table(n: int, draw: Rng, plant: Plant | None = None) -> tuple[Rows, Labels]:
    """Rows as codes ``(n, 8)``, and their classes."""
    rows = np.zeros((n, len(TABLE)), dtype=np.float32)
    common = draw.normal(size=n)
    for name in NUMBERS:
        # Numbers go together a little, as those of real tables do.
        rows[:, PLACE[name]] = 2 + 0.5 * common + np.sqrt(0.75) * draw.normal(size=n)
    for name, levels in LEVELS.items():
        rows[:, PLACE[name]] = draw.choice(levels, n, p=SHARES[levels])
    rows[:, PLACE["member"]] = draw.random(n) < 0.4
    gaps = {name: draw.random(n) < share for name, share in GAPS.items()}
    gaps["amount"] = np.zeros(n, dtype=bool)
    if plant and not plant.concept:
        _moved(rows, gaps, plant, draw)
    odds = _odds(rows, gaps, plant if plant and plant.concept else None)
    for name, gap in gaps.items():
        rows[gap, PLACE[name]] = np.nan
    return rows, (draw.random(n) < 1 / (1 + np.exp(-odds))).astype(np.int64)


def _moved(rows: Rows, gaps: dict[str, NDArray[np.bool_]], plant: Plant, draw: Rng) -> None:
    own, n = rows[:, PLACE[plant.column]], len(rows)
    if plant.change == "shift":
        own += 1.5
    elif plant.change == "unit":
        own *= 1.8
    elif plant.change == "saturated":
        own[draw.random(n) < 0.6] = 4.0
    elif plant.change == "more":
        own[draw.random(n) < 0.25] = 4
    elif plant.change == "new":
        own[draw.random(n) < 0.2] = LEVELS[plant.column]
    elif plant.change == "gone":
        own[own == 0] = 2
    elif plant.change == "gaps":
        gaps[plant.column] = gaps[plant.column] | (draw.random(n) < 0.15)
    else:
        gaps[plant.column] = gaps[plant.column] & (draw.random(n) < 0.1)


def _odds(
    rows: Rows, gaps: dict[str, NDArray[np.bool_]], plant: Plant | None
) -> NDArray[np.float64]:
    """Log odds of the second class."""
    out = np.zeros(len(rows))
    for name, weight in WEIGHTS.items():
        own = plant if plant and plant.column == name else None
        turned = -1 if own and own.change == "turned" else 1
        gap = -1 if own and own.change == "gap turned" else 1
        known = turned * weight * (rows[:, PLACE[name]] - 2)
        out += np.where(gaps[name], gap * GAP_WEIGHT * np.sign(weight), known)
    for name, levels in LEVELS.items():
        weights = np.asarray([*LEVEL_WEIGHTS[levels], 0.0])
        if plant and plant.column == name:
            weights[[0, 1]] = weights[[1, 0]]
        out += weights[rows[:, PLACE[name]].astype(np.int64)]
    return out


def table_package(seed: int) -> Package:
    """A model of the table."""
    rows, labels = table(5000, np.random.default_rng([seed, 1]))
    return package_model(
        "causes-table", rows, labels, features=[c.name for c in TABLE], columns=TABLE, seed=seed
    )


# -- images and texts, with facts ------------------------------------------------------------------

FACTS = {"camera": ("a", "b", "c"), "exposure": None}
SIDE, DIGITS, HIDDEN = 16, 10, 48
SOURCES: dict[str, Source] = {
    "image": Images(size=(SIDE, SIDE), channels=1),
    "text": Texts(prepare="causes_worlds:tokens"),
}
IMAGE_PLANTS = (
    Plant("image", "image", False, "noisy"),
    Plant("image", "image", False, "dark"),
    Plant("camera", "image", False, "fact more"),
    Plant("image", "image", True, "swapped"),
    Plant("image", "image", True, "merged"),
    Plant("camera", "image", True, "fact turned"),
)
TEXT_PLANTS = (
    Plant("text", "text", False, "short"),
    Plant("text", "text", False, "boilerplate"),
    Plant("camera", "text", False, "fact more"),
    Plant("text", "text", True, "swapped"),
    Plant("text", "text", True, "merged"),
    Plant("camera", "text", True, "fact turned"),
)
"""A text's fact is called as an image's is."""


class Pixels(nn.Module):
    """A convolution, and a hidden vector in front of the head `fc`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Linear(24 * (SIDE // 4) ** 2, HIDDEN)
        self.fc = nn.Linear(HIDDEN, DIGITS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(n, 10)``."""
        out: Tensor = self.fc(torch.relu(self.hidden(self.features(x))))
        return out


def images(n: int, draw: Rng, change: str = "") -> tuple[Any, Labels]:
    """Digits that are moved and a little noisy, as bytes ``(n, 16, 16)``, and their classes."""
    found = load_digits()
    chosen = draw.integers(len(found.images), size=n)
    out = np.kron(found.images[chosen] / 16, np.ones((1, 2, 2)))
    shifts = draw.integers(-1, 2, size=(n, 2))
    out = np.stack([np.roll(one, shift, (0, 1)) for one, shift in zip(out, shifts, strict=True)])
    out = out * draw.uniform(0.8, 1.2, (n, 1, 1)) + draw.normal(0, 0.05, out.shape)
    if change == "noisy":
        out = out + draw.normal(0, 0.35, out.shape)
    elif change == "dark":
        out = out * 0.5
    return (255 * out.clip(0, 1)).astype(np.uint8), found.target[chosen].astype(np.int64)


@cache
def words() -> list[tuple[Sequence[str], NDArray[np.float64]]]:
    """By topic, its words and how common each is."""
    out = []
    with FILE.open(newline="") as file:
        found = [(row["topic"], row["description"].lower().split()) for row in csv.DictReader(file)]
    for topic in TOPICS:
        own, counts = np.unique(
            [w for name, text in found if name == topic for w in text], return_counts=True
        )
        out.append((own.tolist(), counts / counts.sum()))
    return out


def texts(n: int, draw: Rng, change: str = "") -> tuple[list[str], Labels]:
    """Texts whose words are drawn from those that Debian describes programs of a topic with."""
    topics, out = draw.integers(len(TOPICS), size=n), []
    for topic in topics:
        own, shares = words()[topic]
        count = int(draw.integers(3, 6) if change == "short" else draw.integers(6, 15))
        said = [own[i] for i in draw.choice(len(own), count, p=shares)]
        out.append(" ".join(["release candidate of"] * (change == "boilerplate") + said))
    return out, topics.astype(np.int64)


class Words(nn.Module):
    """Mean of the vectors of a text's words, and a hidden vector in front of the head `fc`."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(4096, 64)
        self.hidden = nn.Linear(64, HIDDEN)
        self.fc = nn.Linear(HIDDEN, len(TOPICS))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, ``(n, topics)``."""
        out: Tensor = self.fc(torch.relu(self.hidden(self.words(tokens))))
        return out


def tokens(given: list[str]) -> Tensor:
    """Numbers of words, ``(n, 20)``; of a shorter text, its words again."""
    split = [[sum(map(ord, w)) * 31 % 4093 + 1 for w in text.split()] for text in given]
    return torch.tensor([(one * 20)[:20] for one in split])


def trained(network: nn.Module, called: Tensor, labels: Labels, seed: int) -> nn.Module:
    """The network, trained on inputs as it is called with them."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(12):
        for some in torch.randperm(len(called), generator=shuffle).split(64):
            optimizer.zero_grad()
            loss = cross_entropy(network(called[some]), torch.from_numpy(labels)[some])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network


def facts(n: int, draw: Rng, change: str = "") -> dict[str, Any]:
    """What is known beside each input."""
    camera = draw.choice(["a", "b", "c"], n, p=[0.4, 0.35, 0.25])
    if change == "fact more":
        camera[draw.random(n) < 0.25] = "c"
    return {"camera": camera.tolist(), "exposure": draw.normal(size=n).tolist()}


def meant(labels: Labels, beside: dict[str, Any], change: str, classes: int) -> Labels:
    """Classes as a plant has them: two swapped, one in another, or all of a fact's turned."""
    out = labels.copy()
    if change == "swapped":
        out[labels == 1], out[labels == 4] = 4, 1
    elif change == "merged":
        out[np.isin(labels, (2, 3))] = 5
    elif change == "fact turned":
        own = np.asarray(beside["camera"]) == "b"
        out[own] = (labels[own] + 1) % classes
    return out


def network_world(
    kind: str, seed: int
) -> tuple[Package, Callable[[int, Rng, Plant | None], tuple[Rows, Labels]]]:
    """A package of images or texts with facts, and how its rows are drawn."""
    make = images if kind == "image" else texts
    draw = np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    taught, labels = make(4000, draw)
    source = SOURCES[kind]
    called = source.ready([source.read(one) for one in taught])
    network = trained(Pixels() if kind == "image" else Words(), called, labels, seed)
    fresh, truth = make(5000, draw)
    package = package_model(
        f"causes-{kind}", list(fresh), truth, model=network, head="fc", inputs=source,
        facts=facts(5000, draw), seed=seed,
    )  # fmt: skip
    embedder = open_embedder(package)
    if embedder is None:
        raise RuntimeError("the package has no network")
    classes = len(package.info.classes)
    embed, levels = embedder.embed, package.info.columns[-2].levels

    def rows(n: int, draw: Rng, plant: Plant | None = None) -> tuple[Rows, Labels]:
        change = plant.change if plant else ""
        given, labels = make(n, draw, change)
        beside = facts(n, draw, change)
        codes = [[levels.index(c), e] for c, e in zip(*beside.values(), strict=True)]
        hidden = embed([source.read(one) for one in given])
        return np.concatenate([hidden, codes], axis=1).astype(np.float32), meant(
            labels, beside, change, classes
        )

    return package, rows
