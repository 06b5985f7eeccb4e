"""Generated streams of many kinds, each with drift that labels can show.

Every stream is a function of its seed. None is a copy of a public one, and no default was chosen
on one of them alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.inputs.labelled_table import Table

Matrix = NDArray[np.float64]
TRAIN = 0.1
"""Share of each stream that the model is trained on; nothing moves within it."""


def sparse_and_wide(seed: int) -> Table:
    """500 features, of which one in fifty is not 0, as words are; the relation wanders."""
    generator = np.random.default_rng([seed, 1])
    n, width = 6000, 500
    rows = generator.exponential(size=(n, width)) * (generator.random((n, width)) < 0.02)
    first, last = generator.normal(size=(2, width))
    return _table(rows, _drawn(_along(rows, first, last, _progress(n)) * 2, generator))


def short_with_four_classes(seed: int) -> Table:
    """1,600 rows of four classes, whose centres move."""
    return _clusters(np.random.default_rng([seed, 2]), 1600, 10, 4, travel=2.5)


def cycles(seed: int) -> Table:
    """Two relations take turns every 1,500 rows."""
    generator = np.random.default_rng([seed, 3])
    rows = generator.normal(size=(12_000, 8))
    either = rows @ generator.normal(size=(8, 2))
    which = (np.arange(len(rows)) // 1500) % 2
    return _table(rows, _drawn(2 * either[np.arange(len(rows)), which], generator))


def one_class_rare(seed: int) -> Table:
    """Three rows in a hundred are of the second class, and look more and more like the others in
    one feature and less in another."""
    generator = np.random.default_rng([seed, 4])
    n = 12_000
    labels = (generator.random(n) < 0.03).astype(np.int64)
    rows, t = generator.normal(size=(n, 10)), _progress(n)
    rows[:, 0] += labels * 2.5 * (1 - t)
    rows[:, 1] += labels * 2.5 * t
    return _table(rows, labels)


def features_begin_to_matter(seed: int) -> Table:
    """Three features decide at first; three that were noise take over."""
    generator = np.random.default_rng([seed, 5])
    n = 9000
    rows, t = generator.normal(size=(n, 10)), _progress(n)
    old, new = rows[:, :3].sum(axis=1), rows[:, 3:6].sum(axis=1)
    return _table(rows, _drawn(1.5 * ((1 - t) * old + t * new), generator))


def moving_clusters(seed: int) -> Table:
    """Five classes in eight dimensions, whose centres move."""
    return _clusters(np.random.default_rng([seed, 6]), 9000, 8, 5, travel=3.0)


def abrupt_turn(seed: int) -> Table:
    """After half of the stream the relation of half of the features is reversed."""
    generator = np.random.default_rng([seed, 7])
    n = 9000
    rows, weights = generator.normal(size=(n, 8)), generator.normal(size=8)
    turned = np.where(np.arange(8) % 2, weights, -weights)
    return _table(rows, _drawn(2 * _along(rows, weights, turned, _progress(n) > 0.5), generator))


def slow_rotation(seed: int) -> Table:
    """A hyperplane in ten dimensions turns by a right angle."""
    generator = np.random.default_rng([seed, 8])
    n = 9000
    rows, (first, last) = generator.normal(size=(n, 10)), generator.normal(size=(2, 10))
    last -= first * (first @ last) / (first @ first)
    angle = _progress(n) * np.pi / 2
    odds = np.cos(angle) * (rows @ first) + np.sin(angle) * (rows @ last)
    return _table(rows, _drawn(1.5 * odds, generator))


def class_share_moves(seed: int) -> Table:
    """Two classes that stay where they are; the share of the second swings between a tenth and nine
    tenths, every 2,000 rows, and is half while the model is trained."""
    generator = np.random.default_rng([seed, 9])
    n, width = 12_000, 8
    since = np.maximum(np.arange(n) - TRAIN * n, 0)
    share = 0.5 + 0.4 * np.sin(since / 2000 * 2 * np.pi)
    labels = (generator.random(n) < share).astype(np.int64)
    centres = generator.normal(size=(2, width)) * 0.5
    return _table(centres[labels] + generator.normal(size=(n, width)), labels)


def sensors_wander(seed: int) -> Table:
    """Every feature has an offset of its own that wanders; only where a row is beside the rows of
    its time tells its class."""
    generator = np.random.default_rng([seed, 10])
    n, width = 12_000, 8
    steps = generator.normal(size=(n, width)) * 0.06
    steps[: int(TRAIN * n)] = 0
    signal, weights = generator.normal(size=(n, width)), generator.normal(size=width)
    return _table(signal + steps.cumsum(axis=0), _drawn(2 * signal @ weights, generator))


KINDS: dict[str, Callable[[int], Table]] = {
    "sparse and wide": sparse_and_wide,
    "short, four classes": short_with_four_classes,
    "cycles": cycles,
    "one class rare": one_class_rare,
    "features begin to matter": features_begin_to_matter,
    "moving clusters": moving_clusters,
    "abrupt turn": abrupt_turn,
    "slow rotation": slow_rotation,
    "class share moves": class_share_moves,
    "sensors wander": sensors_wander,
}


def _progress(n: int) -> Matrix:
    """0 while the model is trained, then evenly up to 1, ``(n,)``."""
    return np.clip((np.arange(n) / n - TRAIN) / (1 - TRAIN), 0, 1)


def _along(rows: Matrix, first: Matrix, last: Matrix, t: Matrix | NDArray[np.bool_]) -> Matrix:
    """Log odds on the way from one relation to another, ``(n,)``."""
    return np.asarray((1 - t) * (rows @ first) + t * (rows @ last))


def _drawn(odds: Matrix, generator: np.random.Generator) -> NDArray[np.int64]:
    """Labels drawn by log odds, ``(n,)``."""
    return (generator.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(np.int64)


def _clusters(
    generator: np.random.Generator, n: int, width: int, classes: int, travel: float
) -> Table:
    """Normal clusters, one a class, each on its way to another place."""
    start = generator.normal(size=(classes, width)) * 0.7
    way = generator.normal(size=(classes, width)) * travel / np.sqrt(width)
    labels = generator.integers(0, classes, n)
    moved = start[labels] + _progress(n)[:, None] * way[labels] * 2
    return _table(moved + generator.normal(size=(n, width)), labels)


def _table(rows: Matrix, labels: NDArray[np.int64]) -> Table:
    return Table([f"x{i}" for i in range(rows.shape[1])], rows.astype(np.float32), labels)
