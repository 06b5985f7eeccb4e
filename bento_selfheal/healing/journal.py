"""What the pipeline decided since it was last asked, for its caller to write in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field

from bento_selfheal.core.records import Event, Measurement, Promotion, Snapshot


@dataclass
class Outcome:
    """Decisions in the order in which they were taken."""

    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    """New or measured anew, by version."""
    promotions: list[Promotion] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    traces: list[str | None] = field(default_factory=list)
    """For each event the span that it happened in, as a W3C traceparent."""
    export: bool = False
    """Whether the labelled buffer is to be written out for a retrain."""
