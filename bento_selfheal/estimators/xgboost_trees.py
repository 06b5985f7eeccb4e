"""Boosted trees of XGBoost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import PackageError, brief
from bento_selfheal.estimators.estimator import Estimator, library
from bento_selfheal.estimators.odds import odds_of_scores

OBJECTIVES = ("binary:logistic", "binary:logitraw", "reg:logistic", "multi:softprob",
              "multi:softmax")  # fmt: skip
"""Whose margins are log odds."""


class XgboostTrees(Estimator):
    """A booster, which is kept as UBJSON.

    Args:
        booster: An `xgboost.Booster` of nobody else: its number of threads is set.

    Raises:
        PackageError: Its objective is none of a classifier.
    """

    file = "estimator.ubj"

    def __init__(self, booster: Any) -> None:
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        if objective not in OBJECTIVES:
            raise PackageError(
                f"estimator: its objective is {objective!r}; needed is one of {list(OBJECTIVES)}"
            )
        booster.set_param({"nthread": 1})
        self._booster = booster
        self.features = booster.num_features()
        self.names = list(booster.feature_names or [])

    @classmethod
    def of(cls, given: Any) -> Self:
        """A copy of a `Booster` or of what a fitted `XGBClassifier` answers with.

        Raises:
            PackageError: It was not fitted, or is no classifier.
        """
        xgboost = library("xgboost", "xgboost")
        booster = given
        if not isinstance(given, xgboost.Booster):
            try:
                booster = given.get_booster()
            except Exception as error:
                raise PackageError(f"estimator: it is not fitted: {brief(error)}") from error
            if booster.attr("best_iteration") is not None:  # the trees after it do not answer
                booster = booster[: int(booster.attr("best_iteration")) + 1]
        return cls(xgboost.Booster(model_file=bytearray(booster.save_raw("ubj"))))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read it from its file."""
        xgboost = library("xgboost", "xgboost")
        try:
            return cls(xgboost.Booster(model_file=str(path)))
        except xgboost.core.XGBoostError as error:
            raise PackageError(f"estimator: XGBoost cannot read it: {brief(error)}") from error

    def save(self, path: Path) -> None:
        """Write its file."""
        self._booster.save_model(str(path))

    def log_odds(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The margins, ``(n, 1)`` or ``(n, classes)``."""
        return odds_of_scores(self._booster.inplace_predict(codes, predict_type="margin"))
