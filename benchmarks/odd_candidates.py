"""Models that are in order until they are candidates: then they raise, hang, answer NaN or leak,
from the first row on or only once they have answered for some seconds."""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor, nn

from bento_selfheal.model import SelfHealingModel, wide_mlp

IN_PROCESS = "bento_selfheal.candidates.host" in sys.orig_argv


class Odd(nn.Module):
    """Does what it is named for, in the process of a candidate alone."""

    def __init__(self, inner: nn.Module, kind: str, after: float) -> None:
        super().__init__()
        self.inner = inner
        self.kind = kind
        self._after = after
        self._began = 0.0
        self._held: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self._began = self._began or time.monotonic()
        odd = IN_PROCESS and time.monotonic() - self._began >= self._after
        if odd and self.kind == "raise":
            raise RuntimeError("no answer today")
        if odd and self.kind == "hang":
            time.sleep(3600)
        if odd and self.kind == "leak":
            self._held.append(torch.ones(25_000_000))
        out: Tensor = self.inner(x)
        return out * float("nan") if odd and self.kind == "nan" else out


def odd(features: int, kind: str, after: float = 0.0) -> SelfHealingModel:
    """A classifier that is odd as a candidate, so many seconds after its first row."""
    model = wide_mlp(features)
    model.backbone = Odd(model.backbone, kind, after)
    return model
