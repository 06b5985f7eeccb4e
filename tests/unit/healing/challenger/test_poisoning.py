"""What the bench of lying sources says is what happened."""

from __future__ import annotations

import numpy as np
import pytest
from poisoning import ATTACKS, Attack, merged, poison
from readme import poisoning_table
from worlds import article_stream, ten_sources

from bento_selfheal.packaging.package import Package

TRUTH = np.random.default_rng(1).integers(0, 2, 9000)
SOURCES = ten_sources(9000, np.random.default_rng(2))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_who_lies_and_when(attack: Attack) -> None:
    """Nobody lies in the first third; later only the liars do, of the share that is said."""
    told = attack.told(TRUTH, SOURCES, np.random.default_rng(3))
    lies = told != TRUTH
    assert not lies[:3000].any()
    liar = np.isin(SOURCES, sorted(attack.names))
    assert not lies[~liar].any()
    part = {"random": 0.5, "flipped": 1.0, "targeted": TRUTH.mean()}[attack.kind]
    assert lies[6000:][liar[6000:]].mean() == pytest.approx(part, abs=0.06)
    ramp = part / 2 if attack.speed == "slowly" else part
    assert lies[3000:6000][liar[3000:6000]].mean() == pytest.approx(ramp, abs=0.06)
    if attack.kind == "targeted":
        assert (told[lies] == 0).all()


@pytest.mark.slow
def test_a_liar_is_caught_and_forgotten(package: Package) -> None:
    """One source that turns its labels round, after an honest third, is quarantined within ten
    batches and what it taught is forgotten; the figures say so, and no honest source goes."""
    stream = article_stream(42, 3.5, 100)
    [(name, row)] = poison(package, stream, [Attack("flipped", 1, "at once")], 42)
    assert name == "flipped, at once, 1 of 10"
    assert (row["caught"], row["honest_quarantined"], row["honest_quarantined_clean"]) == (1, 0, 0)
    [wait] = row["batches_to_quarantine"]
    assert 1 <= wait <= 10
    assert row["labels_forgotten"] >= row["lies_taken"] > 0
    assert row["served"] == pytest.approx(row["clean"] - row["loss"])
    assert row["served"] > row["frozen"]
    table = poisoning_table({"article": {name: merged([row, row])}})
    assert "| flipped, sudden, 1 of 10 | " in table
    assert f"| 2 of 2 | {wait} to {wait} | 0 |" in table
