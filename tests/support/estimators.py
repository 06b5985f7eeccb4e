"""Classifiers of other libraries that know late flights, and packages of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import xgboost
from mixed import COLUMNS, NAMES, codes, flights
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from bento_selfheal.inputs.column import Kind
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.opening import open_embedder
from bento_selfheal.packaging.package import Package

TYPES = ["c" if column.kind is Kind.CATEGORY else "q" for column in COLUMNS]
SKY = NAMES.index("sky")
Codes = NDArray[np.float32]
Fit = Callable[[Codes, NDArray[Any]], Any]


def xgboost_trees(x: Codes, y: NDArray[Any]) -> xgboost.XGBClassifier:
    """Trees that take categories as they are; XGBoost wants places of classes."""
    model = xgboost.XGBClassifier(n_estimators=20, feature_types=TYPES, enable_categorical=True)
    return model.fit(x, np.unique(y, return_inverse=True)[1])


def lightgbm_trees(x: Codes, y: NDArray[Any]) -> lightgbm.LGBMClassifier:
    """Trees that take categories and labels as they are."""
    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1)
    return model.fit(x, y, categorical_feature=[SKY])


def histogram_trees(x: Codes, y: NDArray[Any]) -> HistGradientBoostingClassifier:
    """Those of scikit-learn, which take gaps."""
    return HistGradientBoostingClassifier(max_iter=20).fit(x, y)


def regression(x: Codes, y: NDArray[Any]) -> Any:
    """A pipeline of scikit-learn."""
    return make_pipeline(SimpleImputer(), LogisticRegression(max_iter=5000)).fit(x, y)


FITS: dict[str, Fit] = {
    "xgboost": xgboost_trees,
    "lightgbm": lightgbm_trees,
    "histogram": histogram_trees,
    "regression": regression,
}


def some(n: int = 600, seed: int = 0) -> tuple[Codes, NDArray[np.str_]]:
    """Codes of flights and their labels."""
    rows, labels = flights(n, seed)
    return codes(rows), np.asarray(labels)


def packaged(estimator: Any, name: str = "estimated", seed: int = 1, **more: Any) -> Package:
    """An estimator with flights that it was not trained on."""
    x, y = some(seed=seed)
    return package_model(name, x, y, features=NAMES, columns=COLUMNS, estimator=estimator, **more)


def frozen(package: Package, x: Codes) -> NDArray[np.float32]:
    """What a package from the store says of rows before anything healed."""
    return package.baseline(logged(package, x))


def logged(package: Package, x: Codes) -> NDArray[np.float32]:
    """The rows of the log, ``(n, odds + columns)``."""
    embedder = open_embedder(package)
    assert embedder is not None
    return np.concatenate([embedder.embed(list(x)), x], axis=1)
