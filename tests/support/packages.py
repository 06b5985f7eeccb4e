"""Packaged models of the tests' own."""

from __future__ import annotations

import numpy as np

from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows


def other_package(name: str) -> Package:
    """A model that is not the demo's, on the article's features."""
    table = article_rows(400, 0.0, np.random.default_rng(8))
    return package_model(name, table.rows, table.labels, features=ARTICLE_FEATURES,
                         sensitive=["V14"], training=Training(epochs=2), seed=3)  # fmt: skip
