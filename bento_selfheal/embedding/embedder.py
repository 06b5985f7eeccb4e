"""Turns inputs into hidden vectors, by the frozen part of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.embedding.source import Source
from bento_selfheal.embedding.split import Split, moved
from bento_selfheal.errors import PackageError

AT_ONCE = 256
"""Inputs that a network is called with at the most: more would fill the memory."""
LARGEST = float(torch.finfo(torch.float16).max)


class Embedder:
    """A frozen network up to its head.

    Hidden vectors are rounded to float16, as they are logged: what answered is what is learned
    from.

    Args:
        source: What the inputs are.
        body: The network up to its head, in eval mode, on its device.
        width: Width of the hidden vectors.
        device: Where it is.
    """

    def __init__(self, source: Source, body: Split, width: int, device: torch.device) -> None:
        self.source = source
        self._body = body
        self._width = width
        self._device = device

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Hidden vectors of inputs as the source reads them, ``(n, width)``, of one or more.

        Raises:
            PackageError: They are not one for each input, or not finite in float16.
        """
        parts = [self._part(inputs[at : at + AT_ONCE]) for at in range(0, len(inputs), AT_ONCE)]
        return np.concatenate(parts)

    def _part(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        called = moved(self.source.ready(inputs), self._device, self._body.dtype)
        with torch.inference_mode():
            hidden = self._body(called)
        wanted = (len(inputs), self._width)
        if tuple(hidden.shape) != wanted:
            raise PackageError(f"the network embeds as {tuple(hidden.shape)}, not as {wanted}")
        rounded = hidden.to(torch.float16).float().cpu().numpy()
        if not np.isfinite(rounded).all():
            raise PackageError(f"a hidden vector is not finite, or over {LARGEST:g}")
        return np.asarray(rounded)
