"""The demo's model and its stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.rules import Rule
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, Stream, article_rows

DEMO_MODEL = "selfheal-demo"
DEMO_RULE = Rule(feature="V14", operator="<", value=-1.5)
NEW_SIGNS = {"F2": 1.5, "F8": -1.5}
"""Features that tell fraud after the drift, and by how many standard deviations."""


def package_demo(seed: int, sensitive: Sequence[str] | None = None) -> Package:
    """Train the article's classifier on its clean data and package it.

    Args:
        seed: Seed of the data and of the training.
        sensitive: Features to watch; all of them by default, as nobody knows what fraudsters will
            try next. The article watches V14 alone.
    """
    table = article_rows(5000, 0.0, np.random.default_rng(seed))
    return package_model(
        DEMO_MODEL,
        table.rows,
        table.labels,
        features=ARTICLE_FEATURES,
        sensitive=sensitive,
        rules=[DEMO_RULE],
        seed=seed,
    )


def demo_stream(batches: int, clean: int, drift: float, seed: int) -> Stream:
    """A few clean batches, then a fraud pattern that has moved; labels come one batch late.

    Before, V14 alone tells fraud. Afterwards V14 of normal rows is ``drift`` lower, so that it
    tells little at 2.2 and the opposite at 3.5, and the features in `NEW_SIGNS` tell instead.
    """
    generator = np.random.default_rng([seed, 1])
    parts = [
        article_rows(100 * clean, 0.0, generator),
        _moved(article_rows(100 * (batches - clean), drift, generator)),
    ]
    return Stream(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.labels for part in parts]).astype(np.int64),
        delay=100,
    )


def _moved(table: Table) -> Table:
    """The article's drifted rows, on whose frauds other features bear a sign now."""
    rows, fraud = table.rows.copy(), table.labels == 1
    for name, shift in NEW_SIGNS.items():
        rows[fraud, table.features.index(name)] += shift
    return Table(table.features, rows, table.labels)
