"""A drift whose causes are looked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import Counts
from bento_selfheal.healing.causes.report import CauseReport, DriftKind

FIRST_LOOK = 50
"""Labels at which is looked first; then always at twice as many."""


@dataclass
class Drift:
    """What is known of it, and where it began.

    Attributes:
        since: Place in the prediction log from which on rows are of it.
        offset: The same of rows that came with their label: labels that came before.
        batches: Batches of rows until all of the window came after the drift was seen.
        counts: Newest rows in each cell, as they are compared, ``(facets, WIDTH)``.
        look: Labels at which is looked next.
        told: The kind that was told last.
        changed: Whether labels have said that the meaning changed.
        report: What is known.
    """

    since: int
    offset: int
    batches: int
    counts: Counts
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
        return cls(**{**state, "counts": counts, "told": told, "report": report})
