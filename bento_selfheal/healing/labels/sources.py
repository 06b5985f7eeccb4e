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
MOST_SOURCES = 500
"""Sources that are known at a time, and as many that are quarantined. Of more, the one that was
heard least recently is forgotten; it begins anew when it is heard again."""
UNNAMED = "corrections without a source"
"""Whose corrections of named sources' labels are that name no source; they are judged too."""


@dataclass
class Source:
    """What is known of one source, besides its sums."""

    given: int = 0
    heard: int = 0
    """Labels of all sources when it was last heard."""
    over_quota: int = 0
    quarantined: str = ""
    """Why; empty while it is trusted."""
    process: EProcess = field(default_factory=EProcess)
    hides: list[EProcess] = field(default_factory=list)
    """By class, the evidence that this source keeps it back."""


class Sums:
    """Sums over the labels of each source, fading by half every 1,000 labels of all of them.

    A column each: labels, excess losses, and by class its probability less whether a label names
    it. One array holds them, so that all fade in one step.
    """

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._rows = np.zeros((0, 2))

    def add(self, name: str, values: Sequence[float]) -> None:
        """Let all fade, and add what a label says of its source."""
        self._rows *= 0.5 ** (1 / MEMORY)
        self._rows[self._names[name]] += values

    def know(self, name: str) -> None:
        """Make room for a source that is new."""
        self._names[name] = len(self._names)
        self._rows = np.vstack([self._rows, np.zeros(self._rows.shape[1])])

    def widen(self, columns: int) -> None:
        """Make room for classes, whose number is not known at first."""
        if self._rows.shape[1] < columns:
            more = np.zeros((len(self._rows), columns - self._rows.shape[1]))
            self._rows = np.hstack([self._rows, more])

    def drop(self, name: str) -> None:
        """Forget a source."""
        self._rows = np.delete(self._rows, self._names.pop(name), axis=0)
        self._names = {other: i for i, other in enumerate(self._names)}

    def put(self, name: str, values: Sequence[float]) -> None:
        """Set the sums of a source; those that are not given are 0."""
        self.widen(len(values))
        self._rows[self._names[name]] = 0.0
        self._rows[self._names[name], : len(values)] = values

    def of(self, name: str) -> list[float]:
        """The sums of a source."""
        sums: list[float] = self._rows[self._names[name]].tolist()
        return sums

    def all_but(self, names: set[str]) -> NDArray[np.float64]:
        """The sums of the other sources, ``(n, columns)``."""
        stay = [place for name, place in self._names.items() if name not in names]
        return self._rows[stay]


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
        self._sums = Sums()
        self._clock = 0

    def admits(self, name: str | None) -> bool:
        """Whether a label of this source may be learned from; counts it."""
        if name is None:
            return True
        source = self._heard(name)
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
        for name, loss, rest in zip(names, excess.tolist(), unnamed.tolist(), strict=True):
            self._judge_one(name or "", loss, rest)
        heard = set(names)
        return [
            (name, self.refuse(name, reason))
            for name, source in list(self.known.items())
            if name in heard and name and not source.quarantined
            and (reason := self._why(name, source))
        ]  # fmt: skip

    def _judge_one(self, name: str, loss: float, unnamed: list[float]) -> None:
        """Compare a label with those of the other sources, then add it to its own source's."""
        source = self._heard(name)
        source.hides = source.hides or [EProcess() for _ in unnamed]
        self._sums.widen(2 + len(unnamed))
        if name and not source.quarantined:
            left_out = {other for other, s in self.known.items() if s.quarantined} | {name}
            others = self._sums.all_but(left_out)
            if sum(others[:, 0].tolist()) >= FEWEST:
                usual = _medians(others)
                source.process.update(_gap(loss, usual[0], MARGIN), BETS)
                for value, own, process in zip(unnamed, usual[1:], source.hides, strict=True):
                    process.update(_gap(value, own, HIDDEN), BETS)
        self._sums.add(name, [1.0, loss, *unnamed])

    def _heard(self, name: str) -> Source:
        """A source, heard most recently now; of too many, the one that is silent longest goes."""
        if name not in self.known:
            self._make_room(quarantined=False)
            self.known[name] = Source()
            self._sums.know(name)
        self._clock += 1
        self.known[name].heard = self._clock
        return self.known[name]

    def _make_room(self, *, quarantined: bool) -> None:
        """Forget the sources of one kind that were silent longest, where there are too many."""
        alike = [n for n, s in self.known.items() if n and bool(s.quarantined) == quarantined]
        if len(alike) >= MOST_SOURCES:
            name = min(alike, key=lambda n: self.known[n].heard)
            del self.known[name]
            self._sums.drop(name)

    def _why(self, name: str, source: Source) -> str:
        """Why a source is to be refused; empty when it is not. Each of the two questions has half
        of alpha."""
        if source.process.reaches(self._alpha / 2):
            return _reason(source)
        for c, process in enumerate(source.hides):
            if process.reaches(self._alpha / 2 / len(source.hides)):
                labels, _, *unnamed = self._sums.of(name)
                share = unnamed[c] / labels
                return (
                    f"it names class {c} more rarely than is expected of its rows, by {share:.2f} "
                    "of its labels, and others do not"
                )
        return ""

    def refuse(self, name: str, reason: str) -> str:
        """Quarantine a source from now on; returns the reason."""
        self._make_room(quarantined=True)
        self._heard(name).quarantined = reason
        return reason

    def release(self, name: str) -> str:
        """Trust a source again, with no past that speaks against it; why it was refused, or ""."""
        source = self.known.get(name)
        if source is None or not source.quarantined:
            return ""
        self._sums.put(name, [])
        self.known[name] = Source(source.given, source.heard, source.over_quota)
        return source.quarantined

    def state(self) -> dict[str, Any]:
        """All of it as JSON values, for the checkpoint."""
        return {"known": {n: self._facts(n) for n in self.known}, "recent": self.recent}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.recent = list(state["recent"])
        for name, facts in state["known"].items():
            own = {k: v for k, v in facts.items() if k not in ("labels", "losses", "unnamed")}
            sums = [facts["labels"], facts["losses"], *facts.get("unnamed", [])]
            processes = {
                "process": EProcess(**facts["process"]),
                "hides": [EProcess(**one) for one in facts.get("hides", [])],
            }
            self.known[name] = Source(**{**own, **processes})
            self._sums.know(name)
            self._sums.put(name, sums)
        self._clock = max((s.heard for s in self.known.values()), default=0)

    def status(self) -> dict[str, dict[str, Any]]:
        """By source: labels given, over quota, mean excess loss, why quarantined."""
        return {
            name: {
                "labels": s.given,
                "over_quota": s.over_quota,
                "excess_loss": self._mean_loss(name),
                "quarantined": s.quarantined or None,
            }
            for name, s in self.known.items()
            if name
        }

    def _mean_loss(self, name: str) -> float | None:
        labels, losses, *_ = self._sums.of(name)
        return losses / labels if labels else None

    def _facts(self, name: str) -> dict[str, Any]:
        labels, losses, *unnamed = self._sums.of(name)
        return {
            **asdict(self.known[name]), "labels": labels, "losses": losses, "unnamed": unnamed,
        }  # fmt: skip


def _gap(value: float, usual: float, margin: float) -> NDArray[np.float64]:
    return np.asarray([np.clip(value - usual - margin, -1, 1)])


def _medians(others: NDArray[np.float64]) -> list[float]:
    """Medians by labels of what sources have on average: of the excess loss, then of each class
    that is not named. Means of few labels lean on that of all."""
    labels, sums = np.ascontiguousarray(others[:, :1]), np.ascontiguousarray(others[:, 1:])
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
