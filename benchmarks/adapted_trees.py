"""Boosted trees of XGBoost behind which an adapter heals, and the same trees trained anew.

The first part of a file trains the trees, with XGBoost's defaults, and packages them. Those trained
anew learn all labels known so far after each 1,000 rows, from the same codes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from xgboost import XGBClassifier

from bento_selfheal.config.settings import Settings
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.inputs.table_codes import known_levels
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.opening import open_embedder
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.comparison import REQUEST_ROWS
from bento_selfheal.simulation.streams import Stream
from bento_selfheal.simulation.table import table_stream

SEED, AGAIN = 42, 1000
Codes = NDArray[np.float32]


def fitted(columns: Sequence[Column], codes: Codes, labels: NDArray[np.integer]) -> XGBClassifier:
    """Trees of these rows; categories are taken as such."""
    types = ["c" if column.kind is Kind.CATEGORY else "q" for column in columns]
    trees = XGBClassifier(feature_types=types, enable_categorical=True, random_state=SEED, n_jobs=1)
    return trees.fit(codes, labels)


def packaged(train: Table) -> Package:
    """Trees of these rows, packaged with them."""
    columns = known_levels(train.columns, train.rows)
    trees = fitted(columns, train.rows, np.unique(train.labels, return_inverse=True)[1])
    return package_model(
        "trees", train.rows, train.labels, features=train.features, columns=columns, estimator=trees
    )


def healed(package: Package, rest: Table, late: int) -> Backtest:
    """The rest of the file, answered and learned from."""
    stream, embedder = table_stream(rest, package, late), open_embedder(package)
    assert embedder is not None
    rows = np.concatenate([embedder.embed(list(stream.rows)), stream.rows], axis=1)
    run = Backtest(package, Settings(seed=SEED))
    deque(run.run(Stream(rows, stream.labels, late, REQUEST_ROWS)), maxlen=0)
    return run


def anew(train: Table, rest: Table, package: Package, late: int, count: int) -> NDArray[np.float64]:
    """What trees say that are trained anew of the first rows of the rest, ``(count,)``."""
    columns = package.info.columns[package.info.hidden_columns :]
    codes = np.concatenate([train.rows, rest.rows])
    labels = np.concatenate([table_stream(part, package, 0).labels for part in (train, rest)])
    known, said = len(train.rows), []
    for at in range(0, count, AGAIN):
        end = known + max(at - late, 0)
        trees = fitted(columns, codes[:end], labels[:end])
        asked = codes[known + at : known + min(at + AGAIN, count)]
        said.append(trees.predict_proba(asked)[:, 1].astype(np.float64))
    return np.concatenate(said)
