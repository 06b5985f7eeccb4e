"""A mixed table: numbers with gaps, categories, a switch, dates, and what they say of a class."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import count
from typing import Any

import numpy as np
from conftest import wait_for

from bento_selfheal.client import Client
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package

COLUMNS = (
    Column(name="speed", kind=Kind.NUMBER, nullable=True),
    Column(name="engines", kind=Kind.INTEGER),
    Column(name="at night", kind=Kind.BOOLEAN, nullable=True),
    Column(name="sky", kind=Kind.CATEGORY, nullable=True, levels=("clear", "fog", "rain")),
    Column(name="day", kind=Kind.DATETIME, nullable=True, origin=20_000.0),
)
SCHEMA = Schema(COLUMNS)
NAMES = [column.name for column in COLUMNS]


def flights(n: int, seed: int = 0, turned: bool = False) -> tuple[list[list[Any]], list[str]]:
    """Rows as a user has them, and whether each flight was late; after the turn it is rain that
    delays, and no longer fog."""
    draw, rows, labels = np.random.default_rng(seed), [], []
    for i in range(n):
        speed, sky = float(draw.normal(150, 30)), str(draw.choice(["clear", "fog", "rain"]))
        odds = (3.0 if sky == ("rain" if turned else "fog") else -1.5) + (150 - speed) / 30
        gap = draw.random() < 0.2
        day = (date(2026, 1, 1) + timedelta(days=i % 300)).isoformat()
        rows.append(
            [None if gap else speed, int(draw.integers(1, 5)), bool(draw.random() < 0.5), sky, day]
        )
        labels.append("late" if draw.random() < 1 / (1 + np.exp(-odds)) else "in time")
    return rows, labels


def codes(rows: list[list[Any]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rows as the model takes them."""
    return SCHEMA.codes(rows)


def packaged(name: str = "flights", n: int = 1000) -> Package:
    """A model of such flights."""
    rows, labels = flights(n)
    return package_model(name, codes(rows), labels, features=NAMES, columns=COLUMNS)


def learn_the_turn(client: Client) -> None:
    """Send flights after the turn, with labels, until a service answers most of them rightly, by
    what it has promoted; before, it did not."""
    seeds = count(1000)

    def healed() -> bool:
        rows, labels = flights(200, seed=next(seeds), turned=True)
        said = client.predict(rows)
        items = [
            {"prediction_id": i, "label": y}
            for i, y in zip(said.prediction_ids, labels, strict=True)
        ]
        assert client.feedback(items).accepted == 200
        return sum(a == b for a, b in zip(said.decisions, labels, strict=True)) > 0.75 * 200

    assert not healed()
    wait_for(healed, "what changed to be learned", 120)
    assert client.status()["promotions"] >= 1
