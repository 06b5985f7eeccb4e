"""The state that is shown: every drift is noted once, whichever way it began."""

from __future__ import annotations

import pytest
from rigs import Rig

from bento_selfheal.core.records import State
from bento_selfheal.core.transitions import Cause
from bento_selfheal.healing.state import ShownState
from bento_selfheal.packaging.package import Package

HEAL = (Cause.HEAL, State.HEALING)
SEEN, CALM = (Cause.SIGNALS, State.DRIFTING), (Cause.SIGNALS, State.HEALTHY)
STILL, GONE = (Cause.HEALED, State.DRIFTING), (Cause.HEALED, State.HEALTHY)
BACK = (Cause.ROLLBACK, State.ROLLED_BACK)


@pytest.mark.parametrize(
    ("steps", "drifts"),
    [
        ([SEEN, SEEN], 1),
        ([HEAL, STILL], 1),  # labels showed it
        ([SEEN, HEAL, STILL, SEEN], 1),
        ([SEEN, HEAL, GONE, HEAL, STILL], 2),
        ([SEEN, CALM, SEEN], 2),
        ([SEEN, BACK, SEEN], 2),
        ([HEAL, GONE, CALM], 0),
    ],
)
def test_each_drift_once(steps: list[tuple[Cause, State]], drifts: int) -> None:
    """It is told when the state becomes DRIFTING; a heal in between does not begin a new one."""
    told: list[None] = []
    shown = ShownState(lambda: told.append(None))
    for cause, state in steps:
        shown.become(cause, state)
    assert len(told) == drifts


def test_a_drift_that_a_heal_finds_is_an_event(package: Package) -> None:
    """The journal has it with the signals' reason."""
    rig = Rig(package)
    rig.pipeline.parts.shown.become(*HEAL)
    rig.pipeline.parts.shown.become(*STILL)
    rig.collect()
    [event] = [e for e in rig.done.events if e.kind == "drifting"]
    assert "reason" in event.detail


def test_a_restored_drift_is_not_a_new_one() -> None:
    """After a restart the drift goes on."""
    told: list[None] = []
    shown = ShownState(lambda: told.append(None))
    shown.restore({"state": State.DRIFTING})
    shown.become(*SEEN)
    assert not told
