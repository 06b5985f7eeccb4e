"""Package a model: train or take it, calibrate the signals, keep a reference set, store it.

A packaged model holds no code. Its architecture is the name of a builder function that is
imported when it is loaded; its weights and its reference set are safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bento_selfheal.core.records import Label
from bento_selfheal.errors import PackageError
from bento_selfheal.healing.drift.fidi import Fidi
from bento_selfheal.model import Output, SelfHealingModel
from bento_selfheal.rules import Rule, RuleSet

CANARY_ROWS = 32


class Calibration(BaseModel):
    """What FIDI compares a sensitive feature with."""

    model_config = ConfigDict(frozen=True)

    feature: str
    mean: float
    std: float
    """Population standard deviation of samples; 0 where the feature was constant."""


class PackageInfo(BaseModel):
    """Everything about a packaged model but its numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    builder: str
    builder_args: dict[str, Any]
    output: Output
    features: list[str]
    classes: list[Label]
    calibration: list[Calibration]
    rules: list[Rule]
    hidden_dim: int
    positive_rate: float
    """Share of rows that are not of the first class."""
    flagged_rate: float = 0.0
    """Share of the reference set that the model as trained gives class 1."""
    accuracy: float
    f1: float
    weights_sha256: str


@dataclass(frozen=True)
class Package:
    """A packaged model, opened.

    Attributes:
        tag: Its exact tag in the model store.
        info: What it is.
        model: The model with its clean adapter, frozen, in eval mode, on the device asked for.
        reference_rows: Held-out clean rows, ``(m, features)``.
        reference_labels: Their labels, ``(m,)``, indices of classes.
    """

    tag: str
    info: PackageInfo
    model: SelfHealingModel
    reference_rows: NDArray[np.float32]
    reference_labels: NDArray[np.float32]

    @property
    def name(self) -> str:
        return self.tag.split(":")[0]

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.info.classes) == 2

    def embed(self, rows: NDArray[np.float32]) -> Tensor:
        """What the frozen backbone makes of rows, ``(n, hidden)``, brought to the CPU."""
        with torch.no_grad():
            hidden: Tensor = self.model.backbone(torch.from_numpy(rows).to(self.model.device))
        return hidden.cpu()

    @property
    def canary(self) -> Tensor:
        """The rows on which an adapter must answer sanely before it serves, where the model is."""
        return torch.from_numpy(self.reference_rows[:CANARY_ROWS]).to(self.model.device)

    @property
    def sensitive_columns(self) -> list[int]:
        return [self.info.features.index(c.feature) for c in self.info.calibration]

    def shadow(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the frozen model as trained says of rows ``(n, features)``, ``(n,)``."""
        return _answers(self.model, rows)

    def fidi(self, window: int) -> Fidi:
        """A fresh FIDI, calibrated."""
        cal = self.info.calibration
        return Fidi([c.feature for c in cal], [c.mean for c in cal], [c.std for c in cal], window)

    def rules(self) -> RuleSet:
        return RuleSet(self.info.rules, self.info.features)


def _answers(model: SelfHealingModel, x: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        out: Tensor = model(torch.from_numpy(x).to(model.device)).cpu()
    if len(out) != len(x) or out.ndim > 2 or not bool(((out >= 0) & (out <= 1)).all()):
        raise PackageError(
            f"model: gives {tuple(out.shape)} in [{out.min():g}, {out.max():g}] for {len(x)} rows;"
            " one probability a row, or one a class, is needed (output='logit' for a head"
            " without sigmoid or softmax)"
        )
    return out.numpy()
