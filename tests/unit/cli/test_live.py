"""What the demo prints at its end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bento_selfheal.cli.live import print_summary
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.driver import BatchReport, Summary

RIGHT, WRONG = Scores(0, 100, 0, 0), Scores(0, 0, 100, 0)


def report(number: int, shadow: Scores) -> BatchReport:
    return BatchReport(number, "HEALTHY", 0.0, 0, 1, champion=RIGHT, shadow=shadow, action="")


@pytest.mark.parametrize(
    ("tail", "named", "frozen"), [(50, "last 4 batches", 0.5), (2, "last 2 batches", 0.0)]
)
def test_the_last_batches_count_once(tail: int, named: str, frozen: float) -> None:
    """The last column names as many batches as there are, and counts each of them once."""
    reports = [report(n, RIGHT if n < 3 else WRONG) for n in range(1, 5)]
    status = {"heals": 1, "promotions": 2, "rollbacks": 0, "serving": {"version": 1}}
    out = io.StringIO()
    print_summary(Summary(reports, status), Console(file=out, width=200), tail)
    said = out.getvalue()
    assert named in said
    [line] = [line for line in said.splitlines() if "frozen (shadow)" in line]
    assert f"{frozen:.3f}" in line.split("│")[-2]
    assert "1 heal   2 promotions   0 rollbacks" in said
