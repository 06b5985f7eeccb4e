"""Every kind of estimator that a package may hold; one line for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bento_selfheal.errors import PackageError
from bento_selfheal.estimators.estimator import Estimator, Kind
from bento_selfheal.estimators.lightgbm_trees import LightgbmTrees
from bento_selfheal.estimators.onnx_graph import OnnxGraph
from bento_selfheal.estimators.scikit_learn import converted
from bento_selfheal.estimators.xgboost_trees import XgboostTrees

KINDS: dict[Kind, type[Estimator]] = {
    "xgboost": XgboostTrees, "lightgbm": LightgbmTrees, "onnx": OnnxGraph,
}  # fmt: skip


def estimator_of(given: Any) -> tuple[Kind, Estimator]:
    """What a user gave, as it is kept.

    Args:
        given: `Booster` or classifier of XGBoost or LightGBM, a fitted classifier of scikit-learn,
            an ONNX model, its bytes or its path.

    Raises:
        PackageError: It is none of these, is not fitted, or its library is missing.
    """
    if isinstance(given, str | Path):
        return "onnx", OnnxGraph.open(Path(given))
    if isinstance(given, bytes):
        return "onnx", OnnxGraph(given)
    # XGBoost's and LightGBM's classifiers are scikit-learn's too, in a class further up.
    origins = [each.__module__.partition(".")[0] for each in type(given).__mro__]
    if "xgboost" in origins:
        return "xgboost", XgboostTrees.of(given)
    if "lightgbm" in origins:
        return "lightgbm", LightgbmTrees.of(given)
    if "sklearn" in origins:
        return "onnx", converted(given)
    if hasattr(given, "SerializeToString"):
        return "onnx", OnnxGraph(given.SerializeToString())
    raise PackageError(
        f"estimator: {type(given).__module__}.{type(given).__name__} is none of XGBoost, LightGBM, "
        "scikit-learn or ONNX; convert it to ONNX, and give the path of its file"
    )
