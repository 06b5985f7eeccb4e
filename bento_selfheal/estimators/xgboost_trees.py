"""Boosted trees of XGBoost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import PackageError, brief
from bento_selfheal.estimators.estimator import Estimator, library
from bento_selfheal.estimators.odds import odds_of_scores
from bento_selfheal.inputs.column import Column

TREES = ("gbtree", "dart")
"""Boosters that answer arrays."""
OBJECTIVES = ("binary:logistic", "binary:logitraw", "reg:logistic", "multi:softprob",
              "multi:softmax")  # fmt: skip
"""Whose margins are log odds."""


class XgboostTrees(Estimator):
    """A booster, which is kept as UBJSON.

    Args:
        booster: An `xgboost.Booster` of nobody else: its number of threads is set.

    Raises:
        PackageError: It is not made of trees, or its objective is none of a classifier.
    """

    file = "estimator.ubj"

    def __init__(self, booster: Any) -> None:
        learner = json.loads(booster.save_config())["learner"]
        kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
        if kind not in TREES:
            raise PackageError(
                f"estimator: its booster is {kind!r}; needed is one of {list(TREES)}"
            )
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

    def categories(self, columns: Sequence[Column]) -> Mapping[int, Sequence[Any]]:
        """Those that XGBoost notes from its release 3.1 on."""
        if not hasattr(self._booster, "get_categories"):
            return {}
        noted = self._booster.get_categories(export_to_arrow=True).to_arrow()
        return {i: own.to_pylist() for i, (_, own) in enumerate(noted) if own is not None}

    def log_odds(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The margins, ``(n, 1)`` or ``(n, classes)``."""
        return odds_of_scores(self._booster.inplace_predict(codes, predict_type="margin"))
