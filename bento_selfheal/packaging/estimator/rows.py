"""The rows that an estimator leaves in the log: log odds, with the table's codes behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from bento_selfheal.core.records import Label
from bento_selfheal.errors import PackageError
from bento_selfheal.estimators.adapted import adapted_odds
from bento_selfheal.estimators.estimator import Estimator
from bento_selfheal.estimators.packaged import Estimated
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.encoder import Encoder
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.estimator.file import write_estimator
from bento_selfheal.packaging.estimator.fitting import fitting_estimator
from bento_selfheal.packaging.package import ADAPTED_ODDS
from bento_selfheal.packaging.training_data import check_rows


@dataclass(frozen=True)
class EstimatorRows:
    """An estimator, and training rows as those that heal."""

    estimator: Estimator
    estimated: Estimated
    model: SelfHealingModel
    rows: NDArray[np.float32]
    """``(n, odds + columns)``"""
    features: list[str]
    columns: list[Column]
    watched: list[str]
    """Features that signals look at by default."""
    builder = ADAPTED_ODDS

    @property
    def builder_args(self) -> Mapping[str, Any]:
        """Keyword arguments of the builder."""
        return {"embedding": self.estimated.model_dump(mode="json")}

    def write(self, folder: Path) -> Mapping[str, Any]:
        """Write the estimator's file; the builder's arguments with its hash."""
        written = {"sha256": write_estimator(self.estimator, folder)}
        noted = self.estimated.model_copy(update=written)
        return {"embedding": noted.model_dump(mode="json")}


def estimated_rows(
    given: Any,
    rows: ArrayLike,
    *,
    features: Sequence[str],
    columns: Sequence[Column],
    classes: Sequence[Label],
) -> EstimatorRows:
    """Try an estimator on training rows, and ask it about them; as `package_model` takes them.

    Raises:
        PackageError: The estimator cannot be kept, or does not fit the rows or the classes.
    """
    try:
        codes = check_rows(rows, features, columns)
    except ValueError as error:
        raise PackageError(str(error)) from error
    named = list(columns) or [Column(name=name) for name in features]
    fitting = fitting_estimator(given, codes, named, classes)
    said, named = fitting.odds, fitting.columns
    names = [f"log odds {label}" for label in classes] if said.shape[1] > 1 else ["log odds"]
    estimated = Estimated(kind=fitting.kind, odds=tuple(names), columns=tuple(named))
    model = adapted_odds(estimated.model_dump(mode="json"))
    cast(Encoder, model.backbone.scale).fit(torch.from_numpy(fitting.codes))
    return EstimatorRows(
        fitting.estimator, estimated, model,
        rows=np.concatenate([said, fitting.codes], axis=1),
        features=[*names, *(column.name for column in named)],
        columns=[*(Column(name=name) for name in names), *named],
        watched=[column.name for column in named],
    )  # fmt: skip
