"""Labels that nobody asked for, and that come all the same, as with a nightly file of all rows."""

from __future__ import annotations

import pytest
from rigs import Live, Rig, drifting

from bento_selfheal.core.records import State
from bento_selfheal.healing.review import purse
from bento_selfheal.packaging.package import Package


@pytest.mark.parametrize("health", ["evidence", "article"])
def test_they_say_nothing_of_the_accuracy(
    package: Package, health: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of labels that nobody asked for shows no accuracy, good or bad, and alarms nobody."""
    monkeypatch.setattr(purse, "FIRST_ROWS", 0)
    ran = Live(Rig(package, review="queue", review_budget=1, health=health))
    ran.send(*drifting(clean=1000, drifted=0))
    status = ran.rig.status()
    assert status["labelled_batches"] > 10
    assert (status["state"], status["signals"]["error"]) == (State.HEALTHY.value, "")
    assert (status["last"], status["estimate"]["checks"]) == (None, 0)
    assert not any(m.scored for m in ran.rig.done.measurements)
