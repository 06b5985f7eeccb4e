"""A batch of labelled rows, which is judged before anything trains on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.healing.labels.join import JoinedRow
from bento_selfheal.healing.labels.reviewed import Reviewed
from bento_selfheal.healing.labels.set_aside import Answers
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import (
    decide_or_half,
    left_to_frozen,
    probabilities_or_half,
)
from bento_selfheal.telemetry import names

DecidedAt = Callable[[NDArray[np.int64]], float | NDArray[np.float64]]
"""At which threshold rows were decided, by the version that answered each: one for all, or
``(n,)``."""


@dataclass(frozen=True)
class LabelledBatch:
    """Newly labelled rows, oldest label first, with what was said of them before."""

    rows: tuple[JoinedRow, ...]
    features: NDArray[np.float32]
    """``(n, features)``"""
    labels: NDArray[np.float32]
    """``(n,)``, indices of classes"""
    served: NDArray[np.float32]
    """What was answered, ``(n,)`` or ``(n, classes)``; where a row was never asked, what the
    champion says."""
    versions: NDArray[np.int64]
    """Snapshot version that answered each, ``(n,)``; where a row was never asked, the one that
    serves."""
    package: Package = field(repr=False)
    """The packaged model"""
    frozen: Answers | None = field(default=None, repr=False)
    """What its frozen parts say of the rows, where they were asked already"""
    context: Tensor | None = field(default=None, repr=False)
    """What the rows around each were like, ``(n, inputs)``, where experts want to know"""

    @classmethod
    def of(
        cls,
        rows: list[JoinedRow],
        champion: SelfHealingModel,
        package: Package,
        frozen: Answers | None = None,
        version: int = 0,
    ) -> LabelledBatch:
        """Gather rows, one at least, and have them answered; by ``version`` where none was."""
        features = np.stack([row.features for row in rows]).astype(np.float32)
        return cls(
            tuple(rows),
            features,
            np.asarray([row.label for row in rows], dtype=np.float32),
            served_answers(rows, features, champion),
            np.asarray([row.version or version for row in rows], dtype=np.int64),
            package,
            frozen,
        )

    @classmethod
    def empty(cls, package: Package) -> LabelledBatch:
        """No rows: of a heal that an operator asks for."""
        nothing, versions = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
        features = np.zeros((0, len(package.info.features)), dtype=np.float32)
        return cls((), features, nothing, package.no_answers, versions, package)

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, begin: int, end: int) -> LabelledBatch:
        """Some rows that follow each other."""
        return self.only(np.arange(begin, min(end, len(self))))

    def only(self, places: NDArray[np.int64]) -> LabelledBatch:
        """The rows at these places."""
        if len(places) == len(self):
            return self
        return LabelledBatch(
            tuple(self.rows[i] for i in places),
            self.features[places],
            self.labels[places],
            self.served[places],
            self.versions[places],
            self.package,
            context=None if self.context is None else self.context[places],
        )

    @cached_property
    def hidden(self) -> Tensor:
        """The frozen backbone's output, ``(n, hidden)``, on the CPU.

        Parts of a batch have their own: sums over another number of rows may round differently.
        """
        if self.frozen is not None:
            return self.frozen[0]
        # No model is asked for 0 rows: not every one can answer that.
        return self.package.embed(self.features) if len(self) else torch.zeros(0)

    @cached_property
    def baseline(self) -> NDArray[np.float32]:
        """What the frozen model as trained says, in the shape of ``served``."""
        if self.frozen is not None:
            return self.frozen[1]
        return self.package.answer(self.hidden).numpy() if len(self) else self.package.no_answers

    @cached_property
    def reviewed(self) -> Reviewed:
        """What the labels stand for."""
        return Reviewed.of(self.rows)

    def answers(self, model: SelfHealingModel) -> NDArray[np.float32]:
        """What a model over the same backbone answers to the rows, in the shape of ``served``."""
        return left_to_frozen(model, self.features, self.all_by(model), self.baseline)

    def all_by(self, model: SelfHealingModel) -> NDArray[np.float32]:
        """What a model says of all rows, those included that it leaves to the packaged one.

        Each is asked once: a batch is judged before anything trains on it. An answer that is no
        number counts as knowing nothing.
        """
        if id(model) not in self._asked:
            said = decide_or_half(model, self.hidden, self.context, self.baseline)
            self._asked[id(model)] = model, said
        return self._asked[id(model)][1]

    @cached_property
    def _asked(self) -> dict[int, tuple[SelfHealingModel, NDArray[np.float32]]]:
        return {}

    @property
    def asked(self) -> NDArray[np.int64]:
        """Place of each row's prediction in the log, ``(n,)``; -1 where there was none."""
        return np.asarray([row.asked for row in self.rows], dtype=np.int64)

    @property
    def sources(self) -> list[str | None]:
        """Who labelled each row."""
        return [row.source for row in self.rows]

    @property
    def traces(self) -> list[str | None]:
        """The distinct requests that brought the labels, the newest of them."""
        return list(dict.fromkeys(row.trace for row in self.rows))[-names.MAX_LINKS :]

    @property
    def delay(self) -> float | None:
        """Mean seconds from answer to label; None where no row was asked."""
        delays = [row.delay for row in self.rows if row.delay is not None]
        return float(np.mean(delays)) if delays else None


def served_answers(
    rows: list[JoinedRow], features: NDArray[np.float32], champion: SelfHealingModel
) -> NDArray[np.float32]:
    """What was answered to each row; where it was never asked, what the champion says of it."""
    given = [row.probability for row in rows]
    if any(probability is None for probability in given):
        now = probabilities_or_half(champion, features).tolist()
        given = [p if p is not None else q for p, q in zip(given, now, strict=True)]
    return np.asarray(given, dtype=np.float32)
