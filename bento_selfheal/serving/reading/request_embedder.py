"""Turns the inputs of requests for a network into rows: hidden vectors, with facts behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import InvalidInput, PackageError, brief
from bento_selfheal.packaging.opening import AnyEmbedder
from bento_selfheal.serving.reading.bad_row import first_bad
from bento_selfheal.serving.reading.network_inputs import Asked

Rows = NDArray[np.float32]


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
        good = [at for at, inputs in enumerate(read) if isinstance(inputs, list)]
        hidden = self._together([read[at] for at in good]) if good else []
        if hidden is None:
            return [self._alone(asked, own) for asked, own in zip(requests, read, strict=True)]
        embedded = dict(zip(good, hidden, strict=True))
        return [
            _rows(embedded[at], asked) if at in embedded else own  # type: ignore[misc]
            for at, (asked, own) in enumerate(zip(requests, read, strict=True))
        ]

    def _together(self, requests: Sequence[Any]) -> list[Rows] | None:
        """Hidden vectors of one call for each request; None where the network fails."""
        try:
            hidden = self._embedder.embed([one for inputs in requests for one in inputs])
        except Exception:
            return None
        return np.split(hidden, np.cumsum([len(inputs) for inputs in requests])[:-1])

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

    def _alone(self, asked: Asked, inputs: list[Any] | InvalidInput) -> Rows | Exception:
        if isinstance(inputs, InvalidInput):
            return inputs
        try:
            return _rows(self._embedder.embed(inputs), asked)
        except Exception as error:
            bad = first_bad(self._embedder.embed, inputs)
            if bad is None:
                return PackageError(f"the network fails: {brief(error)}")
            why = str(error) if isinstance(error, PackageError) else brief(error)
            return InvalidInput(
                ("rows", bad), f"the network cannot take this input: {why}", "model"
            )


def _rows(hidden: Rows, asked: Asked) -> Rows:
    return np.concatenate([hidden, asked.facts], axis=1)
