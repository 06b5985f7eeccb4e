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


class Sources:
    """Judges each source by how much more its labels surprise the model than the others' do.

    What counts is the excess of the loss on a label over the loss that the model itself expects
    there, so that hard rows accuse nobody. The test is the gate's: a betting e-process on that
    excess less a margin and the median of the other sources' means, from the past only. A median
    by labels is moved by no minority, and no number of sources outvotes the labels. Rows without
    a source count among the others and are never judged.

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
        self, names: Sequence[str | None], excess: NDArray[np.float64]
    ) -> list[tuple[str, str]]:
        """Take the excess loss on each newly labelled row; (source, reason) newly refused."""
        for name, loss in zip(names, excess.tolist(), strict=True):
            source = self.known.setdefault(name or "", Source())
            others = [s for s in self.known.values() if s is not source and not s.quarantined]
            if name and not source.quarantined and sum(s.labels for s in others) >= FEWEST:
                gap = float(np.clip(loss - _median(others) - MARGIN, -1, 1))
                source.process.update(np.asarray([gap]), BETS)
            fade = 0.5 ** (1 / MEMORY)
            for each in self.known.values():
                each.losses, each.labels = each.losses * fade, each.labels * fade
            source.losses, source.labels = source.losses + loss, source.labels + 1
        return [
            (name, self.refuse(name, _reason(source)))
            for name, source in self.known.items()
            if name and not source.quarantined and source.process.reaches(self._alpha)
        ]

    def refuse(self, name: str, reason: str) -> str:
        """Quarantine a source from now on; returns the reason."""
        self.known.setdefault(name, Source()).quarantined = reason
        return reason

    def state(self) -> dict[str, Any]:
        """All of it as JSON values, for the checkpoint."""
        return {"known": {n: asdict(s) for n, s in self.known.items()}, "recent": self.recent}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.recent = list(state["recent"])
        self.known = {
            name: Source(**{**facts, "process": EProcess(**facts["process"])})
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


def _median(sources: Sequence[Source]) -> float:
    """The median of their mean excess losses by labels; means of few labels lean on that of all."""
    labels = np.asarray([s.labels for s in sources])
    losses = np.asarray([s.losses for s in sources])
    means = (losses + FEWEST * losses.sum() / labels.sum()) / (labels + FEWEST)
    order = np.argsort(means)
    heard = np.cumsum(labels[order])
    return float(means[order][np.searchsorted(heard, heard[-1] / 2)])


def _reason(source: Source) -> str:
    process, fade = source.process, 0.5 ** (1 / BETS)
    newest = process.recent * (1 - fade) / (1 - fade**process.count)
    return (
        f"its labels contradict the other sources': loss higher by {newest + MARGIN:.2f} "
        f"on its newest of {process.count} labels"
    )
