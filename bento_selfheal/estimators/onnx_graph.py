"""Classifiers as graphs of ONNX, by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import PackageError, brief
from bento_selfheal.estimators.estimator import Estimator, library
from bento_selfheal.estimators.odds import odds_of_probabilities

FLOATS: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype("float32"),
    "tensor(double)": np.dtype("float64"),
}
ONLY_ERRORS = 3


class OnnxGraph(Estimator):
    """A graph with one input ``(n, columns)`` of floats, and one output of probabilities.

    Args:
        graph: The bytes of a model's file.

    Raises:
        PackageError: It cannot be read, or has other inputs or outputs.
    """

    file = "estimator.onnx"

    def __init__(self, graph: bytes) -> None:
        runtime = library("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = ONLY_ERRORS
        try:
            self._session = runtime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no class in common
            raise PackageError(f"estimator: ONNX Runtime cannot read it: {brief(error)}") from error
        self._graph = graph
        self._input, self._type, self.features = _input_of(self._session)
        self._output = _output_of(self._session)
        self.names = []

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read it from its file."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise PackageError(f"estimator: {path} cannot be read: {error}") from error

    def save(self, path: Path) -> None:
        """Write its file."""
        path.write_bytes(self._graph)

    def log_odds(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds of its probabilities, ``(n, 1)`` or ``(n, classes)``."""
        [said] = self._session.run([self._output], {self._input: codes.astype(self._type)})
        if isinstance(said, list):  # of ZipMap: probabilities by class, in the order of classes
            said = np.asarray([list(row.values()) for row in said])
        return odds_of_probabilities(said)


def _input_of(session: Any) -> tuple[str, np.dtype[Any], int]:
    """Name, type and width of the input; a width of 0 where it may be any."""
    inputs = session.get_inputs()
    told = [f"{each.name}: {each.type} {each.shape}" for each in inputs]
    if len(inputs) != 1 or inputs[0].type not in FLOATS or len(inputs[0].shape) != 2:
        raise PackageError(
            f"estimator: one input of floats (n, columns) is needed; the graph has {told}"
        )
    rows, width = inputs[0].shape
    if isinstance(rows, int):
        raise PackageError(f"estimator: the graph takes {rows} rows at a time, not any number")
    return str(inputs[0].name), FLOATS[inputs[0].type], width if isinstance(width, int) else 0


def _output_of(session: Any) -> str:
    outputs = session.get_outputs()
    for each in outputs:
        if each.type in FLOATS or each.type.startswith("seq(map("):
            return str(each.name)
    told = [f"{each.name}: {each.type}" for each in outputs]
    raise PackageError(f"estimator: the graph has no output of probabilities, only {told}")
