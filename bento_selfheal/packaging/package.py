"""A packaged model: what it holds, and what healing and serving ask of it.

It holds no code. Its architecture is the name of a builder function that is imported when the
package is opened; its weights and its reference set are safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.records import Label
from bento_selfheal.core.segments.left_out import LEFT_OUT
from bento_selfheal.core.tensors import hash_file
from bento_selfheal.embedding.packaged import Embedding
from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.errors import PackageError
from bento_selfheal.estimators.packaged import Estimated
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.counts import Aspect, FeatureStatistics, counts_of
from bento_selfheal.model import InputsBeside, Output, SelfHealingModel
from bento_selfheal.rules import Rule, RuleSet
from bento_selfheal.scoring.probabilities import own_copy
from bento_selfheal.scoring.scores import recalls_of
from bento_selfheal.segments.definition import LeftOutSegments
from bento_selfheal.standardize import Standardize

INFO = "package.json"
CANARY_ROWS = 32
SHARED = ("features", "columns", "classes", "embedding")
"""What two packages have in common of which one may take the other's place."""
ADAPTED_HEAD = "bento_selfheal.embedding.adapted:adapted_head"
"""Builder of what heals behind a network of the user's own."""
ADAPTED_ODDS = "bento_selfheal.estimators.adapted:adapted_odds"
"""Builder of what heals behind an estimator."""


class PackageInfo(BaseModel):
    """Everything about a packaged model except its tensors, as `package.json` stores it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    builder: str
    builder_args: dict[str, Any]
    output: Output
    features: list[str]
    classes: list[Label]
    calibration: list[FeatureStatistics]
    rules: list[Rule]
    hidden_dim: int
    positive_rate: float
    """Share of the training rows that are not of the first class."""
    flagged_rate: float = 0.0
    """Share of the reference set to which the model as trained assigns class 1."""
    accuracy: float
    f1: float
    weights_sha256: str
    experts_sha256: str = ""
    """Of the experts' file; empty where an earlier release made the package."""
    columns: list[Column] = []
    """Types of the features, in their order; none where all are numbers without gaps."""

    @property
    def embedding(self) -> Embedding | Estimated | None:
        """The network or the estimator that makes rows of inputs; None where rows are those of a
        table."""
        if self.builder == ADAPTED_HEAD:
            return Embedding.model_validate(self.builder_args["embedding"])
        if self.builder == ADAPTED_ODDS:
            return Estimated.model_validate(self.builder_args["embedding"])
        return None

    @property
    def hidden_columns(self) -> int:
        """How many of the first columns of a row are a hidden vector, or log odds."""
        noted = self.embedding
        return 0 if noted is None else noted.width

    @property
    def rows_hold_inputs(self) -> bool:
        """Whether rows of the log hold what came in, as those of a table do."""
        noted = self.embedding
        return noted is None or isinstance(noted.source, TableRows)

    def differs_in(self, other: PackageInfo) -> str:
        """What another package must share to take this one's place, and does not; empty where it
        shares all of it."""
        return next((w for w in SHARED if getattr(self, w) != getattr(other, w)), "")


