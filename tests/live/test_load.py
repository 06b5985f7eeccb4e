"""A minute of load with heals forced back to back (issue 2, point 4)."""

from __future__ import annotations

from pathlib import Path

import pytest
from load import measure


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_prediction_fails_while_heals_run_back_to_back(
    home: Path,
) -> None:
    """In 60 s under forced heals, each promoted and swapped in, every prediction is answered."""
    loads = measure(home, rate=100, seconds=60, rounds=2)
    healed = loads["with_heals"]
    assert healed.heals >= 50
    assert healed.promotions == healed.heals
    assert len(healed.times) == 6000
    assert healed.failed == 0
    assert loads["without"].failed == 0
