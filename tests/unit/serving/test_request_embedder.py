"""Inputs of several requests, embedded in one call of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bento_selfheal.embedding.source import Source
from bento_selfheal.embedding.texts import Texts
from bento_selfheal.errors import InvalidInput, PackageError
from bento_selfheal.serving.reading.network_inputs import Asked
from bento_selfheal.serving.reading.request_embedder import RequestEmbedder


class Lengths:
    """Embeds a text as its length; fails on a text that it does not like."""

    source: Source = Texts()

    def __init__(self, dislikes: str) -> None:
        self._dislikes = dislikes
        self.calls = 0

    def embed(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        if any(self._dislikes in text for text in inputs):
            raise ZeroDivisionError("no length")
        return np.array([[len(text)] for text in inputs], dtype=np.float32)


def asked(*inputs: Any) -> Asked:
    return Asked(inputs, np.full((len(inputs), 1), 7, dtype=np.float32))


def test_one_bad_input_fails_its_own_request() -> None:
    """Among 64 requests that are embedded together one cannot be read and one is not taken: both
    name their input, the others get their rows, and the network is asked a few times only."""
    network = Lengths("bad")
    requests = [asked("a" * at) for at in range(1, 63)]
    requests[5:5] = [asked("fine", 5), asked("fine", "a bad one", "fine")]
    found = RequestEmbedder(network).embed_all(requests)  # type: ignore[arg-type]
    unread, untaken = found[5:7]
    assert isinstance(unread, InvalidInput)
    assert isinstance(untaken, InvalidInput)
    assert (unread.loc, untaken.loc) == (("rows", 1), ("rows", 1))
    assert "a text is needed, got int" in unread.msg
    assert "ZeroDivisionError: no length" in untaken.msg
    rows = [one for one in found if not isinstance(one, Exception)]
    assert [row.tolist() for row in rows] == [[[at, 7.0]] for at in range(1, 63)]
    assert network.calls < 20


def test_a_network_that_fails_on_many_inputs_alone() -> None:
    """Where no input of a request is at fault by itself, the network is."""

    class Crowded(Lengths):
        def embed(self, inputs: Sequence[str]) -> NDArray[np.float32]:
            if len(inputs) > 1:
                raise MemoryError("too many")
            return super().embed(inputs)

    with pytest.raises(PackageError, match="the network fails: MemoryError: too many"):
        RequestEmbedder(Crowded("bad")).embed_one(asked("a", "b"))  # type: ignore[arg-type]
