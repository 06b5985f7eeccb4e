"""The streams that more than one bench runs on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.demo import package_demo
from bento_selfheal.simulation.streams import Stream, article_rows, read_table

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("BENTO_SELFHEAL_DATA", ROOT.parent / "shared" / "data"))


def package_article(seed: int) -> Package:
    """The article's classifier, which watches V14 alone."""
    return package_demo(seed, ["V14"])


def article_stream(seed: int, drift: float, delay: int) -> Stream:
    """25 batches of 100 rows drawn from the article's pool of 1,000 drifted rows."""
    generator = np.random.default_rng([seed, 7])
    pool = article_rows(1000, drift, generator)
    picked = np.concatenate([generator.choice(1000, 100) for _ in range(25)])
    return Stream(pool.rows[picked], pool.labels[picked].astype(np.int64), delay)


def elec() -> tuple[Table, Table]:
    """Elec2: the first tenth, and the rest."""
    return read_table(DATA / "elec.csv", "class").split(0.1)


def ten_sources(n: int, generator: np.random.Generator) -> list[str]:
    """Who gives each of ``n`` labels: one of ten, at random."""
    return [f"s{i}" for i in generator.integers(0, 10, n)]
