"""What everybody who races said of labels that were new to all, and the shares that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.expert import one_hot, softmax
from bento_selfheal.experts.lesson import Lesson

SHARPNESS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
"""An expert's log probabilities are multiplied by the one of these that would have been best."""
_SHARPNESS = np.asarray(SHARPNESS, dtype=np.float32)
AS_SAID = SHARPNESS.index(1.0)
HALF_LIFE = 600.0
"""Labels after which a log loss counts half."""
BRIER = 0.75
"""Share of the Brier score in the loss that decides on shares, as in the gate's; the rest is
whether the decision was wrong."""
THEN, NOW = 0, 1
"""Whose answers an opinion looks at: everybody's as they were when rows were asked, or now."""


@dataclass(frozen=True)
class Opinion:
    """One way to turn losses into shares."""

    looks: int
    half_life: float
    """Labels after which a loss counts half"""
    rate: float
    """Nats that a difference of 1 in the summed losses makes between two shares. Slowly, good
    experts answer together, which is better than the best of them; fast, the one that is far ahead
    does."""


OPINIONS = (
    Opinion(THEN, 300, 0.02),
    Opinion(THEN, 3000, 0.02),
    Opinion(THEN, 600, 0.1),
    Opinion(THEN, 300, 1.0),
    Opinion(NOW, 600, 0.2),
    Opinion(NOW, 600, 1.0),
)
_LOOKS = [opinion.looks for opinion in OPINIONS]
_HALF_LIVES = np.asarray([[opinion.half_life] for opinion in OPINIONS])
_RATES = np.asarray([[opinion.rate] for opinion in OPINIONS])
HEARD_HALF_LIFE, HEARD_RATE = 1200.0, 0.5
"""How opinions are weighed themselves, by what each would have answered when rows were asked."""
AHEAD = 2.0
"""Summed loss by which the frozen model is ahead of everybody before there are labels."""
FLOOR = 1e-3
"""Least probability of the truth in a log loss: one surprise is not the end."""

Shares = NDArray[np.float64]
"""Of each opinion, ``(opinions, names)``."""
Said = NDArray[np.float32]
"""Log probabilities up to a constant of everybody, ``(names, n, classes)``."""


class Record:
    """Losses of everybody on labels that they had not learned yet.

    Everybody is weighted by the loss as the gate knows it: log loss would trust who is calibrated
    over who is right, and is only asked how sharp each should be. Opinions of the shares
    (`OPINIONS`) differ in what they look at and in how fast they follow it. Labels come late, and
    who knows the newest ones looks better now than it could have answered when the rows were asked;
    but after a sudden change only what is said now tells who learns fast. What each opinion would
    have answered decides between them.

    Args:
        names: Everybody; the frozen model is the first.
        classes: Number of classes.
    """

    def __init__(self, names: Sequence[str], classes: int) -> None:
        self.names = list(names)
        self._classes = classes
        self._log_losses = np.zeros((len(names), len(SHARPNESS)))
        self._losses = np.zeros((len(OPINIONS), len(names)))
        self._opinions = np.zeros(len(OPINIONS))

    def note(self, lesson: Lesson, rarity: float, now: Said, past: Said) -> None:
        """Note what was said of labelled rows.

        Args:
            lesson: The rows.
            rarity: How many times longer losses count, where one class has almost all rows.
            now: What everybody says.
            past: What everybody said when the rows were asked.
        """
        count = float(lesson.weights.sum()) / rarity
        chosen = said_by(np.stack([past, now]), self.sharpest())
        missed = self._missed(chosen, lesson)[_LOOKS]
        self._losses = self._losses * 0.5 ** (count / _HALF_LIVES) + missed
        least = past - past.max(axis=-1, keepdims=True)
        powers = np.exp(_SHARPNESS[:, np.newaxis, np.newaxis] * least[:, np.newaxis])
        labels = lesson.labels.long().numpy()
        named = powers[:, :, np.arange(len(lesson)), labels] / powers.sum(axis=-1)
        fresh = -np.log(np.maximum(named, FLOOR, dtype=np.float64)) @ lesson.weights.numpy()
        self._log_losses = self._log_losses * 0.5 ** (count / HALF_LIFE) + fresh

    def weigh(
        self, lesson: Lesson, rarity: float, past: Said, shares: Shares, sharpness: list[int]
    ) -> None:
        """Note what each opinion would have answered when rows were asked.

        Args:
            lesson: As in `note`.
            rarity: As in `note`.
            past: As in `note`.
            shares: Those of then.
            sharpness: Places in the sharpnesses of then.
        """
        count = float(lesson.weights.sum()) / rarity
        mixed = np.tensordot(shares, said_by(past, sharpness), 1)
        fade = 0.5 ** (count / HEARD_HALF_LIFE)
        self._opinions = self._opinions * fade + self._missed(mixed, lesson)

    def shares(self) -> Shares:
        """Of each opinion."""
        behind = self._losses - self._losses.min(axis=1, keepdims=True)
        behind[:, 1:] += AHEAD
        return softmax(-_RATES * behind)

    def heard(self) -> NDArray[np.float64]:
        """Shares of everybody by all opinions together, ``(names,)``."""
        out: NDArray[np.float64] = softmax(-HEARD_RATE * self._opinions) @ self.shares()
        return out

    def sharpest(self) -> list[int]:
        """For each the place of its best sharpness so far."""
        best: list[int] = self._log_losses.argmin(axis=1).tolist()
        return best if self._log_losses.any() else [AS_SAID] * len(best)

    def _missed(self, probabilities: NDArray[np.float64], lesson: Lesson) -> NDArray[np.float64]:
        """Summed losses of probabilities ``(..., n, classes)``, ``(...)``."""
        truth = one_hot(lesson.labels, self._classes)
        brier = np.square(probabilities - truth).sum(axis=-1) / 2
        wrong = probabilities.argmax(axis=-1) != lesson.labels.long().numpy()
        missed = (BRIER * brier + (1 - BRIER) * wrong) @ lesson.weights.numpy().astype(np.float64)
        return np.asarray(missed)

    def state(self) -> dict[str, Tensor]:
        """As tensors, for a package or a checkpoint."""
        out = {"opinions": torch.from_numpy(self._opinions.copy())}
        for i, name in enumerate(self.names):
            out[f"{name}.log_losses"] = torch.from_numpy(self._log_losses[i].copy())
            out[f"{name}.losses"] = torch.from_numpy(self._losses[:, i].copy())
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            RuntimeError: It is the state of others, or of other opinions.
        """
        missing = sorted({"opinions", *(f"{name}.losses" for name in self.names)} - set(state))
        if missing:
            raise RuntimeError(f"the race has no {', '.join(missing)}")
        if len(state["opinions"]) != len(OPINIONS):
            given = len(state["opinions"])
            raise RuntimeError(f"the race has {given} opinions, {len(OPINIONS)} are expected")
        self._opinions = state["opinions"].numpy()
        self._log_losses = np.stack([state[f"{name}.log_losses"].numpy() for name in self.names])
        self._losses = np.stack([state[f"{name}.losses"].numpy() for name in self.names], axis=1)


def said_by(said: NDArray[np.float32], sharpness: list[int]) -> NDArray[np.float64]:
    """Probabilities of everybody, each as sharp as is best, ``(..., names, n, classes)``."""
    sharp = _SHARPNESS[sharpness][:, np.newaxis, np.newaxis]
    return softmax(sharp * said).astype(np.float64)
