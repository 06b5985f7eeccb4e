"""The journal of one step: what was decided, for the caller to write in one transaction."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from bento_selfheal.core.records import Event, Measurement, Promotion, Snapshot
from bento_selfheal.core.review.asked_row import AskedRow
from bento_selfheal.healing.scoreboard import Scoreboard
from bento_selfheal.telemetry.spans import Telemetry

MEASURE_SECONDS = 1.0
"""Signals alone are measured no more often than this."""


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
    asked: list[AskedRow] = field(default_factory=list)
    """Rows whose labels people are asked for."""
    asked_anew: bool = False
    """Whether these take the place of all rows that wait."""
    export: bool = False
    """Whether the labelled buffer is to be written out for a retrain."""


class Journal:
    """Collects events, promotions and measurements until they are collected.

    Args:
        telemetry: Says in which span an event happens.
        scoreboard: Says at which labelled batch.
    """

    def __init__(self, telemetry: Telemetry, scoreboard: Scoreboard) -> None:
        self._telemetry = telemetry
        self._scoreboard = scoreboard
        self._measured_at = 0.0
        self.outcome = Outcome()

    def note(self, kind: str, detail: dict[str, Any]) -> None:
        """Note an event for people."""
        batch = self._scoreboard.counts.labelled_batches
        self.outcome.events.append(Event(kind, detail, time.time(), batch))
        self.outcome.traces.append(self._telemetry.traceparent())

    def promote(self, promotion: Promotion) -> None:
        """Note a change of what serves."""
        self.outcome.promotions.append(promotion)

    def measure(self, measurement: Measurement) -> None:
        """Note the figures of this moment."""
        self.outcome.measurements.append(measurement)

    def signals_are_due(self) -> bool:
        """Whether the signals are to be measured now; no load can make that more frequent."""
        now = time.time()
        if abs(now - self._measured_at) < MEASURE_SECONDS:
            return False
        self._measured_at = now
        return True

    def collect(self) -> Outcome:
        """Hand over what was noted, once."""
        done, self.outcome = self.outcome, Outcome()
        return done
