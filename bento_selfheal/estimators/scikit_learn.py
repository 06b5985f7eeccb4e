"""Classifiers of scikit-learn, which become graphs of ONNX."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from bento_selfheal.errors import PackageError, brief
from bento_selfheal.estimators.estimator import library
from bento_selfheal.estimators.onnx_graph import OnnxGraph


def converted(given: Any) -> OnnxGraph:
    """The graph of a fitted classifier or pipeline.

    Raises:
        PackageError: It gives no probabilities, is not fitted, or skl2onnx cannot convert it.
    """
    skl2onnx = library("skl2onnx", "onnx")
    if not hasattr(given, "predict_proba") or not hasattr(given, "n_features_in_"):
        raise PackageError(
            f"estimator: {type(given).__name__} is not fitted, or has no predict_proba"
        )
    like = np.zeros((1, given.n_features_in_), dtype=np.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # protobuf's, of skl2onnx 1.20
            graph = skl2onnx.to_onnx(given, like, options={id(given): {"zipmap": False}})
    except Exception as error:  # what skl2onnx raises has no class in common
        why = brief(error.__cause__ or error)  # the later one repeats the whole graph
        raise PackageError(f"estimator: skl2onnx cannot convert it: {why}{_hint(why)}") from error
    made = OnnxGraph(graph.SerializeToString())
    made.names = [str(name) for name in getattr(given, "feature_names_in_", ())]
    return made


def _hint(why: str) -> str:
    """What to do where a pipeline was fitted on a data frame, and asks for columns by name."""
    if "column name" not in why:
        return ""
    return " It is called with codes, which have no names: choose columns by their places"
