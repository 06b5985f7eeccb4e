"""Load with heals forced back to back."""

from __future__ import annotations

from pathlib import Path

import pytest
from live import served
from under_heals import SETTINGS, ours_in_turns

from bento_selfheal.packaging.package import Package


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_prediction_fails_while_heals_run_back_to_back(
    home: Path, package: Package, tmp_path: Path
) -> None:
    """In 20 s under forced heals, each promoted and swapped in, every prediction is answered."""
    settings = {**SETTINGS, "workers": 2, "heal_share": 1}
    with served(home, package, tmp_path, **settings) as server:
        loads = ours_in_turns(server.port, tmp_path / "state", rate=100, seconds=20, rounds=1)
    healed = loads["with_heals"]
    assert healed.heals >= 8
    assert healed.promotions == healed.heals
    assert len(healed.times) == 2000
    assert healed.failed == 0
    assert loads["without"].failed == 0
