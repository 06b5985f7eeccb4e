"""What is known of the causes of a drift, as JSON values and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

NOWHERE = 0.5
"""Share of labelled rows that no reference row is like, from which on labels cannot tell."""


class DriftKind(StrEnum):
    """What a drift is, by the field's terms."""

    COVARIATE = "covariate shift"  # inputs moved; the classes follow from them as they did
    CONCEPT = "concept drift"  # inputs stayed; the classes no longer follow from them as they did
    BOTH = "covariate shift and concept drift"
    UNKNOWN = "not enough labels to tell"
    NEITHER = "no cause found"  # nothing moved, and labels say that nothing changed


@dataclass
class ColumnCause:
    """What is known of one input."""

    name: str
    of: str
    """What of it moved furthest: ``values``, ``missing``, ``unseen``, or ``input``"""
    moved: bool
    divergence: float
    """Of Jensen and Shannon, in nats, of the newest rows and the reference rows"""
    expected: float
    """Of no drift, on average"""
    z: float
    """Divergence less what is expected, in standard deviations of no drift"""
    missing: float
    """Share of the newest rows that lack a value; of the reference rows `missing_before`"""
    missing_before: float
    unseen: float
    """Share with a category, or a number outside the range, that the reference rows lack"""
    meaning_changed: bool = False
    meaning_z: float | None = None
    """How far classes are from those of like rows before, in standard deviations of no change; less
    what is common to all rows"""
    gain_share: float | None = None
    """Share of what healing gained on labelled rows with values that became more common; None where
    nothing was surely gained"""
    row_share: float | None = None
    """Share of the labelled rows that are such rows"""


@dataclass
class CauseReport:
    """Why it drifts, as far as is known."""

    kind: DriftKind = DriftKind.UNKNOWN
    rows: int = 0
    """Newest rows that were compared"""
    labels: int = 0
    """Labelled rows of the drift that were compared"""
    smallest_change: float | None = None
    """Of the chance of a class, the smallest change that these labels would show in four cases of
    five; None where they say nothing"""
    outside: float = 0.0
    """Share of the labelled rows that no reference row is like"""
    gain: float | None = None
    """Brier score of the frozen model less that of what was served, on the labelled rows"""
    moved: int = 0
    """How many inputs moved"""
    columns: list[ColumnCause] = field(default_factory=list)
    """The inputs that tell most, the first cause first"""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, with the sentence."""
        told: dict[str, Any] = REPORT.dump_python(self, mode="json")
        return {"sentence": self.sentence, **told}

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> CauseReport:
        """What `as_dict` told."""
        return REPORT.validate_python({k: v for k, v in told.items() if k != "sentence"})

    @property
    def sentence(self) -> str:
        """Why it drifts, in words."""
        if not self.rows:
            return "no rows to compare yet"
        return f"{self._inputs()}; {self._meaning()}"

    def _inputs(self) -> str:
        moved = [one for one in self.columns if one.moved]
        if not moved:
            return "no input moved"
        others = f", and {self.moved - 1} more moved" if self.moved > 1 else ""
        return f"{how_it_moved(moved[0])}{others}"

    def _meaning(self) -> str:
        if self.kind is DriftKind.UNKNOWN:
            return "not enough labels to tell whether its meaning changed"
        changed = [one for one in self.columns if one.meaning_changed]
        if self.kind in (DriftKind.COVARIATE, DriftKind.NEITHER):
            if self.smallest_change is None or self.outside >= NOWHERE:
                return (
                    "labels cannot tell whether its meaning changed: most rows are like none before"
                )
            points = f"{100 * self.smallest_change:.1f} points"
            return f"its meaning did not change by {points} or more, say {self.labels} labels"
        if not changed:
            return "the classes no longer follow from the inputs as they did"
        return f"the meaning of {changed[0].name} changed"


REPORT = TypeAdapter(CauseReport)


def how_it_moved(one: ColumnCause) -> str:
    """What happened to an input, in words."""
    if one.of == "missing":
        return f"{one.name} is missing in {one.missing:.1%} of the rows, before in " \
               f"{one.missing_before:.1%}"  # fmt: skip
    if one.of == "unseen":
        return f"{one.name} has categories that training lacked in {one.unseen:.1%} of the rows"
    return (
        f"{one.name} moved most: divergence {one.divergence:.3g}, "
        f"{one.expected:.2g} expected without drift"
    )
