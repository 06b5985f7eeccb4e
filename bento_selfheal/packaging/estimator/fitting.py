"""Makes an estimator of the user's own ready to be packaged: recognised, kept, and tried."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.class_probabilities import columns
from bento_selfheal.core.records import Label
from bento_selfheal.errors import PackageError, brief
from bento_selfheal.estimators.embedder import OddsEmbedder
from bento_selfheal.estimators.estimator import Estimator, Kind
from bento_selfheal.estimators.kinds import KINDS, estimator_of
from bento_selfheal.inputs.column import Column
from bento_selfheal.packaging.estimator.categories import as_fitted
from bento_selfheal.packaging.training_data import as_label
from bento_selfheal.scoring.probabilities import from_logits

CLOSE = 1e-3
"""How far a probability may be from the estimator's own."""
TRIED = 5000
"""Training rows that an estimator's own answers are compared on."""


@dataclass(frozen=True)
class Fitting:
    """An estimator that was tried on training rows."""

    kind: Kind
    estimator: Estimator
    """As read from its file."""
    codes: NDArray[np.float32]
    """The training rows, with categories as the estimator counts them."""
    columns: list[Column]
    """What the codes stand for."""
    odds: NDArray[np.float32]
    """Its log odds of the training rows, ``(n, 1)`` or ``(n, classes)``."""


def fitting_estimator(
    given: Any, codes: NDArray[np.float32], columns: Sequence[Column], classes: Sequence[Label]
) -> Fitting:
    """Recognise what a user gave, and see that it answers as it does from its file.

    Args:
        given: As `estimator_of` takes it.
        codes: Training rows, ``(n, columns)``.
        columns: What the codes stand for.
        classes: Classes of the labels, in their order.

    Raises:
        PackageError: It does not fit the columns or the classes, or answers otherwise.
    """
    kind, made = estimator_of(given)
    _check_columns(made, [column.name for column in columns])
    _check_classes(given, classes)
    codes, named = as_fitted(made, codes, columns)
    with tempfile.TemporaryDirectory() as folder:
        made.save(path := Path(folder) / made.file)
        again = KINDS[kind].open(path)
    odds = OddsEmbedder(again, _width(again, codes, classes)).embed(list(codes))
    _compare(given, made, codes[:TRIED], odds[:TRIED])
    return Fitting(kind, again, codes, named, odds)


def _width(estimator: Estimator, codes: NDArray[np.float32], classes: Sequence[Label]) -> int:
    """How many log odds it gives for a row.

    Raises:
        PackageError: It has other classes, or cannot be called with codes.
    """
    try:
        width = int(estimator.log_odds(codes[:1]).shape[1])
    except PackageError:
        raise
    except Exception as error:  # each library raises its own
        raise PackageError(
            f"estimator: it cannot be called with codes {codes[:1].shape}: {brief(error)}"
        ) from error
    has = 2 if width == 1 else width
    if has != len(classes):
        raise PackageError(f"estimator: it has {has} classes, but the labels have {len(classes)}")
    return width


def _check_columns(estimator: Estimator, features: Sequence[str]) -> None:
    if estimator.features not in (0, len(features)):
        raise PackageError(
            f"estimator: it was trained on {estimator.features} columns, and there are "
            f"{len(features)} features"
        )
    # LightGBM keeps no blanks in names.
    known = [name.replace(" ", "_") for name in estimator.names]
    if known and known != [name.replace(" ", "_") for name in features]:
        raise PackageError(
            f"estimator: it was trained on the columns {estimator.names}, and the features are "
            f"{list(features)}; name them in that order"
        )


def _check_classes(given: Any, classes: Sequence[Label]) -> None:
    """Its classes are the labels' or, as of XGBoost, their places."""
    if (own := getattr(given, "classes_", None)) is None:
        return
    told = [as_label(value) for value in own]
    if told not in (list(classes), list(range(len(classes)))):
        raise PackageError(
            f"estimator: its classes are {told}, and those of the labels {list(classes)}"
        )


def _compare(
    given: Any, made: Estimator, codes: NDArray[np.float32], odds: NDArray[np.float32]
) -> None:
    """See that the kept estimator answers as what was given does."""
    if not hasattr(given, "predict_proba"):
        own = _probabilities(made.log_odds(codes))
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # codes have no names
                own = given.predict_proba(codes)
        except Exception as error:  # each library raises its own
            raise PackageError(
                f"estimator: it cannot be called with codes {codes.shape}: {brief(error)}"
            ) from error
    own = own / own.sum(axis=1, keepdims=True)  # LightGBM's multiclassova does not sum to 1
    apart = np.abs(_probabilities(odds) - own).max(axis=1)
    if (far := int((apart > CLOSE).sum())) > 0:
        raise PackageError(
            f"estimator: from its file it answers {far} of {len(codes)} rows otherwise, by up to "
            f"{apart.max():.3g}; convert it to ONNX yourself, or use another kind"
        )


def _probabilities(odds: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of all classes, ``(n, classes)``."""
    out: NDArray[np.float64] = columns(from_logits(torch.from_numpy(odds).double())).numpy()
    return out
