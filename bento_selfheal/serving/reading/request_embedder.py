"""Turns the inputs of requests for a network into rows: hidden vectors, with facts behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import InvalidInput, PackageError, brief
from bento_selfheal.packaging.opening import AnyEmbedder
from bento_selfheal.serving.reading.bad_row import by_halves, first_bad
from bento_selfheal.serving.reading.network_inputs import Asked

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Read:
    """A request with its inputs as the source reads them."""

    asked: Asked
    inputs: list[Any]


class RequestEmbedder:
    """Embeds what several requests ask about in one call of the network.

    One input that the network cannot take fails its own request alone.

    Args:
        embedder: The network up to its head, or the estimator.
    """

    def __init__(self, embedder: AnyEmbedder) -> None:
        self._embedder = embedder

    def embed_one(self, asked: Asked) -> Rows:
        """The rows of one request, ``(n, width + facts)``.

        Raises:
            InvalidInput: An input is none, or the network cannot take it; it is named.
            PackageError: The network fails whatever it is given.
        """
        [rows] = self.embed_all([asked])
        if isinstance(rows, Exception):
            raise rows
        return rows

    def embed_all(self, requests: Sequence[Asked]) -> list[Rows | Exception]:
        """The rows of each request, or its error."""
        read = [self._read(asked) for asked in requests]
        good = [
            Read(asked, inputs)
            for asked, inputs in zip(requests, read, strict=True)
            if isinstance(inputs, list)
        ]
        rows = iter(by_halves(self._together, self._alone, good) if good else [])
        return [next(rows) if isinstance(inputs, list) else inputs for inputs in read]

    def _together(self, requests: Sequence[Read]) -> list[Rows]:
        hidden = self._embedder.embed([one for request in requests for one in request.inputs])
        ends = np.cumsum([len(request.inputs) for request in requests])[:-1]
        parts = zip(requests, np.split(hidden, ends), strict=True)
        return [_rows(own, request.asked) for request, own in parts]

    def _read(self, asked: Asked) -> list[Any] | InvalidInput:
        out = []
        for i, value in enumerate(asked.inputs):
            try:
                out.append(self._embedder.source.read(value))
            except ValueError as error:
                return InvalidInput(("rows", i), str(error), "value")
            except Exception as error:  # one input never fails the requests beside it
                return InvalidInput(("rows", i), f"it cannot be read: {brief(error)}", "value")
        return out

    def _alone(self, request: Read) -> Rows | Exception:
        try:
            return _rows(self._embedder.embed(request.inputs), request.asked)
        except Exception as error:
            bad = first_bad(self._embedder.embed, request.inputs)
            if bad is None:
                return PackageError(f"the network fails: {brief(error)}")
            why = str(error) if isinstance(error, PackageError) else brief(error)
            return InvalidInput(
                ("rows", bad), f"the network cannot take this input: {why}", "model"
            )


def _rows(hidden: Rows, asked: Asked) -> Rows:
    return np.concatenate([hidden, asked.facts], axis=1)
