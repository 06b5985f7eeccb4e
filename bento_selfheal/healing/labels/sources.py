"""Sources of feedback: who may teach how much, and who contradicts all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.evidence.e_process import EProcess

MEMORY = 1000.0
BETS = 150.0
"""Labels of its own after which a source's past counts half: a long good past shields no lie."""
FEWEST = 25.0
MARGIN = 0.1
HIDDEN = 0.2
"""Share of all labels by which a source may name a class more rarely than is expected of its rows,
beyond what the others do."""
QUOTA_ROWS = 1000
UNNAMED = "corrections without a source"
"""Whose corrections of named sources' labels are that name no source; they are judged too."""


@dataclass
class Source:
    """What is known of one source."""

    losses: float = 0.0
    """Sum of the excess losses on its labels, fading by half every 1,000 labels."""
    labels: float = 0.0
    """How many those are, fading alike."""
    given: int = 0
    over_quota: int = 0
    quarantined: str = ""
    """Why; empty while it is trusted."""
    process: EProcess = field(default_factory=EProcess)
    unnamed: list[float] = field(default_factory=list)
    """By class, the sum of its probability less whether the label names it, fading alike."""
    hides: list[EProcess] = field(default_factory=list)
    """By class, the evidence that this source keeps it back."""

    def tell_classes(self, classes: int) -> None:
        """Say how many classes there are, which it does not know when it is new."""
        if not self.hides:
            self.unnamed, self.hides = [0.0] * classes, [EProcess() for _ in range(classes)]


class Sources:
    """Judges each source by how much more its labels surprise the model than the others' do.

    What counts is the excess of the loss on a label over the loss that the model itself expects
    there, so that hard rows accuse nobody. The test is the gate's: a betting e-process on that
    excess less a margin and the median of the other sources' means, from the past only. A median
    by labels is moved by no minority, and no number of sources outvotes the labels. Rows without
    a source count among the others and are never judged.

    Whoever keeps one class back surprises a model little that has learned from such labels. So the
    same is asked of each class: how much more rarely a source names it than the model expects of
    its rows.

    Args:
        alpha: Chance that an honest source, whose rows are no harder, is ever quarantined.
        quota: Labels of each 1,000 that one source may teach; 1,000 for no bound.
    """

    def __init__(self, alpha: float, quota: int) -> None:
        self._alpha = alpha
        self._quota = quota
        self.known: dict[str, Source] = {}
        self.recent: list[str] = []

    def admits(self, name: str | None) -> bool:
        """Whether a label of this source may be learned from; counts it."""
        if name is None:
            return True
        source = self.known.setdefault(name, Source())
        source.given += 1
        if source.quarantined:
            return False
        self.recent = [*self.recent, name][-QUOTA_ROWS:]
        if self._quota < QUOTA_ROWS and self.recent.count(name) > self._quota:
            source.over_quota += 1
            self.recent.pop()
            return False
        return True

    def judge(
        self,
        names: Sequence[str | None],
        excess: NDArray[np.float64],
        unnamed: NDArray[np.float64],
    ) -> list[tuple[str, str]]:
        """Judge the sources of newly labelled rows; (source, reason) newly refused.

        Args:
            names: Who labelled each, ``(n,)``.
            excess: Its excess loss, ``(n,)``.
            unnamed: Probability of each class less whether the label names it, ``(n, classes)``.
        """
        for name in dict.fromkeys(names):
            self.known.setdefault(name or "", Source())
        for each in self.known.values():
            each.tell_classes(unnamed.shape[1])
        for name, loss, rest in zip(names, excess.tolist(), unnamed.tolist(), strict=True):
            source = self.known[name or ""]
            others = [s for s in self.known.values() if s is not source and not s.quarantined]
            if name and not source.quarantined and sum(s.labels for s in others) >= FEWEST:
                usual = _medians(others)
                source.process.update(_gap(loss, usual[0], MARGIN), BETS)
                for value, own, process in zip(rest, usual[1:], source.hides, strict=True):
                    process.update(_gap(value, own, HIDDEN), BETS)
            fade = 0.5 ** (1 / MEMORY)
            for each in self.known.values():
                each.losses, each.labels = each.losses * fade, each.labels * fade
                each.unnamed = [value * fade for value in each.unnamed]
            source.losses, source.labels = source.losses + loss, source.labels + 1
            source.unnamed = [a + b for a, b in zip(source.unnamed, rest, strict=True)]
        return [
            (name, self.refuse(name, reason))
            for name, source in self.known.items()
            if name and not source.quarantined and (reason := self._why(source))
        ]

    def _why(self, source: Source) -> str:
        """Why a source is to be refused; empty when it is not. Each of the two questions has half
        of alpha."""
        if source.process.reaches(self._alpha / 2):
            return _reason(source)
        for c, process in enumerate(source.hides):
            if process.reaches(self._alpha / 2 / len(source.hides)):
                share = source.unnamed[c] / source.labels
                return (
                    f"it names class {c} more rarely than is expected of its rows, by {share:.2f} "
                    "of its labels, and others do not"
                )
        return ""

    def refuse(self, name: str, reason: str) -> str:
        """Quarantine a source from now on; returns the reason."""
        self.known.setdefault(name, Source()).quarantined = reason
        return reason

    def release(self, name: str) -> str:
        """Trust a source again, with no past that speaks against it; why it was refused, or ""."""
        source = self.known.get(name)
        if source is None or not source.quarantined:
            return ""
        self.known[name] = Source(given=source.given, over_quota=source.over_quota)
        return source.quarantined

    def state(self) -> dict[str, Any]:
        """All of it as JSON values, for the checkpoint."""
        return {"known": {n: asdict(s) for n, s in self.known.items()}, "recent": self.recent}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.recent = list(state["recent"])
        self.known = {
            name: Source(
                **{
                    **facts,
                    "process": EProcess(**facts["process"]),
                    "hides": [EProcess(**one) for one in facts.get("hides", [])],
                }
            )
            for name, facts in state["known"].items()
        }

    def status(self) -> dict[str, dict[str, Any]]:
        """By source: labels given, over quota, mean excess loss, why quarantined."""
        return {
            name: {
                "labels": s.given,
                "over_quota": s.over_quota,
                "excess_loss": s.losses / s.labels if s.labels else None,
                "quarantined": s.quarantined or None,
            }
            for name, s in self.known.items()
            if name
        }


def _gap(value: float, usual: float, margin: float) -> NDArray[np.float64]:
    return np.asarray([np.clip(value - usual - margin, -1, 1)])


def _medians(sources: Sequence[Source]) -> list[float]:
    """Medians by labels of what sources have on average: of the excess loss, then of each class
    that is not named. Means of few labels lean on that of all."""
    labels = np.asarray([s.labels for s in sources])[:, None]
    sums = np.asarray([[s.losses, *s.unnamed] for s in sources])
    means = (sums + FEWEST * sums.sum(axis=0) / labels.sum()) / (labels + FEWEST)
    order = np.argsort(means, axis=0)
    heard = np.cumsum(labels[order, 0], axis=0)
    middle = (heard < heard[-1] / 2).sum(axis=0)
    return [float(means[order[m, k], k]) for k, m in enumerate(middle)]


def _reason(source: Source) -> str:
    process, fade = source.process, 0.5 ** (1 / BETS)
    newest = process.recent * (1 - fade) / (1 - fade**process.count)
    return (
        f"its labels contradict the other sources': loss higher by {newest + MARGIN:.2f} "
        f"on its newest of {process.count} labels"
    )
