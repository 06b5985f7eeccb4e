"""The demo's model and its stream."""

from __future__ import annotations

import numpy as np

from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.rules import Rule
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, Stream, article_rows

DEMO_MODEL = "selfheal-demo"
DEMO_RULE = Rule(feature="V14", operator="<", value=-1.5)


def package_demo(seed: int) -> Package:
    """Train the article's classifier on its clean data and package it."""
    table = article_rows(5000, 0.0, np.random.default_rng(seed))
    return package_model(
        DEMO_MODEL,
        table.rows,
        table.labels,
        features=ARTICLE_FEATURES,
        sensitive=["V14"],
        rules=[DEMO_RULE],
        seed=seed,
    )


def demo_stream(batches: int, clean: int, drift: float, seed: int) -> Stream:
    """A few clean batches, then drifted ones; labels come one batch late."""
    generator = np.random.default_rng([seed, 1])
    parts = [
        article_rows(100 * clean, 0.0, generator),
        article_rows(100 * (batches - clean), drift, generator),
    ]
    return Stream(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.labels for part in parts]).astype(np.int64),
        delay=100,
    )
