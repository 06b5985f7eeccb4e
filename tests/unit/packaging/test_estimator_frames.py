"""Estimators that were fitted on data frames: they count categories as the frame did."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from estimators import frozen
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bento_selfheal.errors import PackageError
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package

pytestmark = pytest.mark.usefixtures("home")
LEVELS = ["low", "mid", "high"]


def visits(n: int = 300, categories: list[Any] | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """A data frame whose categories say the label, and first come in another order than theirs."""
    draw = np.random.default_rng(0)
    place = draw.integers(0, 3, n)
    place[:3] = [1, 0, 2]
    labels = np.where(place == 1, draw.integers(0, 2, n), place == 2).astype(int)
    known = categories or LEVELS
    site = pd.Categorical([known[i] for i in place], categories=known)
    return pd.DataFrame({"x": draw.normal(size=n), "site": site}), labels


FITS: dict[str, Any] = {
    "xgboost": xgboost.XGBClassifier(n_estimators=10, enable_categorical=True),
    "lightgbm": lightgbm.LGBMClassifier(n_estimators=10, verbose=-1),
}


def said(package: Package, frame: pd.DataFrame) -> np.ndarray:
    """What the package's frozen model says of rows that come as JSON would bring them."""
    columns = package.info.columns[package.info.hidden_columns :]
    rows = frame.astype({"site": object}).to_numpy().tolist()
    return frozen(package, Schema(columns).codes(rows))


@pytest.mark.parametrize("name", FITS)
def test_categories_keep_the_order_of_the_frame(name: str) -> None:
    """Rows are answered as by the estimator itself, also where the rows that it is packaged with
    name their categories in another order, or as text."""
    frame, labels = visits()
    model = FITS[name].fit(frame, labels)
    turned = frame.assign(site=frame.site.cat.reorder_categories(LEVELS[::-1]))
    for rows in (frame, turned, frame.astype({"site": str})):
        package = package_model("visits", rows, labels, estimator=model)
        assert package.info.columns[-1].levels == tuple(LEVELS)
        wanted = model.predict_proba(frame)[:, 1]
        assert said(package, frame) == pytest.approx(wanted, abs=1e-5)


def test_a_category_that_the_estimator_does_not_know_is_unseen() -> None:
    """Codes of columns that name more levels than it was fitted with."""
    frame, labels = visits()
    model = FITS["xgboost"].fit(frame, labels)
    more = ("new", *LEVELS)
    columns = [Column(name="x"), Column(name="site", kind=Kind.CATEGORY, levels=more)]
    codes = Schema(columns).codes(frame.astype({"site": object}).to_numpy().tolist())
    package = package_model(
        "visits", codes, labels, features=["x", "site"], columns=columns, estimator=model
    )
    assert package.info.columns[-1].levels == tuple(LEVELS)
    assert said(package, frame) == pytest.approx(model.predict_proba(frame)[:, 1], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "why"),
    [("xgboost", "'site' as a category of .*is a number"), ("lightgbm", "here .* are categories")],
)
def test_categories_that_are_numbers_are_refused(name: str, why: str) -> None:
    """Their places in the data frame are not their values."""
    frame, labels = visits(categories=[10, 20, 30])
    with pytest.raises(PackageError, match=why):
        package_model("visits", frame, labels, estimator=FITS[name].fit(frame, labels))


def test_a_pipeline_that_asks_for_columns_by_name_is_told_what_to_do() -> None:
    """Codes have no names."""
    frame, labels = visits()
    chosen = make_column_transformer((OneHotEncoder(), ["site"]), (StandardScaler(), ["x"]))
    model = make_pipeline(chosen, LogisticRegression()).fit(frame, labels)
    with pytest.raises(PackageError, match="choose columns by their places"):
        package_model("visits", frame, labels, estimator=model)
