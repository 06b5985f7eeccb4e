"""A drift whose causes are looked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import Counts
from bento_selfheal.healing.causes.report import CauseReport, DriftKind

FIRST_LOOK = 50
"""Labels from after the drift was seen at which is looked first; then always at twice as many."""


class Begin(NamedTuple):
    """Where rows begin.

    Attributes:
        place: In the prediction log.
        offset: In the labels, of rows that came with theirs: labels that came before.
    """

    place: int
    offset: int


@dataclass
class Drift:
    """What is known of it, and where it began.

    Attributes:
        since: Where in both logs it may have begun; rows from there on are of it.
        seen: Where it was seen; only rows from there on are surely of it.
        batches: Batches of rows until all of the window came after the drift was seen.
        counts: Newest rows in each cell, as they are compared, ``(facets, WIDTH)``.
        inputs: Inputs that had moved when it was seen.
        look: Labels from after it was seen at which is looked next.
        told: The kind that was told last.
        changed: Whether labels have said that the meaning changed.
        report: What is known.
    """

    since: Begin
    seen: Begin
    batches: int
    counts: Counts
    inputs: list[int]
    look: int = FIRST_LOOK
    told: DriftKind = DriftKind.UNKNOWN
    changed: bool = False
    report: CauseReport = field(default_factory=CauseReport)

    def state(self) -> dict[str, Any]:
        """As JSON values, without the counts."""
        own = {name: value for name, value in vars(self).items() if name != "counts"}
        return {**own, "report": self.report.as_dict()}

    @classmethod
    def restored(cls, state: dict[str, Any], counts: NDArray[Any]) -> Drift:
        """What `state` gave, with its counts."""
        told, report = DriftKind(state["told"]), CauseReport.from_dict(state["report"])
        begins = {name: Begin(*state[name]) for name in ("since", "seen")}
        return cls(**{**state, **begins, "counts": counts, "told": told, "report": report})
