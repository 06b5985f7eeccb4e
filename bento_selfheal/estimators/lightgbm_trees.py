"""Boosted trees of LightGBM."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import PackageError, brief
from bento_selfheal.estimators.estimator import Estimator, library
from bento_selfheal.estimators.odds import odds_of_probabilities
from bento_selfheal.inputs.column import Column, Kind

OBJECTIVES = ("binary", "cross_entropy", "multiclass", "multiclassova")
"""Whose predictions are probabilities."""
UNNAMED = "Column_{}"
"""What LightGBM calls a column whose name it does not know."""


class LightgbmTrees(Estimator):
    """A booster, which is kept as LightGBM's text.

    Args:
        booster: A `lightgbm.Booster`.

    Raises:
        PackageError: Its objective is none of a classifier.
    """

    file = "estimator.txt"

    def __init__(self, booster: Any) -> None:
        told = re.search(r"^objective=(\w+)", booster.model_to_string(num_iteration=1), re.M)
        objective = told[1] if told else ""
        if objective not in OBJECTIVES:
            raise PackageError(
                f"estimator: its objective is {objective!r}; needed is one of {list(OBJECTIVES)}"
            )
        self._booster = booster
        self._each_alone = objective == "multiclassova"
        self.features = booster.num_feature()
        names = booster.feature_name()
        self.names = [] if names == [UNNAMED.format(i) for i in range(len(names))] else names

    @classmethod
    def of(cls, given: Any) -> Self:
        """A `Booster`, or that of a fitted `LGBMClassifier`.

        Raises:
            PackageError: It was not fitted, or is no classifier.
        """
        lightgbm = library("lightgbm", "lightgbm")
        if isinstance(given, lightgbm.Booster):
            return cls(given)
        try:
            return cls(given.booster_)
        except (lightgbm.basic.LightGBMError, AttributeError) as error:
            raise PackageError(f"estimator: it is not fitted: {brief(error)}") from error

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read it from its file."""
        lightgbm = library("lightgbm", "lightgbm")
        try:
            return cls(lightgbm.Booster(model_file=str(path)))
        except lightgbm.basic.LightGBMError as error:
            raise PackageError(f"estimator: LightGBM cannot read it: {brief(error)}") from error

    def save(self, path: Path) -> None:
        """Write its file, up to the best iteration where training stopped early."""
        self._booster.save_model(str(path))

    def categories(self, columns: Sequence[Column]) -> Mapping[int, Sequence[Any]]:
        """LightGBM notes them in the order of their columns, but not of which ones they are."""
        noted = self._booster.pandas_categorical or []
        places = [i for i, column in enumerate(columns) if column.kind is Kind.CATEGORY]
        if noted and len(noted) != len(places):
            raise PackageError(
                f"estimator: it was fitted on a data frame with {len(noted)} columns of categories,"
                f" and here {[columns[i].name for i in places]} are categories; they must be the "
                "same columns, with categories that are text"
            )
        return dict(zip(places, noted, strict=False))

    def log_odds(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds of its probabilities, ``(n, 1)`` or ``(n, classes)``."""
        said = self._booster.predict(codes, num_threads=1)
        if self._each_alone:
            said = said / said.sum(axis=1, keepdims=True)
        return odds_of_probabilities(said)