@dataclass(frozen=True)
class Package:
    """A packaged model, opened.

    Attributes:
        tag: Its exact tag in the model store.
        info: Its description.
        model: The model with its clean adapter: frozen, in eval mode, on the requested device.
        reference_rows: Held-out clean rows, ``(m, features)``.
        reference_labels: Their labels, ``(m,)``, indices of classes.
        experts: File of the experts that know the training rows; None where an earlier release
            made the package.
    """

    tag: str
    info: PackageInfo
    model: SelfHealingModel
    reference_rows: NDArray[np.float32]
    reference_labels: NDArray[np.float32]
    experts: Path | None = None

    @property
    def name(self) -> str:
        """Its name in the model store, without the version."""
        return self.tag.split(":")[0]

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.info.classes) == 2

    def with_adapter(self, state: Mapping[str, Tensor]) -> SelfHealingModel:
        """The model with the adapter of a snapshot, and with the segments that it leaves out.

        Raises:
            RuntimeError: The state does not fit.
        """
        model = self.model.with_adapter(state)
        if LEFT_OUT in state:
            told = state[LEFT_OUT], self.info.features, self.info.columns
            model.left_out = LeftOutSegments.read(*told)
        return model

    @property
    def inputs(self) -> int:
        """How many of the last columns of the hidden vector are the scaled inputs."""
        backbone = self.model.backbone
        if not isinstance(backbone, InputsBeside):
            return 0
        scale = backbone.scale
        return len(scale.mean) if isinstance(scale, Standardize) else len(self.info.features)

    def scaled_inputs(self, rows: NDArray[np.float32]) -> Tensor | None:
        """The scaled inputs of rows as they are in the hidden vector, ``(n, features)``, on the
        CPU; None where it does not have them. The deep part is not asked."""
        backbone = self.model.backbone
        if not isinstance(backbone, InputsBeside):
            return None
        with torch.no_grad():
            return backbone.scaled(own_copy(rows, self.model.device)).cpu()

    def embed(self, rows: NDArray[np.float32]) -> Tensor:
        """Hidden representation of rows, ``(n, hidden)``, by the frozen backbone, on the CPU."""
        with torch.no_grad():
            hidden: Tensor = self.model.backbone(own_copy(rows, self.model.device))
        return hidden.cpu()

    def embed_checked(self, rows: NDArray[np.float32]) -> tuple[Tensor, NDArray[np.float32]]:
        """Hidden representation of rows and what the frozen model says of them, `baseline`.

        Raises:
            PackageError: As `checked_probabilities`.
        """
        hidden = self.embed(rows)
        return hidden, _checked(self.answer(hidden), len(rows))

    @cached_property
    def reference_hidden(self) -> Tensor:
        """Hidden representation of the reference set, on the CPU."""
        return self.embed(self.reference_rows)

    def answer(self, hidden: Tensor) -> Tensor:
        """What the frozen model says of hidden vectors ``(n, hidden)``, in the shape of `baseline`.

        The answers are on the CPU.
        """
        with torch.no_grad():
            return self.model.decide(hidden.to(self.model.device)).cpu()

    @cached_property
    def no_answers(self) -> NDArray[np.float32]:
        """Probabilities of no rows, in the shape of `baseline`: no model is asked for 0 rows."""
        width = () if self.binary else (len(self.info.classes),)
        return np.zeros((0, *width), dtype=np.float32)

    @property
    def canary(self) -> Tensor:
        """Rows on which an adapter must answer as when it was made, on the model's device.

        A copy: a model that works in place must not change the reference set.
        """
        return own_copy(self.reference_rows[:CANARY_ROWS], self.model.device)

    @property
    def sensitive_columns(self) -> list[int]:
        """The columns that signals watch, in the order of the calibration."""
        return [self.info.features.index(c.column or c.feature) for c in self.info.calibration]

    @property
    def value_places(self) -> list[int]:
        """What of `watched` is the value of a feature."""
        return [i for i, c in enumerate(self.info.calibration) if c.of is Aspect.VALUE]

    def watched(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """What signals look at, ``(n, calibrated)``, in the order of the calibration.

        A missing number is the usual one here: that it is missing is watched by itself.
        """
        known, out = self.info.calibration, rows[:, self.sensitive_columns].astype(np.float64)
        if not self.info.columns:
            return out
        levels = {column.name: len(column.levels) for column in self.info.columns}
        for i, one in enumerate(known):
            if one.of is Aspect.MISSING:
                out[:, i] = np.isnan(out[:, i])
            elif one.of is Aspect.UNSEEN:
                out[:, i] = out[:, i] >= levels[one.column]
            else:
                out[:, i] = np.where(np.isnan(out[:, i]), one.mean, out[:, i])
        return out

    def counts(self, known: FeatureStatistics) -> NDArray[np.int64]:
        """How often each value of a column occurred in training, `counts_of`; in the reference set
        where the package does not say."""
        if known.counts:
            return np.asarray(known.counts)
        place = self.info.features.index(known.column)
        found = counts_of(self.info.columns[place], self.reference_rows[:, place])
        return found if known.of is Aspect.UNSEEN else np.append(found[:-1].sum(), found[-1])

    def baseline(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of the frozen model as trained for rows ``(n, features)``, ``(n,)``."""
        return checked_probabilities(self.model, rows)

    def recalls(self) -> dict[str, float]:
        """By class, the share of its reference rows that the model as trained decides right."""
        decided = decide_classes(self.baseline(self.reference_rows))
        shares = recalls_of(decided, self.reference_labels)
        return {str(self.info.classes[i]): share for i, share in shares.items()}

    def misfit(self, rows: NDArray[np.float32], answers: NDArray[np.float32]) -> str:
        """Why answers are not one for each row, in the shape of `baseline`; empty where they are.

        Args:
            rows: What was asked, ``(n, features)`` if it fits.
            answers: What the model said of them.
        """
        width = len(self.info.features)
        if rows.ndim != 2 or rows.shape[1] != width:
            return f"rows of shape {rows.shape} where {width} features belong"
        if answers.shape != (len(rows), *self.no_answers.shape[1:]):
            return f"the model gave answers of shape {answers.shape} to {len(rows)} rows"
        return ""

    def rules(self) -> RuleSet:
        """Its rules, bound to its columns, with full trust."""
        return RuleSet(self.info.rules, self.info.features, self.info.columns)


def checked_probabilities(model: SelfHealingModel, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of a model for rows ``(n, features)``, which it cannot change.

    Raises:
        PackageError: They are not probabilities, or not one answer per row.
    """
    with torch.no_grad():
        return _checked(model(own_copy(x, model.device)).cpu(), len(x))


def _checked(out: Tensor, n: int) -> NDArray[np.float32]:
    answers: NDArray[np.float32] = out.numpy()
    if len(answers) != n or out.ndim > 2 or not ((answers >= 0) & (answers <= 1)).all():
        raise PackageError(
            f"model: for {n} rows it returns shape {tuple(out.shape)} with values from"
            f" {out.min():g} to {out.max():g}; it must return one probability per row, or one per"
            " class (use output='logit' for a head without sigmoid or softmax)"
        )
    return answers


def check_hash(path: Path, sha256: str, tag: str) -> None:
    """See that a file of a package is the one that its description notes.

    Raises:
        PackageError: It is not there, or another one.
    """
    if not path.exists() or hash_file(path) != sha256:
        raise PackageError(f"{tag}: {path.name} does not have the hash noted in {INFO}")
