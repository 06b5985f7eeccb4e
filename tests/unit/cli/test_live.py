"""What the demo prints at its end."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import packaged_stripes
from rich.console import Console

from bento_selfheal.cli.live import print_summary
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.driver import BatchReport, Summary

STATUS: dict[str, Any] = {
    "heals": 1, "promotions": 2, "rollbacks": 0, "serving": {"version": 1},
    "thresholds": Thresholds().model_dump(), "new_classes": {"classes": {}},
}  # fmt: skip
LABELS = np.arange(100) % 10 // 9
RIGHT = np.where(LABELS == 1, 0.9, 0.1).astype(np.float32)
WRONG = 1 - RIGHT


def test_many_classes(home: Path) -> None:
    """Of three classes neither recall of one nor alarms are told, but the mean of the recalls."""
    said = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    labels = np.array([0, 1, 2, 2])
    report = BatchReport(
        1, "HEALTHY", 0.0, 0, 1, labels=labels, frozen=np.roll(said, 1, axis=1), served=said,
        threshold=0.5, action="",
    )  # fmt: skip
    out = io.StringIO()
    summary = Summary([report], STATUS, packaged_stripes("three"))
    print_summary(summary, Console(file=out, width=100), 1)
    told = out.getvalue()
    [decided, _] = cells(told.splitlines(), "served (healed)")
    assert decided[:2] == ["0.7500", f"{2.5 / 3:.4f}"]
    assert "the baseline answers 0.0% of the rows right, and what was served 75.0%" in told
    assert not any(word in told for word in ("precision │", "alarms", "caught"))


def printed(package: Package, frozen_right: int, tail: int) -> list[str]:
    """The lines after four batches, of which the frozen model got the first few right."""
    reports = [
        BatchReport(
            n, "HEALTHY", 0.0, 0, 1, labels=LABELS, frozen=RIGHT if n <= frozen_right else WRONG,
            served=RIGHT, threshold=0.5, action="heal 1, promote 7" if n == 3 else "",
        )
        for n in range(1, 5)
    ]  # fmt: skip
    out = io.StringIO()
    print_summary(Summary(reports, STATUS, package), Console(file=out, width=80), tail, "frauds", 1)
    return out.getvalue().splitlines()


def cells(lines: list[str], name: str) -> list[list[str]]:
    """The cells of each table's row of this name."""
    return [[c.strip() for c in line.split("│")[2:-1]] for line in lines if f"│ {name}" in line]


@pytest.mark.parametrize(("tail", "named", "frozen"), [(50, "last 4", 0.5), (2, "last 2", 0.0)])
def test_the_last_batches_count_once(
    package: Package, tail: int, named: str, frozen: float
) -> None:
    """The last batches have rows of their own, which name as many batches as there are and count
    each of them once."""
    lines = printed(package, 2, tail)
    decided, _ = cells(lines, f"baseline, {named}")
    assert decided[0] == f"{frozen:.4f}"
    assert any("1 heal   2 promotions   0 rollbacks" in line for line in lines)


def test_a_desk_can_read_it(package: Package) -> None:
    """Beside each accuracy stands that of always answering the commonest class, and the last lines
    say in words what came of it."""
    lines = printed(package, 0, 2)
    [commonest] = cells(lines, "always the commonest class")
    assert commonest[0] == "0.9000"
    [_, frozen], [_, served] = (
        cells(lines, "baseline (as packaged)"),
        cells(lines, "served (healed)"),
    )
    assert (frozen[0], served[0]) == ("0.0000", "1.0000")
    assert frozen[-2] == served[-2]
    assert (frozen[-1], served[-1]) == ("0 of 40", "40 of 40")
    assert lines[-5:] == [
        "what happened",
        "the data changed after batch 1; healed models served from batch 4 on",
        "in the last 2 batches, the model as it was packaged would have been right on 0% of the "
        "rows, and what was served was right on 100%",
        f"with the same {served[-2]} alarms, the baseline catches 0 of 40 frauds, and what was "
        "served 40",
        "predictions went on all the while; 2 healed models went into service and none had to be "
        "taken back, and the packaged model itself is unchanged",
    ]


def test_without_scikit_learn(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo ends well without it, and says what it would show with it."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    lines = printed(package, 0, 2)
    _, served = cells(lines, "served (healed)")
    assert served[0] == served[1] == "-"
    assert served[-1] == "40 of 40"
    assert any("pip install 'bento-selfheal[backtest]'" in line for line in lines)
